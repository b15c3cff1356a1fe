"""Bins of a quantity of images, such as the Einstein radius: where a network sees how much.

What a search finds as a function of what it searches for is its selection function. A test set is
cut into bins of one quantity, and each bin is scored by itself. Bins hold equally many images of
those that are searched for, or lie between stated edges; each but the last holds its lower edge
and not its upper one. Texts, and numbers of few values, have a bin for each value.

Only a lens has an Einstein radius. A class of which the quantity is unknown (NaN) or 0 in every
image does not have it: simulated galaxies that are no lenses have zeros.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Bins", "bins_between", "bins_by_value", "having", "is_known", "log_odds", "quantiles"]

_FEWEST, _MOST = 2, 8  # bins of equally many images
_VALUES = 12  # bins of a value each


@dataclass(frozen=True)
class Bins:
    """Images sorted into K bins."""

    numbers: NDArray[np.int64]  # (N,) of the bin of each image from 0; -1 in none
    labels: tuple[str, ...]  # (K,) of the bins, in words
    edges: tuple[float, ...] | None = None  # (K + 1,) that rise; None for a bin a value

    def __len__(self) -> int:
        return len(self.labels)

    def counts(self, chosen: ArrayLike) -> list[int]:
        """How many of the chosen images, (N,) bool, each bin holds, (K,)."""
        inside = self.numbers[np.asarray(chosen) & (self.numbers >= 0)]
        return np.bincount(inside, minlength=len(self)).tolist()


def is_known(values: NDArray) -> NDArray[np.bool_]:
    """Which values, (N,), are known: texts that are not empty, and finite numbers."""
    return values != "" if values.dtype == object else np.isfinite(values)


def having(values: NDArray, targets: NDArray[np.int64], classes: int) -> list[int]:
    """The numbers of the classes that have a quantity.

    Arguments:
        values: Of the images, (N,) numbers or texts.
        targets: Their class numbers, (N,); -1 where there is no label.
        classes: How many there are.
    """
    says = is_known(values) if values.dtype == object else is_known(values) & (values != 0)
    return [k for k in range(classes) if (says & (targets == k)).any()]


def quantiles(values: NDArray, counted: NDArray[np.bool_], least: int) -> Bins:
    """Bins that hold equally many images, or one for each value of texts and of few numbers.

    There are as many bins as leave `least` images in each, but two at least and eight at most;
    equal values are never parted, so that there may be fewer. The outer bins reach as far as
    there are images.

    Arguments:
        values: Of the images, (N,) numbers or texts.
        counted: Images that are divided equally, (N,) bool.
        least: Of these in a bin.

    Raises:
        ValueError: As `bins_by_value`; or no image has a value.
    """
    known = is_known(values)
    if not (known & counted).any():
        raise ValueError("no image has a value")
    if values.dtype == object or len(np.unique(values[known])) <= _MOST:
        return bins_by_value(values)
    own = np.asarray(values[known & counted], np.float64)
    number = int(np.clip(len(own) // least, _FEWEST, _MOST))
    edges = np.unique(np.quantile(own, np.arange(1, number) / number))
    ends = float(values[known].min()), float(values[known].max())
    inner = [edge for edge in edges.tolist() if ends[0] < edge]
    return bins_between(values, sorted({*ends, *inner}))


def bins_between(values: NDArray, edges: Sequence[float]) -> Bins:
    """Bins between edges; the last holds its upper edge too.

    Arguments:
        values: Of the images, (N,) numbers.
        edges: Two or more, which rise.

    Raises:
        ValueError: The values are texts, or none is between the edges.
    """
    if values.dtype == object:
        raise ValueError("it holds texts, which no edges part")
    numbers = np.searchsorted(edges, values, side="right") - 1
    numbers[values == edges[-1]] = len(edges) - 2
    numbers[~is_known(values) | (numbers > len(edges) - 2)] = -1
    if (numbers < 0).all():
        raise ValueError(f"no image has a value from {edges[0]:g} to {edges[-1]:g}")
    labels = tuple(f"{low:.4g} to {high:.4g}" for low, high in itertools.pairwise(edges))
    return Bins(numbers, labels, tuple(map(float, edges)))


def bins_by_value(values: NDArray) -> Bins:
    """A bin for each value.

    Arguments:
        values: Of the images, (N,) numbers or texts.

    Raises:
        ValueError: There are more than twelve.
    """
    known = is_known(values)
    names, numbers = np.unique(values[known], return_inverse=True)
    if len(names) > _VALUES:
        kind = "texts" if values.dtype == object else "values"
        raise ValueError(f"it has {len(names)} different {kind}, at most {_VALUES} are shown")
    own = np.full(len(values), -1, np.int64)
    own[known] = numbers
    labels = names if values.dtype == object else [f"{name:.10g}" for name in names]
    return Bins(own, tuple(map(str, labels)))


def log_odds(probabilities: NDArray[np.float64], classes: Sequence[int]) -> NDArray[np.float64]:
    """The evidence for some classes: the logarithm of the odds of their summed probability, (N,).

    Arguments:
        probabilities: (N, K).
        classes: Numbers of these classes.
    """
    chosen = np.isin(np.arange(probabilities.shape[1]), classes)
    with np.errstate(divide="ignore"):
        ours, others = (np.log(probabilities[:, one].sum(1)) for one in (chosen, ~chosen))
    return ours - others
