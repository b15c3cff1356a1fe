"""Scores of a classifier, and of predicted numbers: arrays in, numbers out.

The area under the ROC curve of class k against the rest is the probability that a sample of k
gets a higher score than one of another class. It needs all samples at once (a mean over batches is
another number), float64, and samples of both kinds; where these lack it is None with a note, never
0 or NaN. The macro average is the plain mean over the classes where it is defined.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score

__all__ = [
    "class_numbers",
    "classification_scores",
    "confusion",
    "log_softmax",
    "regression_scores",
    "softmax",
]


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
    log_probabilities = log_softmax(logits)
    targets = class_numbers(targets, len(classes), "targets")
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


def confusion(targets: ArrayLike, predicted: ArrayLike, classes: Sequence[str]) -> NDArray:
    """Count predictions: (K, K) int64, a row for each true class, a column for each predicted.

    Raises:
        ValueError: A class number is not in [0, K).
    """
    size = len(classes)
    cells = class_numbers(targets, size, "targets") * size + class_numbers(
        predicted, size, "predicted"
    )
    return np.bincount(cells, minlength=size * size).astype(np.int64).reshape(size, size)


def softmax(logits: ArrayLike) -> NDArray[np.float64]:
    """Turn logits, (N, K), into probabilities, (N, K) float64, computed in float64.

    Raises:
        ValueError: A logit is NaN or +inf, or a sample has none above -inf.
    """
    return np.exp(log_softmax(logits))


def log_softmax(logits: ArrayLike) -> NDArray[np.float64]:
    """Turn logits, (N, K), into logarithms of probabilities, (N, K) float64.

    Raises:
        ValueError: As `softmax`.
    """
    values = np.asarray(logits, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(f"logits: expected shape (N, K), got {values.shape}")
    highest = values.max(axis=1, keepdims=True, initial=-np.inf)
    if not np.isfinite(highest).all():  # NaN passes through max
        bad = int((~np.isfinite(highest)).sum())
        raise ValueError(f"logits: {bad} of {len(values)} samples are not finite")
    shifted = values - highest
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def class_numbers(numbers: ArrayLike, classes: int, name: str) -> NDArray[np.int64]:
    """Check class numbers, (N,), which `name` calls in the error.

    Raises:
        ValueError: One is not in [0, classes).
    """
    checked = np.asarray(numbers, dtype=np.int64)
    if checked.ndim != 1 or ((checked < 0) | (checked >= classes)).any():
        raise ValueError(f"{name}: expected class numbers from 0 to {classes - 1}, shape (N,)")
    return checked


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
