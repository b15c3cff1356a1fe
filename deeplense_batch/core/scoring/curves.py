"""How well scores rank samples of one class before others: curves, as arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

__all__ = ["macro_roc", "precision_recall", "roc", "thinned"]

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]  # abscissa and ordinate
_MOST_POINTS = 400  # of a thinned curve


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
    positive = _is_positive(targets, "a ROC curve")
    false_positive_rate, true_positive_rate, _ = roc_curve(positive, np.asarray(scores))
    return false_positive_rate, true_positive_rate


def precision_recall(targets: ArrayLike, scores: ArrayLike) -> Curve:
    """Draw the precision at every recall, among these samples.

    Precision holds up to its recall from the one before: steps, whose area is exactly the average
    precision.

    Arguments:
        targets: Whether a sample is of the class, (N,) bool or 0 and 1.
        scores: Higher means more likely of the class, (N,).

    Returns:
        Recall and precision, each (points,) float64; recall grows from 0 to 1.

    Raises:
        ValueError: All samples are of one kind.
    """
    positive = _is_positive(targets, "a curve of precision")
    precision, recall, _ = precision_recall_curve(positive, np.asarray(scores))
    recall, precision = recall[::-1], precision[::-1]
    full = int(np.argmax(recall == 1)) + 1  # beyond it more is called, and none more is found
    return recall[:full].copy(), precision[:full].copy()


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


def thinned(curve: Curve) -> Curve:
    """Leave out points of a curve that would not be missed, on linear axes or a logarithmic one.

    At most 400 are kept: those that lie at equal steps along the curve, which are summed up over
    the ordinate, the abscissa, and its logarithm in units of its range. First and last are always
    kept.

    Arguments:
        curve: Abscissa and ordinate in [0, 1], each (N,), the abscissa growing.
    """
    x, y = curve
    if len(x) <= _MOST_POINTS:
        return curve
    logarithm = np.log(np.maximum(x, x[x > 0].min(initial=1.0)))
    logarithm /= max(np.ptp(logarithm), 1e-12)
    steps = sum(np.abs(np.diff(values)) for values in (x, y, logarithm))
    length = np.concatenate([[0.0], np.cumsum(steps)])
    kept = np.searchsorted(length, np.linspace(0, length[-1], _MOST_POINTS))
    kept = np.unique(np.concatenate([[0], kept[1:-1], [len(x) - 1]]))
    return x[kept], y[kept]


def _is_positive(targets: ArrayLike, needing: str) -> NDArray[np.bool_]:
    """Whether each sample is of the class.

    Raises:
        ValueError: All samples are of one kind.
    """
    positive = np.asarray(targets).astype(bool)
    if positive.all() or not positive.any():
        raise ValueError(f"{needing} needs samples of the class and samples of another")
    return positive
