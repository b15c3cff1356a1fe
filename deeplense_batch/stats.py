"""How sure a score is, and whether two differ: arrays in, numbers out.

References:
    Hanley and McNeil 1982, The meaning and use of the area under a ROC curve, Radiology 143, 29.
    DeLong, DeLong and Clarke-Pearson 1988, Comparing the areas under two or more correlated
    receiver operating characteristic curves, Biometrics 44, 837.
    Sun and Xu 2014, Fast implementation of DeLong's algorithm, IEEE SPL 21, 1389.
    Holm 1979, A simple sequentially rejective multiple test procedure, Scand. J. Stat. 6, 65.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata

__all__ = ["auc_standard_error", "delong", "delong_difference", "holm", "interval", "sign_p_value"]


def auc_standard_error(auc: float, positives: float, negatives: float) -> float:
    """Estimate the standard error of one AUC from the size of the sample (Hanley, McNeil 1982)."""
    both_positive = auc / (2 - auc) - auc**2
    both_negative = 2 * auc**2 / (1 + auc) - auc**2
    variance = auc * (1 - auc) + (positives - 1) * both_positive + (negatives - 1) * both_negative
    return math.sqrt(max(variance, 0.0) / (positives * negatives))


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


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values of several tests so that one false alarm in all is as rare as in one."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for place, number in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[number]))
        adjusted[number] = highest
    return adjusted


def interval(values: NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """The central interval of resampled scores, (B,), that are defined: their percentiles."""
    tail = (1 - level) / 2
    low, high = np.quantile(values[np.isfinite(values)], (tail, 1 - tail))
    return float(low), float(high)


def sign_p_value(differences: NDArray[np.float64]) -> float:
    """Two-sided p-value of resampled differences, (B,): twice the share on the rarer side of 0.

    One is added to the counts, so that B resamples never claim less than 2 / (B + 1).
    """
    rarer = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (len(differences) + 1))
