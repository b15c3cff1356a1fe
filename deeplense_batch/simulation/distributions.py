"""Laws from which a number or a place in a simulated scene is drawn.

A law is its parameters, the least and the most it can give, and a `draw` from the stream of random
numbers that is handed in.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "AnyDistribution",
    "Cartesian",
    "Distribution",
    "Fixed",
    "LogNormal",
    "LogUniform",
    "Normal",
    "NumberCounts",
    "Place",
    "Poisson",
    "Polar",
    "PowerLaw",
    "Rayleigh",
    "Uniform",
    "Within",
    "one",
    "plain",
    "rounded",
]


def _check(right: bool, sentence: str) -> None:
    if not right:
        raise ValueError(sentence)


class _Between:
    """A law that ends at two of its parameters."""

    low: float
    high: float

    @property
    def range(self) -> tuple[float, float]:
        return self.low, self.high


@dataclass(frozen=True)
class Fixed:
    """Always the same; takes nothing from the stream."""

    value: float

    @property
    def range(self) -> tuple[float, float]:
        return self.value, self.value

    def draw(self, random: np.random.Generator, count: int) -> NDArray[np.float64]:
        return np.full(count, self.value)


@dataclass(frozen=True)
class Uniform(_Between):
    """Uniform in [low, high)."""

    low: float
    high: float

    def draw(self, random: np.random.Generator, count: int) -> NDArray[np.float64]:
        return random.uniform(self.low, self.high, count)


@dataclass(frozen=True)
class LogUniform(_Between):
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
class PowerLaw(_Between):
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
    """A count of mean `mean`, at least 1 and at most `most`, which hardly any draw reaches."""

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

    @property
    def range(self) -> tuple[float, float]:
        return self.bright, self.faint

    def draw(self, random: np.random.Generator, count: int) -> NDArray[np.float64]:
        least, most = 10 ** (self.slope * self.bright), 10 ** (self.slope * self.faint)
        return np.log10(least + random.random(count) * (most - least)) / self.slope


@dataclass(frozen=True)
class Within(_Between):
    """A law of which only values from low to high are kept; others are drawn again."""

    of: Distribution | LogNormal
    low: float
    high: float

    def draw(self, random: np.random.Generator, count: int) -> NDArray[np.float64]:
        values = self.of.draw(random, count)
        while (outside := (values < self.low) | (values > self.high)).any():
            values[outside] = self.of.draw(random, int(outside.sum()))
        return values


# Those of the survey among them; a preset takes a `Distribution`.
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


Place = Cartesian | Polar


def one(law: AnyDistribution, random: np.random.Generator) -> float:
    """One number from a law."""
    return float(law.draw(random, 1)[0])


def rounded(values: object) -> NDArray[np.float64]:
    """Numbers as float32 holds them, in float64: what is below depends on the machine."""
    return np.asarray(values, np.float32).astype(np.float64)


def plain(part: object) -> Any:
    """Laws, and what is made of them, as JSON: a mapping each, laws and places with their name."""
    if isinstance(part, tuple):
        return [plain(each) for each in part]
    if not dataclasses.is_dataclass(part):
        return part
    fields = {f.name: plain(getattr(part, f.name)) for f in dataclasses.fields(part)}
    for kind, known in (("law", AnyDistribution), ("place", Place)):
        if isinstance(part, known):
            return {kind: type(part).__name__} | fields
    return fields
