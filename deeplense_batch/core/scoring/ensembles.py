"""What several networks say as one: the mean of their answers, and how far these lie apart.

Probabilities are averaged after each member is calibrated, so that no member counts for more
because it is too sure of itself (deep ensembles: Lakshminarayanan et al. 2017, arXiv:1612.01474).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["in_order_of", "mean_answers", "mean_logits", "mean_probabilities", "spread"]


def mean_probabilities(members: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """Average the calibrated probabilities of several classifiers of the same samples.

    Arguments:
        members: Of each of two members or more, (N, K), rows of sum 1; all of the same classes in
            the same order (`in_order_of`).

    Returns:
        (N, K) float64, rows of sum 1.

    Raises:
        ValueError: There is one member alone, or shapes differ, or rows are no probabilities.
    """
    values = _stacked(members)
    if values.ndim != 3:
        raise ValueError(f"probabilities: expected shape (N, K) each, got {values.shape[1:]}")
    sums = values.sum(axis=2)
    if (values < 0).any() or not np.allclose(sums, 1, atol=1e-6):
        raise ValueError("probabilities: expected rows of sum 1, each number from 0 to 1")
    mean = values.mean(axis=0)
    return mean / mean.sum(axis=1, keepdims=True)


def mean_logits(members: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """The logarithm of `mean_probabilities`, (N, K): its softmax gives them back.

    A probability of 0, below the least float64, counts as that, so that all logarithms are finite.
    """
    return np.log(np.maximum(mean_probabilities(members), np.finfo(np.float64).tiny))


def mean_answers(members: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """Average the numbers that several regressions give the same samples, (N, ...) each."""
    return _stacked(members).mean(axis=0)


def spread(members: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """How far members lie apart: the standard deviation over them, with M - 1 in its denominator.

    Arguments:
        members: Of each of two members or more, an array of one shape.

    Returns:
        Of that shape, float64.

    Raises:
        ValueError: There is one member alone, or shapes differ.
    """
    return _stacked(members).std(axis=0, ddof=1)


def in_order_of(
    classes: Sequence[str], known: Sequence[str], columns: ArrayLike
) -> NDArray[np.float64]:
    """Bring columns of one order of classes into another.

    Arguments:
        classes: The order that is wanted.
        known: The order that the columns have; the same names.
        columns: (N, K).

    Returns:
        (N, K) float64.

    Raises:
        ValueError: The names differ.
    """
    if sorted(classes) != sorted(known):
        raise ValueError(f"expected the classes {', '.join(classes)}, got {', '.join(known)}")
    values = np.asarray(columns, np.float64)
    return values[:, [list(known).index(name) for name in classes]]


def _stacked(members: Sequence[ArrayLike]) -> NDArray[np.float64]:
    arrays = [np.asarray(values, np.float64) for values in members]
    if len(arrays) < 2:
        raise ValueError(f"an ensemble has two members or more, got {len(arrays)}")
    if len({array.shape for array in arrays}) > 1:
        shapes = " and ".join(str(array.shape) for array in arrays)
        raise ValueError(f"members have answers of shapes {shapes}; expected one shape")
    return np.stack(arrays)
