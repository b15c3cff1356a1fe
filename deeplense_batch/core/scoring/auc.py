"""Areas under ROC curves: their noise by the size of a sample, and DeLong's paired test.

References:
    Hanley and McNeil 1982, The meaning and use of the area under a ROC curve, Radiology 143, 29.
    DeLong, DeLong and Clarke-Pearson 1988, Comparing the areas under two or more correlated
    receiver operating characteristic curves, Biometrics 44, 837.
    Sun and Xu 2014, Fast implementation of DeLong's algorithm, IEEE SPL 21, 1389.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.stats import norm, rankdata

__all__ = ["auc_interval", "auc_standard_error", "delong", "delong_difference"]

_NEAR = 1e-9  # an area with no noise, 0 or 1, is not this near
_NORMAL = 1.959964  # half the width of 95% of a normal distribution, in sd


def auc_standard_error(auc: float, positives: float, negatives: float) -> float:
    """Estimate the standard error of one AUC from the size of the sample (Hanley, McNeil 1982)."""
    both_positive = auc / (2 - auc) - auc**2
    both_negative = 2 * auc**2 / (1 + auc) - auc**2
    variance = auc * (1 - auc) + (positives - 1) * both_positive + (negatives - 1) * both_negative
    return math.sqrt(max(variance, 0.0) / (positives * negatives))


def auc_interval(auc: float, positives: float, negatives: float) -> tuple[float, float]:
    """The 95% interval of one AUC from the size of the sample alone.

    Its ends are the areas from which the one found is just 1.96 of *their* standard errors away
    (a score interval; Newcombe 2006, Statistics in Medicine 25, 559). So it stays within 0 and 1,
    is not symmetric, and has a width where the two kinds are separated without a fault.
    """

    def excess(area: float) -> float:
        return (area - auc) ** 2 - (_NORMAL * auc_standard_error(area, positives, negatives)) ** 2

    low = brentq(excess, 0.0, auc - _NEAR) if auc > _NEAR and excess(0.0) > 0 else 0.0
    high = brentq(excess, auc + _NEAR, 1.0) if auc < 1 - _NEAR and excess(1.0) > 0 else 1.0
    return float(low), float(high)


def delong(
    positive: ArrayLike, scores: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Estimate AUCs on one sample and their covariance (DeLong et al. 1988), by midranks.

    Arguments:
        positive: Whether a sample is of the class, (N,) bool.
        scores: Of M models, (M, N); higher means more likely of the class.

    Returns:
        The areas, (M,), and their covariance, (M, M).

    Raises:
        ValueError: Fewer than two samples are of the class, or of another.
    """
    positive, values = np.asarray(positive, bool), np.atleast_2d(np.asarray(scores, np.float64))
    m, n = int(positive.sum()), int((~positive).sum())
    if min(m, n) < 2:
        raise ValueError(f"DeLong needs two samples of each kind or more, got {m} and {n}")
    ranks = rankdata(values, axis=1)
    # how often a sample beats the samples of the other kind, a tie counting one half
    wins = (ranks[:, positive] - rankdata(values[:, positive], axis=1)) / n
    losses = 1 - (ranks[:, ~positive] - rankdata(values[:, ~positive], axis=1)) / m
    covariance = np.atleast_2d(np.cov(wins)) / m + np.atleast_2d(np.cov(losses)) / n
    return wins.mean(axis=1), covariance


def delong_difference(
    positive: ArrayLike, one: ArrayLike, other: ArrayLike
) -> tuple[float, float, float]:
    """Test whether two models have the same AUC on one sample.

    Arguments:
        positive: Whether a sample is of the class, (N,) bool.
        one, other: Scores of the two models, (N,).

    Returns:
        AUC of the one less that of the other, its standard error, and the two-sided p-value;
        1 where the two never differ.

    Raises:
        ValueError: As `delong`.
    """
    areas, covariance = delong(positive, np.stack([np.asarray(one), np.asarray(other)]))
    difference = float(areas[0] - areas[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    error = math.sqrt(max(variance, 0.0))
    if error < 1e-12:  # rounding of equal numbers
        return difference, 0.0, 1.0 if abs(difference) < 1e-12 else 0.0
    return difference, error, 2 * float(norm.sf(abs(difference) / error))
