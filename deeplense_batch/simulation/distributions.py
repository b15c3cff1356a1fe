"""Probability distributions of the numbers and positions in a simulated scene.

A distribution is its parameters, its `range` (the least and the greatest value that it can give),
and `draw`, which takes values from a generator of random numbers.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "AnyDistribution",
    "Bounded",
    "Cartesian",
    "Distribution",
    "Drawable",
    "Fixed",
    "LogNormal",
    "LogUniform",
    "Normal",
    "NumberCounts",
    "Poisson",
    "Polar",
    "Position",
    "PowerLaw",
    "Rayleigh",
    "Uniform",
    "Within",
    "as_json",
    "draw_one",
    "rounded",
]


_TRIALS = 1000  # of which one at least has to lie within bounds


class Drawable(Protocol):
    """What numbers can be drawn from."""

    def draw(self, random: np.random.Generator, count: int) -> NDArray[np.float64]:
        """Values, (count,) float64."""


def _check(valid: bool, message: str) -> None:
    if not valid:
        raise ValueError(message)


class Bounded:
    """A distribution whose range is from `low` to `high`."""

    low: float
    high: float

    @property
    def range(self) -> tuple[float, float]:
        return self.low, self.high


@dataclass(frozen=True)
class Fixed:
    """Always the same; no random number is used up."""

    value: float

    @property
    def range(self) -> tuple[float, float]:
        return self.value, self.value

    def draw(self, random: np.random.Generator, count: int) -> NDArray[np.float64]:
        return np.full(count, self.value)


@dataclass(frozen=True)
class Uniform(Bounded):
    """Uniform in [low, high)."""

    low: float
    high: float

    def draw(self, random: np.random.Generator, count: int) -> NDArray[np.float64]:
        return random.uniform(self.low, self.high, count)


@dataclass(frozen=True)
class LogUniform(Bounded):
    """Uniform in the logarithm, from low to high."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check(self.low > 0, "low should be above 0")

    def draw(self, random: np.random.Generator, count: int) -> NDArray[np.float64]:
        return np.exp(random.uniform(math.log(self.low), math.log(self.high), count))


@dataclass(frozen=True)
class Normal:
    """Gaussian."""

    mean: float
    sd: float

    def __post_init__(self) -> None:
        _check(self.sd >= 0, "sd should be 0 or more")

    @property
    def range(self) -> tuple[float, float]:
        return -math.inf, math.inf

    def draw(self, random: np.random.Generator, count: int) -> NDArray[np.float64]:
        return random.normal(self.mean, self.sd, count)


@dataclass(frozen=True)
class PowerLaw(Bounded):
    """Density p(m) ~ m^exponent from low to high, by inversion; the exponent is not -1.

    Of exponent 1 from 0 on, as a radius it is uniform in area.
    """

    exponent: float
    low: float
    high: float

    def __post_init__(self) -> None:
        _check(
            self.exponent != -1 and (self.low > 0 or self.exponent > -1),
            "exponent should not be -1, nor below it with a low of 0",
        )

    @property
    def mean(self) -> float:
        """The mean value."""
        return self._integral(self.exponent + 1) / self._integral(self.exponent)

    def _integral(self, exponent: float) -> float:
        k = exponent + 1
        return (self.high**k - self.low**k) / k if k else math.log(self.high / self.low)

    def draw(self, random: np.random.Generator, count: int) -> NDArray[np.float64]:
        k = self.exponent + 1
        return (self.low**k + random.random(count) * (self.high**k - self.low**k)) ** (1 / k)


@dataclass(frozen=True)
class Rayleigh:
    """Modulus of two Gaussian components of width sigma, none above `most`; by inversion."""

    sigma: float
    most: float

    def __post_init__(self) -> None:
        _check(self.sigma > 0 and self.most > 0, "sigma and most should be above 0")

    @property
    def range(self) -> tuple[float, float]:
        return 0.0, self.most

    def draw(self, random: np.random.Generator, count: int) -> NDArray[np.float64]:
        inside = -math.expm1(-0.5 * (self.most / self.sigma) ** 2)
        return self.sigma * np.sqrt(-2 * np.log1p(-inside * random.random(count)))


@dataclass(frozen=True)
class Poisson:
    """A count of mean `mean`, cut to 1 and `most`; `most` is so large that few draws reach it."""

    mean: float
    most: int

    def __post_init__(self) -> None:
        _check(self.mean > 0 and self.most >= 1, "mean should be above 0, most 1 or more")

    @property
    def range(self) -> tuple[float, float]:
        return 1.0, float(self.most)

    def draw(self, random: np.random.Generator, count: int) -> NDArray[np.float64]:
        return np.clip(random.poisson(self.mean, count), 1, self.most).astype(np.float64)


