"""Scores of a classifier: arrays in, numbers out.

The area under the ROC curve of class k against the rest is the probability that a sample of k
gets a higher score than one of another class. It needs all samples at once (a mean over batches is
another number), float64, and samples of both kinds; where these lack it is None with a note, never
0 or NaN. The macro average is the plain mean over the classes where it is defined.

What a comparison has to say in words, for the terminal and for every kind of page.

A page is read far from the runs: it says what the data are, who made the numbers, how sure they
are, and what they do not tell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from sklearn.metrics import (
    average_precision_score,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

__all__ = [
    "classification_scores",
    "confusion",
    "detection_scores",
    "expected_calibration_error",
    "macro_roc",
    "precision_recall",
    "purity_at",
    "regression_scores",
    "reliability",
    "roc",
    "softmax",
    "temperature",
    "thinned",
    "threshold_of_purity",
]

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
_TEMPERATURES = (0.05, 20.0)  # beyond, the samples say nothing: all are right, or none is


def softmax(logits: ArrayLike) -> NDArray[np.float64]:
    """Turn logits, (N, K), into probabilities, (N, K) float64, computed in float64.

    Raises:
        ValueError: A logit is NaN or +inf, or a sample has none above -inf.
    """
    return np.exp(_log_softmax(logits))


def classification_scores(
    targets: ArrayLike, logits: ArrayLike, classes: Sequence[str]
) -> tuple[dict[str, float | None], list[str]]:
    """Score the outputs of a classifier on all samples of a slice.

    Arguments:
        targets: True class numbers, (N,) integers in [0, K).
        logits: Outputs, (N, K); logarithms of probabilities will do.
        classes: Names, K of them.

    Returns:
        Scores by name, None where undefined: ``auc`` (macro), ``auc_<class>`` (one against the
        rest), ``accuracy``, ``balanced_accuracy`` (mean recall of the classes present), ``nll``
        (mean negative log-likelihood, nats). And notes, one for each undefined number.

    Raises:
        ValueError: The arrays do not fit together, or a logit is not a number.
    """
    log_probabilities = _log_softmax(logits)
    targets = _checked(targets, len(classes), "targets")
    if log_probabilities.shape != (len(targets), len(classes)):
        raise ValueError(
            f"logits: expected shape {(len(targets), len(classes))}, got {log_probabilities.shape}"
        )
    aucs, notes = _aucs(targets, np.exp(log_probabilities), classes)
    scores = aucs | dict.fromkeys(("accuracy", "balanced_accuracy", "nll"))
    if not len(targets):
        return scores, [*notes, "no sample"]
    counts = confusion(targets, log_probabilities.argmax(axis=1), classes)
    present = counts.sum(axis=1) > 0
    scores["accuracy"] = float(np.trace(counts) / counts.sum())
    scores["balanced_accuracy"] = float((np.diag(counts)[present] / counts[present].sum(1)).mean())
    nll = -float(log_probabilities[np.arange(len(targets)), targets].mean())
    if math.isfinite(nll):
        scores["nll"] = nll
    else:
        notes.append("nll: infinite, a true class has probability 0")
    return scores, notes


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
    values = _log_softmax(logits)
    targets = _checked(targets, values.shape[1], "targets")
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
    right = values.argmax(axis=1) == _checked(targets, values.shape[1], "targets")
    confidence = values.max(axis=1)
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    share = np.where(count, 1.0, np.nan) / np.maximum(count, 1)
    sure = np.bincount(place, confidence, minlength=bins) * share
    return sure, np.bincount(place, right, minlength=bins) * share, count


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


def roc(targets: ArrayLike, scores: ArrayLike) -> Curve:
    """Draw the ROC curve of one class against the rest.

    Arguments:
        targets: Whether a sample is of the class, (N,) bool or 0 and 1.
        scores: Higher means more likely of the class, (N,).

    Returns:
        False and true positive rate, each (points,) float64, from (0, 0) to (1, 1).

    Raises:
        ValueError: All samples are of one kind.
    """
    positive = np.asarray(targets).astype(bool)
    if positive.all() or not positive.any():
        raise ValueError("a ROC curve needs samples of the class and samples of another")
    false_positive_rate, true_positive_rate, _ = roc_curve(positive, np.asarray(scores))
    return false_positive_rate, true_positive_rate


def precision_recall(positive: ArrayLike, scores: ArrayLike) -> Curve:
    """Draw the precision at every recall, among these samples.

    Precision holds up to its recall from the one before: steps, whose area is exactly the average
    precision.

    Arguments:
        positive: Whether a sample is of the class, (N,) bool or 0 and 1.
        scores: Higher means more likely of the class, (N,).

    Returns:
        Recall and precision, each (points,) float64; recall grows from 0 to 1.

    Raises:
        ValueError: All samples are of one kind.
    """
    wanted = np.asarray(positive).astype(bool)
    if wanted.all() or not wanted.any():
        raise ValueError("a curve of precision needs samples of the class and of another")
    precision, recall, _ = precision_recall_curve(wanted, np.asarray(scores))
    recall, precision = recall[::-1], precision[::-1]
    full = int(np.argmax(recall == 1)) + 1  # beyond it more is called, and none more is found
    return recall[:full].copy(), precision[:full].copy()


def thinned(curve: Curve, points: int = 400) -> Curve:
    """Leave out points of a curve that would not be missed, on linear axes or a logarithmic one.

    Those are kept that lie at equal steps along the curve, which are summed up over the ordinate,
    the abscissa, and its logarithm in units of its range. First and last are always kept.

    Arguments:
        curve: Abscissa and ordinate in [0, 1], each (N,), the abscissa growing.
        points: At most so many are kept, 2 or more.
    """
    x, y = curve
    if len(x) <= points:
        return curve
    logarithm = np.log(np.maximum(x, x[x > 0].min(initial=1.0)))
    logarithm /= max(np.ptp(logarithm), 1e-12)
    steps = sum(np.abs(np.diff(values)) for values in (x, y, logarithm))
    length = np.concatenate([[0.0], np.cumsum(steps)])
    kept = np.searchsorted(length, np.linspace(0, length[-1], points))
    kept = np.unique(np.concatenate([[0], kept[1:-1], [len(x) - 1]]))
    return x[kept], y[kept]


def macro_roc(curves: Mapping[str, Curve]) -> Curve:
    """Average the ROC curves of classes: mean true positive rate at each false positive rate.

    The grid is every false positive rate of every curve, taken twice, below and above the jump
    that a curve may have there; so the area under the result is exactly the mean of the areas.
    The average of no curve is empty.
    """
    if not curves:
        return np.empty(0), np.empty(0)
    grid = np.unique(np.concatenate([rate for rate, _ in curves.values()]))
    # at a repeated abscissa np.interp takes the last value: the upper one, or reversed the lower
    above = [np.interp(grid, x, y) for x, y in curves.values()]
    below = [np.interp(-grid, -x[::-1], y[::-1]) for x, y in curves.values()]
    mean = np.stack([np.mean(below, axis=0), np.mean(above, axis=0)], axis=1)
    return np.repeat(grid, 2), mean.ravel()


def regression_scores(
    true: ArrayLike, predicted: ArrayLike
) -> tuple[dict[str, float | None], list[str]]:
    """Score predicted numbers, where the true ones are known (not NaN).

    Arguments:
        true: (N,) float.
        predicted: (N,) float.

    Returns:
        ``loss`` (mean squared error), ``mae`` (mean absolute error), ``bias`` (mean of predicted
        less true), ``r2`` (1 - squared error over that of the mean; 1 is perfect, 0 is no better
        than the mean), None where undefined; and notes.
    """
    true, predicted = (np.asarray(v, dtype=np.float64) for v in (true, predicted))
    known = np.isfinite(true)
    error, spread = (predicted - true)[known], true[known]
    scores: dict[str, float | None] = dict.fromkeys(("loss", "mae", "bias", "r2"))
    notes = [] if known.all() else [f"{int((~known).sum())} of {len(true)} have no true value"]
    if not len(error):
        return scores, notes
    squared = float((error**2).mean())
    scores |= {"loss": squared, "mae": float(np.abs(error).mean()), "bias": float(error.mean())}
    if spread.var() > 0:
        scores["r2"] = 1 - squared / float(spread.var())
    else:
        notes.append("r2: one and the same true value in all samples")
    return scores, notes


def purity_at(recall: float, false_positive_rate: float, prevalence: float) -> float | None:
    """Share of positives among what is called one, where they have this prevalence p.

    P = p TPR / (p TPR + (1 - p) FPR); None where nothing is called one.
    """
    called = prevalence * recall + (1 - prevalence) * false_positive_rate
    return prevalence * recall / called if called else None


def threshold_of_purity(
    positive: NDArray[np.bool_], scores: NDArray[np.float64], *, purity: float, prevalence: float
) -> float | None:
    """The least threshold with a stated purity, and so the most complete.

    Arguments:
        positive: Whether a sample is a lens, (N,).
        scores: Higher means more likely, (N,).
        purity: At least this, where lenses have the `prevalence`.
        prevalence: Share of lenses among all galaxies.

    Returns:
        A score: what has it or more is called a lens. None where no threshold gives the purity,
        or there are no lenses, or nothing else.
    """
    if positive.all() or not positive.any():
        return None
    false_positive_rate, recall, thresholds = roc_curve(positive, scores, drop_intermediate=False)
    good = [
        (purity_at(r, f, prevalence) or 0.0) >= purity
        for r, f in zip(recall, false_positive_rate, strict=True)
    ]
    return float(thresholds[np.flatnonzero(good)[-1]]) if any(good) else None


def detection_scores(
    positive: NDArray[np.bool_],
    scores: NDArray[np.float64],
    *,
    threshold: float | None,
    prevalence: float,
) -> tuple[dict[str, float | None], list[str]]:
    """Score a search for rare objects.

    Arguments:
        positive: Whether a sample is a lens, (N,).
        scores: Higher means more likely, (N,).
        threshold: What has this score or more is called a lens; None for no threshold.
        prevalence: Share of lenses among all galaxies, for the purity.

    Returns:
        ``average_precision``; ``recall_fpr_1e-2``, ``-3``, ``-4``: completeness at those rates of
        false positives; ``tpr0`` and ``tpr10``: at none, and at fewer than ten false positives
        (Metcalf et al. 2019, A&A 625, A119), which depend on the number of non-lenses;
        ``threshold``, ``completeness`` and ``purity`` there. None where undefined, with a note.
    """
    rates = {"recall_fpr_1e-2": 1e-2, "recall_fpr_1e-3": 1e-3, "recall_fpr_1e-4": 1e-4}
    found: dict[str, float | None] = dict.fromkeys(
        ("average_precision", *rates, "tpr0", "tpr10", "threshold", "completeness", "purity")
    )
    if positive.all() or not positive.any():
        return found, ["lenses, or other galaxies, are missing: nothing to find"]
    found["average_precision"] = float(average_precision_score(positive, scores))
    negatives = int((~positive).sum())
    false_positive_rate, recall, _ = roc_curve(positive, scores, drop_intermediate=False)
    counts = np.rint(false_positive_rate * negatives)
    for name, rate in rates.items():
        found[name] = float(recall[false_positive_rate <= rate].max())
    found["tpr0"] = float(recall[counts == 0].max())
    found["tpr10"] = float(recall[counts < 10].max())
    notes = [f"tpr0, tpr10: of {negatives} galaxies that are no lenses"]
    if negatives < 1e4:
        notes.append(f"recall_fpr_1e-4: below one of {negatives} galaxies, so that of none")
    if threshold is None:
        return found, [*notes, "threshold: none gives the stated purity on the validation slice"]
    called = scores >= threshold
    completeness, rate = float(called[positive].mean()), float(called[~positive].mean())
    found |= {"threshold": threshold, "completeness": completeness}
    found["purity"] = purity_at(completeness, rate, prevalence)
    notes.append(f"purity: where {prevalence:g} of all galaxies are lenses")
    return found, notes


def confusion(targets: ArrayLike, predicted: ArrayLike, classes: Sequence[str]) -> NDArray:
    """Count predictions: (K, K) int64, a row for each true class, a column for each predicted.

    Raises:
        ValueError: A class number is not in [0, K).
    """
    size = len(classes)
    cells = _checked(targets, size, "targets") * size + _checked(predicted, size, "predicted")
    return np.bincount(cells, minlength=size * size).astype(np.int64).reshape(size, size)


def _aucs(
    targets: NDArray[np.int64], probabilities: NDArray[np.float64], classes: Sequence[str]
) -> tuple[dict[str, float | None], list[str]]:
    aucs: dict[str, float | None] = {"auc": None}
    notes = []
    for number, name in enumerate(classes):
        positive = targets == number
        aucs[f"auc_{name}"] = None
        if not positive.any():
            notes.append(f"auc_{name}: no sample of this class")
        elif positive.all():
            notes.append(f"auc_{name}: no sample of another class")
        else:
            aucs[f"auc_{name}"] = float(roc_auc_score(positive, probabilities[:, number]))
    defined = [auc for auc in aucs.values() if auc is not None]
    if defined:
        aucs["auc"] = float(np.mean(defined))
    if len(defined) < len(classes):
        notes.append(f"auc: over {len(defined)} of {len(classes)} classes")
    return aucs, notes


def _log_softmax(logits: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(logits, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(f"logits: expected shape (N, K), got {values.shape}")
    highest = values.max(axis=1, keepdims=True, initial=-np.inf)
    if not np.isfinite(highest).all():  # NaN passes through max
        bad = int((~np.isfinite(highest)).sum())
        raise ValueError(f"logits: {bad} of {len(values)} samples are not finite")
    shifted = values - highest
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _checked(numbers: ArrayLike, size: int, name: str) -> NDArray[np.int64]:
    checked = np.asarray(numbers, dtype=np.int64)
    if checked.ndim != 1 or ((checked < 0) | (checked >= size)).any():
        raise ValueError(f"{name}: expected class numbers from 0 to {size - 1}, shape (N,)")
    return checked
