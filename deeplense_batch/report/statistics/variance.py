"""The noise of mean scores and of their differences, by variance components.

A test score has two kinds of noise. The *test sample*: other test images would give another score,
and move all runs together, since all are tested on the same images. The *training*: another seed
gives another network. In the words of multi-reader, multi-case studies (Obuchowski and Rockette
1995) seeds are readers nested in models, and test images are cases. The mean over the n seeds of
model A differs from that of B with the variance

    V = var*(A - B) + t_A^2 / n_A + t_B^2 / n_B        t^2 = s^2 - p^2

where var* is that of the difference over resamples of the test sample. s^2 is the variance of a
model's score over its seeds; p^2, the part of it that the test sample does to a single run alone,
is in var* already: the variance of a run over resamples less the covariance of two. What is left,
t^2, is the training's. With few seeds it says little of one model, so it is pooled over all models
of a comparison, in units of the room that a score has: m (1 - m) of a share whose mean is m, 1 - m
of an R2. So no interval is narrower than the test sample makes it, and a poor model does not make
a good one look uncertain, or the other way round. A model whose spread is far beyond that of the
others keeps its own. The difference over sqrt(V) is compared with Student's t, with
Satterthwaite's degrees of freedom; one interval and one p-value follow.

With one run of every model nothing is known of the training: V is then that of the test sample,
and speaks of these networks, not of their recipes.

References:
    Obuchowski and Rockette 1995, Communications in Statistics B 24, 285; Hillis 2007, Statistics
    in Medicine 26, 596 (the degrees of freedom); Satterthwaite 1946, Biometrics Bulletin 2, 110.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import f as f_distribution
from scipy.stats import nct, t

__all__ = [
    "LEVEL",
    "POWER",
    "Components",
    "Estimates",
    "SampleNoise",
    "bounded_interval",
    "holm",
    "seeds_for",
]

LEVEL = 0.05  # of the tests; the intervals cover 1 - LEVEL
POWER = 0.8  # the chance to resolve a difference that "could be seen"
_UNLIKE = 0.001  # level at which one model's spread is not that of the others
_MOST_SEEDS = 1000
_MOST_FREEDOM = 1e5  # of a t that differs from a normal one
_NO_VARIANCE = 1e-18  # of rounding
_NO_ROOM = 1e-12
_ITERATIONS = 12

Array = NDArray[np.float64]


class SampleNoise(NamedTuple):
    """How scores vary together over draws of the test sample."""

    means: Array  # (M, M) covariance of the mean scores of M models
    private: Array  # (M,) variance of a run that no other run shares; NaN where a model has one

    @classmethod
    def of(cls, resampled: Sequence[ArrayLike]) -> SampleNoise:
        """From scores on the same resamples, (runs, B) of each of M models.

        A resample in which some score is not defined, such as R2 where all truths are equal, is
        left out.
        """
        runs = [np.asarray(values, np.float64) for values in resampled]
        defined = np.isfinite(np.concatenate(runs)).all(axis=0)
        runs = [values[:, defined] for values in runs]
        means = np.atleast_2d(np.cov(np.stack([values.mean(axis=0) for values in runs])))
        single = np.array([values.var(axis=1, ddof=1).mean() for values in runs])
        counts = np.array([len(values) for values in runs], np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            private = (single - np.diag(means)) * counts / (counts - 1)
        return cls(means, np.where(counts > 1, np.maximum(private, 0.0), np.nan))


class Estimates(NamedTuple):
    """Numbers of M models, or their differences to one of them, (M,) each."""

    value: Array
    error: Array  # standard error
    freedom: Array  # degrees of freedom
    sample_sd: Array  # of it the noise of the test sample
    training_sd: Array  # and that of the training; NaN where nothing is known of it

    @property
    def half(self) -> Array:
        """Half the width of the interval."""
        return t.ppf(1 - LEVEL / 2, self.freedom) * self.error

    @property
    def p_value(self) -> Array:
        """Two-sided, that the true number is 0; 1 where it is 0 without any noise."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(self.value == 0, 0.0, np.abs(self.value) / self.error)
        return 2 * t.sf(ratio, self.freedom)

    def visible(self, tests: int = 1) -> Array:
        """The least true number that is seen with a chance of `POWER`, as one of so many tests."""
        return self.error * [_seen(float(freedom), LEVEL / tests) for freedom in self.freedom]


@dataclass(frozen=True)
class _Training:
    """The variance by the training, in units of each score's room squared."""

    value: Array  # (M,); NaN where nothing is known
    doubt: Array  # (M,) half the variance of that estimate
    own: NDArray[np.bool_]  # (M,) whether it is the model's own, not the pooled one