Distribution = Fixed | Uniform | LogUniform | Normal | PowerLaw | Rayleigh | Poisson


@dataclass(frozen=True)
class LogNormal:
    """Its logarithm is Gaussian; `scatter` is the standard deviation of the natural one."""

    median: float
    scatter: float

    def __post_init__(self) -> None:
        _check(self.median > 0 and self.scatter >= 0, "median should be above 0, scatter 0 up")

    @property
    def range(self) -> tuple[float, float]:
        return 0.0, math.inf

    def draw(self, random: np.random.Generator, count: int) -> NDArray[np.float64]:
        return self.median * np.exp(random.normal(0.0, self.scatter, count))


@dataclass(frozen=True)
class NumberCounts:
    """Magnitudes of objects whose number grows as 10^(slope m), from `bright` to `faint`."""

    slope: float
    bright: float
    faint: float

    def __post_init__(self) -> None:
        _check(self.slope != 0, "slope should not be 0")

    @property
    def range(self) -> tuple[float, float]:
        return self.bright, self.faint

    def draw(self, random: np.random.Generator, count: int) -> NDArray[np.float64]:
        least, most = 10 ** (self.slope * self.bright), 10 ** (self.slope * self.faint)
        return np.log10(least + random.random(count) * (most - least)) / self.slope


@dataclass(frozen=True)
class Within(Bounded):
    """Another distribution, cut off: values below low or above high are drawn again."""

    of: Distribution | LogNormal
    low: float
    high: float

    def __post_init__(self) -> None:
        drawn = self.of.draw(np.random.default_rng(0), _TRIALS)
        inside = ((drawn >= self.low) & (drawn <= self.high)).any()
        _check(bool(inside), f"none of {_TRIALS} values is from low to high")

    def draw(self, random: np.random.Generator, count: int) -> NDArray[np.float64]:
        values = self.of.draw(random, count)
        while (outside := (values < self.low) | (values > self.high)).any():
            values[outside] = self.of.draw(random, int(outside.sum()))
        return values


AnyDistribution = Distribution | LogNormal | NumberCounts | Within


@dataclass(frozen=True)
class Cartesian:
    """A position by its coordinates, arcsec."""

    x: Distribution
    y: Distribution

    def draw(self, random: np.random.Generator, count: int) -> NDArray[np.float64]:
        """Positions, (count, 2) float64, arcsec."""
        return np.stack([self.x.draw(random, count), self.y.draw(random, count)], 1)


@dataclass(frozen=True)
class Polar:
    """A position by its distance from the centre, arcsec, and its direction, rad."""

    radius: Distribution
    angle: Distribution = Uniform(0.0, 2 * math.pi)

    def draw(self, random: np.random.Generator, count: int) -> NDArray[np.float64]:
        """Positions, (count, 2) float64, arcsec."""
        radius, angle = self.radius.draw(random, count), self.angle.draw(random, count)
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


Position = Cartesian | Polar


def draw_one(distribution: Drawable, random: np.random.Generator) -> float:
    """One number from a distribution."""
    return float(distribution.draw(random, 1)[0])


def rounded(values: object) -> NDArray[np.float64]:
    """Numbers as float32 holds them, in float64: the digits below depend on the machine."""
    return np.asarray(values, np.float32).astype(np.float64)


def as_json(part: object) -> Any:
    """Settings as JSON: a mapping for each dataclass, with its class where that can be drawn from.

    A distribution is marked by ``law``, a position by ``place``; a field is called what its
    metadata says, if it has a ``json`` name of its own, and is left out at its default if it is
    ``new``: sets that were made before it was there are described as they were.
    """
    if isinstance(part, tuple):
        return [as_json(item) for item in part]
    if isinstance(part, dict):
        return {name: as_json(item) for name, item in part.items()}
    if not dataclasses.is_dataclass(part):
        return part
    fields = {
        f.metadata.get("json", f.name): as_json(getattr(part, f.name))
        for f in dataclasses.fields(part)
        if not (f.metadata.get("new") and getattr(part, f.name) == f.default)
    }
    if not hasattr(part, "draw"):
        return fields
    kind = "place" if isinstance(part, Position) else "law"
    return {kind: type(part).__name__} | fields
