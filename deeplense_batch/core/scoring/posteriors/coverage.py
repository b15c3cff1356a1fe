"""Whether credible intervals hold the truth as often as they say.

Where a posterior is right, the probability below the truth is uniform over images (its *rank*;
Talts et al. 2018, arXiv:1804.06788); so is the probability inside the central interval that ends
at the truth, |2 rank - 1|, and the probability nearer to a random point than the truth is (TARP;
Lemos et al. 2023, arXiv:2302.03026), which also sees wrong correlations between the numbers.

The *coverage* at level c is the share of images for which such a probability is c at most: of a
right posterior c, within the noise of N images.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta

__all__ = ["BINS", "central", "coverage", "coverage_band", "coverage_error", "error_floor"]

BINS = 16  # of a histogram of ranks
_LEVELS = np.arange(0.05, 0.96, 0.05)  # at which an error is measured: 19
_SIMULATED = 4000

Array = NDArray[np.float64]


def central(ranks: ArrayLike) -> Array:
    """The probability inside the central interval that ends at the truth, of ranks in [0, 1]."""
    return np.abs(2 * np.asarray(ranks, np.float64) - 1)


def coverage(probabilities: ArrayLike, levels: ArrayLike) -> Array:
    """The share of probabilities, (N,) in [0, 1], that are at most each level, (L,)."""
    ordered = np.sort(np.asarray(probabilities, np.float64))
    return np.searchsorted(ordered, np.asarray(levels), "right") / len(ordered)


def coverage_band(levels: ArrayLike, images: int, width: float = 0.95) -> tuple[Array, Array]:
    """Where the coverage of a right posterior lies, at each level alone.

    The k-th smallest of N uniform numbers has the distribution Beta(k, N + 1 - k); a share of N
    images is binomial, and its quantiles are those of the same family.

    Arguments:
        levels: (L,).
        images: N.
        width: The probability of the band.

    Returns:
        Its lower and its upper end, (L,).
    """
    tail, expected = (1 - width) / 2, np.asarray(levels, np.float64) * images
    other = images - expected
    low, high = (beta.ppf(q, expected + 0.5, other + 0.5) for q in (tail, 1 - tail))
    return low, high


def coverage_error(probabilities: ArrayLike) -> float:
    """The expected calibration error: the mean |coverage - level| over levels 0.05, 0.1 ... 0.95.

    Arguments:
        probabilities: Uniform where the posterior is right, (N,).
    """
    return float(np.abs(coverage(probabilities, _LEVELS) - _LEVELS).mean())


def error_floor(images: int) -> float:
    """The error below which a right posterior stays in 95 of 100 sets of so many images.

    By the limit of many images: the differences at the levels are normal, with the covariance
    (min(a, b) - a b) / N of an empirical distribution (a Brownian bridge).
    """
    return _bridge() / float(np.sqrt(images))


@functools.cache
def _bridge() -> float:
    a, b = np.meshgrid(_LEVELS, _LEVELS)
    random = np.random.default_rng(0)
    zero = np.zeros(len(_LEVELS))
    drawn = random.multivariate_normal(zero, np.minimum(a, b) - a * b, _SIMULATED)
    return float(np.quantile(np.abs(drawn).mean(1), 0.95))