class Components:
    """The noise of a score of several models.

    Arguments:
        scores: One for each run, of each of M models.
        noise: Of the test sample.
        freedom: Degrees of freedom of that noise, about the number of test samples: of all
            models, or of each, (M,).
        room: How far each mean score is from where it cannot vary, (M,); by default 1.
    """

    def __init__(
        self,
        scores: Sequence[ArrayLike],
        noise: SampleNoise,
        freedom: ArrayLike = math.inf,
        room: ArrayLike | None = None,
    ) -> None:
        values = [np.asarray(own, np.float64) for own in scores]
        self._counts = np.array([len(own) for own in values], np.float64)
        self._means = np.array([own.mean() for own in values])
        self._room = np.ones(len(values)) if room is None else np.asarray(room, np.float64)
        self._training = _training(values, noise.private, self._room)
        self._noise, self._freedom = noise, np.asarray(freedom, np.float64)

    @property
    def training_variance(self) -> Array:
        """Of a single run, by its training, (M,); NaN where nothing is known."""
        return self._training.value * self._room**2

    @property
    def own_spread(self) -> NDArray[np.bool_]:
        """Models whose spread over seeds is far beyond that of the others, (M,)."""
        return self._training.own

    def means(self) -> Estimates:
        """The mean score of each model."""
        share = self._room**2 / self._counts
        return self._estimates(
            self._means, np.diag(self._noise.means), share * self._training.value,
            share**2 * self._training.doubt,
        )  # fmt: skip

    def differences(self, to: int = 0) -> Estimates:
        """The mean score of each model less that of the one numbered `to`; of this one, 0."""
        covariance, own = self._noise.means, self._training.own
        sample = np.diag(covariance) + covariance[to, to] - 2 * covariance[:, to]
        shares = self._room**2 / self._counts
        parts = shares * self._training.value + shares[to] * self._training.value[to]
        # Two parts that are pooled are one estimate, whose errors add up; others are independent.
        together = (shares + shares[to]) ** 2 * self._training.doubt
        apart = shares**2 * self._training.doubt + shares[to] ** 2 * self._training.doubt[to]
        doubt = np.where(own | own[to], apart, together)
        found = self._estimates(self._means - self._means[to], sample, parts, doubt)
        for values in found[:2] + found[3:]:
            values[to] = 0.0
        return found

    def with_more_seeds(self, model: int, to: int = 0) -> tuple[float, float]:
        """What of the variance of a difference more seeds leave, and what they divide.

        Returns:
            Of the test sample, with very many seeds; and of one seed of each of the two, which
            those are to be divided by.
        """
        pair, several = [model, to], self._counts > 1
        typical = np.average(self._noise.private[several] / self._room[several].clip(_NO_ROOM))
        private = np.where(several, self._noise.private, typical * self._room)[pair]
        covariance = self._noise.means[np.ix_(pair, pair)]
        sample = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
        left = max(sample - float((private / self._counts[pair]).sum()), 0.0)
        return left, float((private + self.training_variance[pair]).sum())

    def _estimates(
        self, value: Array, sample: Array, training: Array, training_doubt: Array
    ) -> Estimates:
        sample = np.maximum(sample, 0.0)
        total = sample + np.nan_to_num(training)
        doubt = sample**2 / self._freedom + np.nan_to_num(training_doubt)
        with np.errstate(divide="ignore", invalid="ignore"):
            freedom = np.where(doubt > _NO_VARIANCE**2, total**2 / doubt, math.inf)
        freedom = np.maximum(freedom, 1.0)
        return Estimates(value, np.sqrt(total), freedom, np.sqrt(sample), np.sqrt(training))


def bounded_interval(estimate: float, half: float) -> tuple[float, float] | None:
    """The interval of a score between 0 and 1, on the scale of its logit, where it is symmetric.

    Near 1 a symmetric interval of the score itself covers too little, and passes 1. None at 0 and
    1, where the scale has no place for it.

    Arguments:
        estimate: The score.
        half: Half the width of its interval, as if it were symmetric.
    """
    if not 0 < estimate < 1:
        return None
    middle, width = logit(estimate), half / (estimate * (1 - estimate))
    return float(expit(middle - width)), float(expit(middle + width))


