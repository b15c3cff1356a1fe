"""Class numbers of the labels of a catalogue, which are names or numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from deeplense_batch.data.catalogues.columns import Columns
from deeplense_batch.data.formats.counted import counted
from deeplense_batch.data.listing.layouts import MOST_CLASSES, number_classes

__all__ = ["class_numbers"]

_NO_LABELS = ("", "-1", "nan")
_TRUTHS = {"true": "1", "false": "0"}


def class_numbers(
    columns: Columns, fault: Callable[[int, str], None]
) -> tuple[list[int], tuple[str, ...]]:
    """Class number of each row, -1 where it has no label; and the names of the classes.

    Arguments:
        columns: The catalogue.
        fault: Called with the row and the reason where a label is no class.

    Raises:
        ShardError: The labels are numbers to learn, not classes.
    """
    if not columns.label:
        return [-1] * len(columns), ()
    labels = [_plain(text) for text in columns.texts(columns.label)]
    asked = columns.reading.classes
    known = {label for label in labels if label in asked or label.lower() not in _NO_LABELS}
    if not known & set(asked) and {label.lower() for label in known} <= set(_TRUTHS):
        labels = [_TRUTHS.get(label.lower(), label) for label in labels]
        known = {_TRUTHS[label.lower()] for label in known}
    classes = asked or _classes(columns, known)
    numbers = {str(i): i for i in range(len(classes))}
    numbers |= {name: i for i, name in enumerate(classes)}
    for row, label in enumerate(labels):
        if label in known and label not in numbers:
            allowed = ", ".join(classes[:8]) + (", ..." if len(classes) > 8 else "")
            fault(row, f"{columns.label} {label!r} is no class: {allowed}")
    return [numbers.get(label, -1) if label in known else -1 for label in labels], classes


def _classes(columns: Columns, known: set[str]) -> tuple[str, ...]:
    """Names of the classes: as they are, or 0, 1, ... where labels are numbers."""
    numbers = all(map(_is_number, known))
    wholes = [int(label) for label in known if label.isdecimal()]
    count = max(wholes, default=-1) + 1 if numbers else len(known)
    if count > MOST_CLASSES or (numbers and len(wholes) < len(known) / 2):
        raise columns.refused(
            f"--label: {columns.label} has {counted(len(known), 'value')} such as {min(known)}, "
            f"which are no classes (at most {MOST_CLASSES}); numbers to learn are --truth "
            f"{columns.label}"
        )
    if not numbers:
        return number_classes(columns.root, known)
    names = tuple(map(str, range(count)))
    if names:
        columns.notes.append(
            f"classes are called {', '.join(names[:10])}{', ...' if count > 10 else ''}, as "
            f"{columns.label} numbers them (--classes names them)"
        )
    return names


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def _plain(text: str) -> str:
    """A whole number without its point, other text as it is."""
    return str(int(float(text))) if _is_number(text) and float(text).is_integer() else text
