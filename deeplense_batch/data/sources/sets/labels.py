"""Labels and class names of a set of images, checked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.data.encoding import Array
from deeplense_batch.data.formats.counted import counted
from deeplense_batch.data.formats.untrusted import ImageError
from deeplense_batch.data.listing.archive import alike
from deeplense_batch.data.listing.layouts import MOST_CLASSES
from deeplense_batch.data.shards import ShardError

__all__ = ["check_labels", "class_names", "classes_of_sets", "is_labels"]

_CLASSES_OF_GRAVLENSNET = 3


def check_labels(labels: Array) -> None:
    """Refuse labels that are no class numbers, and show the first that is none.

    Raises:
        ImageError: There is one.
    """
    fit = _fit(labels)
    if not fit.all():
        raise ImageError(
            f"labels must be class numbers from 0 to {MOST_CLASSES - 1}, or -1 for none; got "
            f"{labels[~fit][0]!s} ({labels.dtype}); np.unique(labels, return_inverse=True) gives "
            "'classes' and numbers"
        )


def is_labels(labels: Array) -> bool:
    """Whether an array may be one of class numbers, of which none is missing between others."""
    numbers = np.unique(labels)
    return bool(_fit(labels).all()) and len(numbers) == numbers.max(initial=-1) + 1


def _fit(labels: Array) -> NDArray[np.bool_]:
    if labels.dtype.kind not in "uif":
        return np.zeros(labels.shape, bool)
    fit: NDArray[np.bool_] = (labels == np.rint(labels)) & (labels >= -1) & (labels < MOST_CLASSES)
    return fit


def class_names(classes: Array) -> tuple[str, ...]:
    """Names of the classes of a set, in the order of their numbers.

    Raises:
        ImageError: One has no name, or two have names that look the same.
    """
    if classes.dtype.kind == "S":
        classes = np.char.decode(classes, "utf-8")
    names = tuple(str(name).strip() for name in classes.ravel().tolist())
    if "" in names or not all(map(str.isprintable, names)):
        raise ImageError(f"'classes' are {', '.join(map(repr, names[:8]))}; a class needs a name")
    if same := alike(names) or [(one, one) for one in names if names.count(one) > 1]:
        raise ImageError(f"'classes' has one name twice, {same[0][0]!r} and {same[0][1]!r}")
    return names


def classes_of_sets(
    root: object, names: tuple[str, ...], most: int, kind: str, asked: tuple[str, ...] = ()
) -> tuple[tuple[str, ...], list[str]]:
    """Class names of sets with class numbers up to `most`, and a note where none are given.

    Arguments:
        root: Named in errors.
        names: Those of the files, in the order of their numbers, or none.
        most: The greatest number, -1 where nothing is labelled.
        kind: How the files end, such as ``.npz``.
        asked: Those of the user: names of the numbers, or an order of the names of the files.

    Raises:
        ShardError: There are more classes than names, or those asked for are no names of them.
    """
    if asked and most < 0:
        raise ShardError(f"{root}: --classes names {', '.join(asked)}, but no image has a label")
    if asked and names and set(asked) != set(names):
        raise ShardError(
            f"{root}: --classes names {', '.join(asked)}, but the array 'classes' names "
            f"{', '.join(names)}"
        )
    if (given := names or asked) and most >= len(given):
        says = "names" if names else "--classes names"
        raise ShardError(
            f"{root}: has label {most}, but {says} only {counted(len(given), 'class', 'classes')}"
        )
    if asked or names or most < 0:
        return asked or names, []
    numbers = tuple(str(i) for i in range(most + 1))
    note = (
        f"the files name no classes (array 'classes'): called {', '.join(numbers)}; --classes "
        "names them"
    )
    if kind == ".npz" and len(numbers) == _CLASSES_OF_GRAVLENSNET:
        note += "; GravLensNet's own order was no, vort, sphere"
    return numbers, [note]