def seeds_for(
    difference: float, left: float, of_one: float, models: int = 2, tests: int = 1
) -> int | None:
    """The number of seeds of each model with which a true difference is resolved in `POWER`.

    Arguments:
        difference: True one of two models.
        left: Its variance with very many seeds (`Components.with_more_seeds`).
        of_one: Its variance by the seeds, one of each of the two.
        models: Over which that is pooled.
        tests: Differences that are tested together.

    Returns:
        2 or more; None where more seeds than 1,000 would not do: the test sample is too small.
    """

    def power(seeds: int) -> float:
        of_seeds = of_one / seeds
        variance, own = left + of_seeds, models * (seeds - 1)
        freedom = variance**2 / (of_seeds**2 / own) if of_seeds else math.inf
        return _power(abs(difference) / math.sqrt(variance), freedom, LEVEL / tests)

    if not left + of_one:
        return 2 if difference else None
    low, high = 2, _MOST_SEEDS
    if not power(high) >= POWER:
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= POWER else (middle + 1, high)
    return low


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values of several tests so that one false alarm in all is as rare as in one.

    Holm 1979, A simple sequentially rejective multiple test procedure, Scand. J. Stat. 6, 65.
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def _power(noncentrality: float, freedom: float, level: float) -> float:
    """The chance that a t of a true value, in standard errors, passes a two-sided test."""
    freedom = min(freedom, _MOST_FREEDOM)
    return float(nct.sf(t.ppf(1 - level / 2, freedom), freedom, noncentrality))


@lru_cache(maxsize=4096)
def _seen(freedom: float, level: float) -> float:
    """The true value, in standard errors, that passes a test with a chance of `POWER`."""
    far = 2 * float(t.ppf(1 - level / 2, min(freedom, _MOST_FREEDOM))) + 2
    while _power(far, freedom, level) < POWER:
        far *= 2
    return float(brentq(lambda value: _power(value, freedom, level) - POWER, 0.0, far))


def _training(scores: Sequence[Array], private: Array, room: Array) -> _Training:
    """Pool what the training does; the widest spread is left out where it is unlike the rest.

    A model that has no room says nothing of the others.
    """
    counts = np.array([len(own) for own in scores])
    has_room = room > _NO_ROOM
    free = np.where(has_room, counts - 1, 0).astype(np.float64)
    unit = np.where(has_room, room, 1.0) ** 2
    squares = np.array([((own - own.mean()) ** 2).sum() for own in scores]) / unit
    alone = np.nan_to_num(private) / unit
    own = np.zeros(len(scores), bool)
    while (widest := _unlike(squares, free, alone, own)) is not None:
        own[widest] = True
    value, doubt = _pooled(squares, free, alone, ~own)
    if not (counts > 1).any():
        value = math.nan
    values, doubts = np.full(len(scores), value), np.full(len(scores), doubt)
    for i in np.flatnonzero(own):
        values[i], doubts[i] = _pooled(squares, free, alone, np.arange(len(scores)) == i)
    return _Training(values, doubts, own)


def _pooled(
    squares: Array, free: Array, alone: Array, chosen: NDArray[np.bool_]
) -> tuple[float, float]:
    """The variance by the training over some models, and half the variance of this estimate.

    By maximum likelihood: a model whose private noise is large beside its room counts for little.
    """
    chosen = chosen & (free > 0)
    squares, free, alone = squares[chosen], free[chosen], alone[chosen]
    if not len(free):
        return 0.0, 0.0
    value = max(float((squares - free * alone).sum() / free.sum()), 0.0)
    for _ in range(_ITERATIONS):
        weights = 1 / np.maximum(alone + value, _NO_VARIANCE) ** 2
        value = max(float(weights @ (squares - free * alone) / (weights @ free)), 0.0)
    return value, float(1 / (free / np.maximum(alone + value, _NO_VARIANCE) ** 2).sum())


def _unlike(squares: Array, free: Array, alone: Array, own: NDArray[np.bool_]) -> int | None:
    """The pooled model whose spread is unlike that of the others: an F test, Bonferroni."""
    pooled = np.flatnonzero(~own & (free > 0))
    if len(pooled) < 3:  # of two none is the odd one
        return None
    expected = alone + _pooled(squares, free, alone, ~own)[0]
    ratios = squares[pooled] / (free * np.maximum(expected, _NO_VARIANCE))[pooled]
    widest = int(pooled[np.argmax(ratios)])
    rest = ~own & (np.arange(len(own)) != widest)
    expected_here = alone[widest] + _pooled(squares, free, alone, rest)[0]
    if expected_here < _NO_VARIANCE:
        return None
    ratio = squares[widest] / free[widest] / expected_here
    p = f_distribution.sf(ratio, free[widest], free[rest].sum()) * len(pooled)
    return widest if p < _UNLIKE else None
