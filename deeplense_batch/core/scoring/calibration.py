"""Whether the probabilities of a classifier are honest, and how to make them so."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, minimize
from scipy.special import expit, logit

from deeplense_batch.core.scoring.metrics import class_numbers, log_softmax, softmax
from deeplense_batch.core.scoring.proportions import wilson

__all__ = [
    "RareBins",
    "bins_of",
    "calibration_error_floor",
    "expected_calibration_error",
    "log_odds_of",
    "rare_edges",
    "rare_reliability",
    "reliability",
    "slope_and_offset",
    "temperature",
]

_TEMPERATURES = (0.05, 20.0)  # beyond, the samples say nothing: all are right, or none is
_NUMBERS_AT_ONCE = 2_000_000  # drawn, so that memory does not grow with the samples


def temperature(targets: ArrayLike, logits: ArrayLike) -> float:
    """Fit the number T by which logits are divided so that their probabilities are honest.

    T minimises the negative log-likelihood (Guo et al. 2017, arXiv:1706.04599), which is convex in
    1 / T: its slope there, the mean logit expected less the mean logit of the truth, has one zero.

    Arguments:
        targets: True class numbers, (N,) integers in [0, K).
        logits: Outputs, (N, K).

    Returns:
        T, in [0.05, 20]; above 1 where the network is too sure of itself.

    Raises:
        ValueError: There is no sample, the arrays do not fit together, or a logit is not finite.
    """
    values = log_softmax(logits)
    targets = class_numbers(targets, values.shape[1], "targets")
    if not len(targets) or len(values) != len(targets) or not np.isfinite(values).all():
        raise ValueError(
            f"temperature: expected finite logits of {len(targets)} samples, not none"
        )
    truth = values[np.arange(len(targets)), targets].mean()

    def slope(inverse: float) -> float:
        return float((softmax(values * inverse) * values).sum(1).mean() - truth)

    least, most = 1 / _TEMPERATURES[1], 1 / _TEMPERATURES[0]
    if slope(most) <= 0:
        return _TEMPERATURES[0]
    if slope(least) >= 0:
        return _TEMPERATURES[1]
    return 1 / float(brentq(slope, least, most, xtol=1e-10))


def slope_and_offset(positive: ArrayLike, log_odds: ArrayLike) -> tuple[float, float]:
    """Fit slope and offset of log odds, so that the probabilities of one class of two are honest.

    They minimise the negative log-likelihood, as of Platt (1999): a positive has the target
    (n + 1) / (n + 2), one of m others 1 / (m + 2), which is finite also where a threshold tells
    all apart. The probabilities then sum to the number of positives, to within one.

    Arguments:
        positive: Whether a sample is of the class, (N,).
        log_odds: The logarithm of p / (1 - p), (N,).

    Returns:
        Slope, in [0.05, 20], and offset: honest log odds are slope times log odds plus offset,
        where positives have the share that they have here.

    Raises:
        ValueError: All samples are of one class, or a number is not finite.
    """
    is_one, values = np.asarray(positive, bool), np.asarray(log_odds, np.float64)
    ones, others = int(is_one.sum()), int((~is_one).sum())
    if not (ones and others and is_one.shape == values.shape and np.isfinite(values).all()):
        raise ValueError("slope and offset: expected finite log odds of samples of both classes")
    target = np.where(is_one, (ones + 1) / (ones + 2), 1 / (others + 2))
    middle, spread = values.mean(), values.std() or 1.0
    scaled = (values - middle) / spread

    def loss(fitted: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = fitted[0] * scaled + fitted[1]
        off = expit(z) - target
        gradient = np.array([(off * scaled).mean(), off.mean()])
        return float((np.logaddexp(0, z) - target * z).mean()), gradient

    bounds = [(spread / _TEMPERATURES[1], spread / _TEMPERATURES[0]), (None, None)]
    start = np.array([spread, logit(target.mean())])
    options = {"ftol": 1e-14, "gtol": 1e-9, "maxiter": 500}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    slope = float(found.x[0] / spread)
    return slope, _offset(slope * values, float(target.mean()))


def _offset(log_odds: NDArray[np.float64], mean: float) -> float:
    """What is added to log odds so that the mean of their probabilities is this one."""
    centre = float(logit(mean))
    least, most = centre - float(log_odds.max()), centre - float(log_odds.min())
    return float(brentq(lambda b: expit(log_odds + b).mean() - mean, least - 1, most + 1))


def log_odds_of(probability: float) -> float:
    """The logarithm of p / (1 - p), p being in (0, 1)."""
    return float(logit(probability))


def reliability(
    targets: ArrayLike, probabilities: ArrayLike, bins: int = 15
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Hold how sure a classifier is of its answers against how often they are right.

    Arguments:
        targets: True class numbers, (N,) integers in [0, K).
        probabilities: (N, K), rows of sum 1.
        bins: Number of bins of one width, of the probability of the class answered.

    Returns:
        Of each bin, (bins,): mean probability of the class answered, share of right answers (both
        NaN where the bin is empty), and number of samples.

    Raises:
        ValueError: The arrays do not fit together.
    """
    values = np.asarray(probabilities, dtype=np.float64)
    if values.ndim != 2 or len(values) != np.size(targets):
        raise ValueError(
            f"probabilities: expected shape ({np.size(targets)}, K), got {values.shape}"
        )
    right = values.argmax(axis=1) == class_numbers(targets, values.shape[1], "targets")
    confidence = values.max(axis=1)
    bin_of = bins_of(confidence, bins)
    count = np.bincount(bin_of, minlength=bins)
    share = np.where(count, 1.0, np.nan) / np.maximum(count, 1)
    sure = np.bincount(bin_of, confidence, minlength=bins) * share
    return sure, np.bincount(bin_of, right, minlength=bins) * share, count


