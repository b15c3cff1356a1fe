"""Laws from which a number or a place in a simulated scene is drawn.

A law is its parameters, the least and the most it can give, and a `draw` from the stream of random
numbers that is handed in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Cartesian",
    "Fixed",
    "Law",
    "LogUniform",
    "Normal",
    "Place",
    "Poisson",
    "Polar",
    "PowerLaw",
    "Rayleigh",
    "Uniform",
]


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
class Uniform:
    """Uniform in [low, high)."""

    low: float
    high: float

    @property
    def range(self) -> tuple[float, float]:
        return self.low, self.high

    def draw(self, random: np.random.Generator, count: int) -> NDArray[np.float64]:
        return random.uniform(self.low, self.high, count)


@dataclass(frozen=True)
class LogUniform:
    """Uniform in the logarithm, from low to high."""

    low: float
    high: float

    @property
    def range(self) -> tuple[float, float]:
        return self.low, self.high

    def draw(self, random: np.random.Generator, count: int) -> NDArray[np.float64]:
        return np.exp(random.uniform(math.log(self.low), math.log(self.high), count))


@dataclass(frozen=True)
class Normal:
    """Gaussian."""

    mean: float
    sd: float

    @property
    def range(self) -> tuple[float, float]:
        return -math.inf, math.inf

    def draw(self, random: np.random.Generator, count: int) -> NDArray[np.float64]:
        return random.normal(self.mean, self.sd, count)


@dataclass(frozen=True)
class PowerLaw:
    """Density p(m) ~ m^exponent from low to high, by inversion; the exponent is not -1.

    Of exponent 1 from 0 on, as a radius it is uniform in area.
    """

    exponent: float
    low: float
    high: float

    @property
    def range(self) -> tuple[float, float]:
        return self.low, self.high

    def draw(self, random: np.random.Generator, count: int) -> NDArray[np.float64]:
        k = self.exponent + 1
        return (self.low**k + random.random(count) * (self.high**k - self.low**k)) ** (1 / k)


@dataclass(frozen=True)
class Rayleigh:
    """Modulus of two Gaussian components of width sigma, none above `most`; by inversion."""

    sigma: float
    most: float

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

    @property
    def range(self) -> tuple[float, float]:
        return 1.0, float(self.most)

    def draw(self, random: np.random.Generator, count: int) -> NDArray[np.float64]:
        return np.clip(random.poisson(self.mean, count), 1, self.most).astype(np.float64)


Law = Fixed | Uniform | LogUniform | Normal | PowerLaw | Rayleigh | Poisson


@dataclass(frozen=True)
class Cartesian:
    """A position by its coordinates, arcsec."""

    x: Law
    y: Law

    def draw(self, random: np.random.Generator, count: int) -> NDArray[np.float64]:
        """Positions, (count, 2) float64, arcsec."""
        return np.stack([self.x.draw(random, count), self.y.draw(random, count)], 1)


@dataclass(frozen=True)
class Polar:
    """A position by its distance from the centre, arcsec, and its direction, rad."""

    radius: Law
    angle: Law = Uniform(0.0, 2 * math.pi)

    def draw(self, random: np.random.Generator, count: int) -> NDArray[np.float64]:
        """Positions, (count, 2) float64, arcsec."""
        radius, angle = self.radius.draw(random, count), self.angle.draw(random, count)
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


Place = Cartesian | Polar
