"""Probability distributions that only the survey needs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.simulation.distributions import Bounded, Distribution

__all__ = ["AnyDistribution", "LogNormal", "NumberCounts", "Within"]


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
class Within(Bounded):
    """Another distribution, cut off: values below low or above high are drawn again."""

    of: Distribution | LogNormal
    low: float
    high: float

    def draw(self, random: np.random.Generator, count: int) -> NDArray[np.float64]:
        values = self.of.draw(random, count)
        while (outside := (values < self.low) | (values > self.high)).any():
            values[outside] = self.of.draw(random, int(outside.sum()))
        return values


AnyDistribution = Distribution | LogNormal | NumberCounts | Within
