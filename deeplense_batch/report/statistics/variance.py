"""The noise of mean scores and of their differences, by variance components.

A test score has two kinds of noise. The *test sample*: other test images would give another score,
and move all runs together, since all are tested on the same images. The *training*: another seed
gives another network. In the words of multi-reader, multi-case studies (Obuchowski and Rockette
1995) seeds are readers nested in models, and test images are cases. The mean over the n seeds of
model A differs from that of B with the variance

    V = C_AA + C_BB - 2 C_AB + s_A^2 / n_A + s_B^2 / n_B

where C is the covariance, over draws of the test sample, of two *different* runs, and s^2 the
variance of a model's score over its seeds. What the test sample does to a single run alone is in
s^2 already, and therefore not in C. With few seeds s^2 of one model says little, so it is pooled
over all models of a comparison; a model whose spread is far beyond that of the others keeps its
own. Scores between 0 and 1 spread less the nearer they are to an end; what is pooled there is the
spread of their logits, s / (m (1 - m)) of a model with the mean m. The difference over sqrt(V) is
compared with Student's t, with Satterthwaite's degrees of freedom; one interval and one p-value
follow.

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
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
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
_UNLIKE = 0.01  # level at which one model's spread is not that of the others
_MOST_SEEDS = 1000
_NO_VARIANCE = 1e-18  # of rounding
_NO_ROOM = 1e-12

Array = NDArray[np.float64]


class SampleNoise(NamedTuple):
    """How scores of runs vary together over draws of the test sample."""

    single: Array  # (M,) variance of a run, the mean over a model's runs
    within: Array  # (M,) covariance of two runs of a model; NaN where it has one
    between: Array  # (M, M) covariance of a run of one model and one of another

    @classmethod
    def of(cls, resampled: Sequence[ArrayLike]) -> SampleNoise:
        """From scores on the same resamples, (runs, B) of each of M models."""
        runs = [np.asarray(values, np.float64) for values in resampled]
        centred = [values - values.mean(axis=1, keepdims=True) for values in runs]
        means = np.stack([values.mean(axis=0) for values in centred])
        between = means @ means.T / (means.shape[1] - 1)
        single = np.array([values.var(axis=1, ddof=1).mean() for values in runs])
        counts = np.array([len(values) for values in runs], np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            within = (counts * np.diag(between) - single) / (counts - 1)
        return cls(single, np.where(counts > 1, within, np.nan), between)


class Estimates(NamedTuple):
    """Numbers of M models, or their differences to one of them, (M,) each."""

    value: Array
    error: Array  # standard error
    freedom: Array  # degrees of freedom
    sample_sd: Array  # of it the noise of the test sample
    training_sd: Array  # and that of the seeds; NaN where nothing is known of it

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

    @property
    def visible(self) -> Array:
        """The least true number that is seen with a chance of `POWER`."""
        return (t.ppf(1 - LEVEL / 2, self.freedom) + t.ppf(POWER, self.freedom)) * self.error


@dataclass(frozen=True)
class _Training:
    """The variance of a model's score over its seeds."""

    variance: Array  # (M,); NaN where nothing is known
    freedom: Array  # (M,) degrees of freedom of the estimate
    own: NDArray[np.bool_]  # (M,) whether it is the model's own, not the pooled one


