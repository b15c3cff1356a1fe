"""Whether the probabilities of a classifier are honest, and how to make them so."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from deeplense_batch.core.scoring.metrics import class_numbers, log_softmax, softmax

__all__ = ["expected_calibration_error", "reliability", "temperature"]

_TEMPERATURES = (0.05, 20.0)  # beyond, the samples say nothing: all are right, or none is


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
    bin_of = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(bin_of, minlength=bins)
    share = np.where(count, 1.0, np.nan) / np.maximum(count, 1)
    sure = np.bincount(bin_of, confidence, minlength=bins) * share
    return sure, np.bincount(bin_of, right, minlength=bins) * share, count


def expected_calibration_error(
    targets: ArrayLike, probabilities: ArrayLike, bins: int = 15
) -> float:
    """Average the gap between confidence and accuracy over the samples (Guo et al. 2017).

    Arguments, errors raised: As in `reliability`; and a ValueError where there is no sample.
    """
    confidence, accuracy, count = reliability(targets, probabilities, bins)
    if not count.any():
        raise ValueError("the calibration error needs a sample")
    filled = count > 0
    return float(np.average(np.abs(accuracy - confidence)[filled], weights=count[filled]))