def expected_calibration_error(
    targets: ArrayLike, probabilities: ArrayLike, bins: int = 15
) -> float:
    """Average the gap between confidence and accuracy over the samples (Guo et al. 2017).

    It is above 0 by the noise of the bins alone: see `calibration_error_floor`.

    Arguments, errors raised: As in `reliability`; and a ValueError where there is no sample.
    """
    confidence, accuracy, count = reliability(targets, probabilities, bins)
    if not count.any():
        raise ValueError("the calibration error needs a sample")
    filled = count > 0
    return float(np.average(np.abs(accuracy - confidence)[filled], weights=count[filled]))


def calibration_error_floor(
    probabilities: ArrayLike, bins: int = 15, draws: int = 500
) -> tuple[float, float]:
    """The calibration error of a perfectly calibrated classifier that gives these probabilities.

    Labels are drawn from them, always the same ones. An error below the quantile says nothing
    against the probabilities: so much comes of a finite sample.

    Arguments:
        probabilities: (N, K), rows of sum 1, of one sample or more.
        bins: As in `reliability`.
        draws: How often all labels are drawn.

    Returns:
        Mean, and 95 % quantile, of `expected_calibration_error` over the draws.
    """
    # In order, so that bins are stretches, and the order of the samples does not matter.
    confidence = np.sort(np.asarray(probabilities, np.float64).max(axis=1))
    starts = np.unique(bins_of(confidence, bins), return_index=True)[1]
    expected, random = np.add.reduceat(confidence, starts), np.random.default_rng(0)
    at_once = max(1, _NUMBERS_AT_ONCE // len(confidence))
    errors: list[float] = []
    while len(errors) < draws:
        shape = min(at_once, draws - len(errors)), len(confidence)
        right = random.random(shape, dtype=np.float32) < confidence.astype(np.float32)
        counts = np.add.reduceat(right, starts, axis=1, dtype=np.int32)
        errors += (np.abs(counts - expected).sum(axis=1) / len(confidence)).tolist()
    return float(np.mean(errors)), float(np.quantile(errors, 0.95))


class RareBins(NamedTuple):
    """How often samples are of a rare class, by its probability; arrays (bins,)."""

    probability: NDArray[np.float64]  # mean, NaN where the bin is empty
    positives: NDArray[np.int64]
    samples: NDArray[np.int64]

    def shares(self) -> tuple[NDArray[np.float64], ...]:
        """Share of positives, and both ends of its 95 % interval (Wilson); 0 to 1 where empty."""
        some = np.maximum(self.samples, 1)
        low, high = wilson(self.positives, some)
        return self.positives / some, low, np.where(self.samples, high, 1.0)


def rare_edges() -> NDArray[np.float64]:
    """Bounds of the bins of `rare_reliability`: 0, and three a decade from 1e-4 to 1; (14,)."""
    return np.concatenate([[0.0], np.logspace(-4, 0, 13)])


def rare_reliability(positive: ArrayLike, probability: ArrayLike) -> RareBins:
    """Hold the probability of a rare class against how often samples are of it.

    Arguments:
        positive: Whether a sample is of the class, (N,).
        probability: That it is, (N,).

    Returns:
        Bins with the bounds `rare_edges`.
    """
    is_one, values = np.asarray(positive, bool), np.asarray(probability, np.float64)
    edges = rare_edges()
    size = len(edges) - 1
    bin_of = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, size - 1)
    count = np.bincount(bin_of, minlength=size)
    mean = np.bincount(bin_of, values, minlength=size) / np.where(count, count, np.nan)
    return RareBins(mean, np.bincount(bin_of[is_one], minlength=size), count)


def bins_of(confidence: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """The numbers of the bins, of one width from 0 to 1, that hold confidences, (N,).

    A bin holds its upper end.
    """
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