class Components:
    """The noise of a score of several models.

    Arguments:
        scores: One for each run, of each of M models.
        noise: Of the test sample.
        freedom: Degrees of freedom of that noise: about the number of test samples.
        bounded: Whether the score lies between 0 and 1.
    """

    def __init__(
        self,
        scores: Sequence[ArrayLike],
        noise: SampleNoise,
        freedom: float = math.inf,
        *,
        bounded: bool = False,
    ) -> None:
        values = [np.asarray(own, np.float64) for own in scores]
        self.counts = np.array([len(own) for own in values], np.float64)
        self._means = np.array([own.mean() for own in values])
        scales = self._means * (1 - self._means) if bounded else np.ones(len(values))
        self._training = _training(values, scales)
        self._freedom = freedom
        # Of the test sample, what two runs of a model share. A model of one run is taken to share
        # as much as the others; where no model has two, a run's whole noise is that of its model.
        several = self.counts > 1
        alone = (noise.single - noise.within)[several]
        shared = noise.single - (np.average(alone, weights=self.counts[several] - 1)
                                 if several.any() else 0.0)  # fmt: skip
        self._common = np.where(several, noise.within, shared)
        self._between = noise.between

    @property
    def seed_variance(self) -> Array:
        """Of a single run over seeds, (M,); NaN where nothing is known."""
        return self._training.variance

    @property
    def own_spread(self) -> NDArray[np.bool_]:
        """Models whose spread over seeds is far beyond that of the others, (M,)."""
        return self._training.own

    def means(self) -> Estimates:
        """The mean score of each model."""
        seeds = self._of_seeds()
        return self._estimates(self._means, self._common, [(seeds, self._training.freedom)])

    def differences(self, to: int = 0) -> Estimates:
        """The mean score of each model less that of the one numbered `to`; of this one, 0."""
        common = self._common + self._common[to] - 2 * self._between[:, to]
        seeds, freedom, own = self._of_seeds(), self._training.freedom, self._training.own
        # Pooled parts of the two are one estimate, whose errors add up; others are independent.
        pooled = np.where(own, 0.0, seeds) + np.where(own[to], 0.0, seeds[to])
        parts = [
            (pooled, np.where(own, freedom[to], freedom)),
            (np.where(own, seeds, 0.0), freedom),
            (np.where(own[to], seeds[to], 0.0), np.broadcast_to(freedom[to], freedom.shape)),
        ]
        found = self._estimates(self._means - self._means[to], common, parts)
        for values, itself in ((found.value, 0.0), (found.error, 0.0), (found.sample_sd, 0.0)):
            values[to] = itself
        return found

    def _of_seeds(self) -> Array:
        return self._training.variance / self.counts

    def _estimates(
        self, value: Array, common: Array, parts: Sequence[tuple[Array, Array]]
    ) -> Estimates:
        common = np.maximum(common, 0.0)
        seeds = sum((variance for variance, _ in parts), np.zeros_like(value))
        known = np.nan_to_num(seeds)
        total = common + known
        doubt = common**2 / self._freedom + sum(
            np.nan_to_num(variance) ** 2 / np.maximum(freedom, 1.0) for variance, freedom in parts
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            freedom = np.where(doubt > _NO_VARIANCE**2, total**2 / doubt, math.inf)
        return Estimates(value, np.sqrt(total), freedom, np.sqrt(common), np.sqrt(seeds))


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
    difference: float, sample_variance: float, seed_variance: float, models: int = 2
) -> int | None:
    """The number of seeds of each model with which a true difference is resolved in `POWER`.

    Arguments:
        difference: True one of two models.
        sample_variance: Of the difference, by the test sample.
        seed_variance: Of a single run over seeds.
        models: Over which that is pooled.

    Returns:
        2 or more; None where more seeds than 1,000 would not do: the test sample is too small.
    """

    def power(seeds: int) -> float:
        of_seeds = 2 * seed_variance / seeds
        variance, own = sample_variance + of_seeds, models * (seeds - 1)
        freedom = min(variance**2 / (of_seeds**2 / own), 1e6) if of_seeds else 1e6
        noncentral = abs(difference) / math.sqrt(variance)
        return float(nct.sf(t.ppf(1 - LEVEL / 2, freedom), freedom, noncentral))

    if not sample_variance + seed_variance:
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


def _training(scores: Sequence[Array], scales: Array) -> _Training:
    """Pool the spread over seeds, in units of `scales`; the widest is left out if unlike the rest.

    A model at an end of its scale, where that has no room, says nothing of the others.
    """
    counts = np.array([len(own) for own in scores])
    room = scales > _NO_ROOM
    freedom = np.where(room, np.maximum(counts - 1, 0), 0).astype(np.float64)
    own_squares = np.array([((own - own.mean()) ** 2).sum() for own in scores])
    squares = np.where(room, own_squares / np.where(room, scales, 1.0) ** 2, 0.0)
    own = np.zeros(len(scores), bool)
    while (widest := _unlike(squares, freedom, own)) is not None:
        own[widest] = True
    pool, free = squares[~own].sum(), freedom[~own].sum()
    pooled = pool / free if free else math.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.where(own, squares / freedom, pooled) * scales**2
    return _Training(variance, np.where(own, freedom, free), own)


def _unlike(squares: Array, freedom: Array, own: NDArray[np.bool_]) -> int | None:
    """The pooled model whose spread is unlike that of the others: an F test, Bonferroni."""
    pooled = np.flatnonzero(~own & (freedom > 0))
    if len(pooled) < 3:  # of two none is the odd one
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        widest = pooled[np.argmax(squares[pooled] / freedom[pooled])]
        rest = squares[pooled].sum() - squares[widest]
        free = freedom[pooled].sum() - freedom[widest]
        ratio = squares[widest] / freedom[widest] / (rest / free)
    p = f_distribution.sf(ratio, freedom[widest], free) * len(pooled)
    return int(widest) if p < _UNLIKE else None
