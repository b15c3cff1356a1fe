"""What the values of a column mean, be it of a table or of a set: splits, and numbers to learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deeplense_batch.data.catalogues.table import about_comma, numbers, texts
from deeplense_batch.data.listing.layouts import SPLITS

__all__ = ["Meaning", "numbers_to_learn", "splits_of"]


class Meaning(NamedTuple):
    """What the rows of a column say."""

    values: NDArray  # (N,)
    faults: dict[int, str]  # rows that say nothing allowed, and why
    notes: list[str]


def splits_of(name: str, column: pd.Series, refused: Callable[[str], Exception]) -> Meaning:
    """The split of each row, (N,) text.

    Arguments:
        name: Of the column.
        column: Words such as train, valid, testing.
        refused: Makes the error to raise where no row has one of them.
    """
    said = [text.lower() for text in texts(column)]
    allowed = ", ".join(SPLITS)
    if not any(text in SPLITS for text in said):
        first = f"--split: {name} is {said[0]!r} in the first row"
        raise refused(f"{first}, and no row of it is one of {allowed}")
    faults = {
        row: f"column {name} is {text!r}, and no split: {allowed}"
        for row, text in enumerate(said)
        if text not in SPLITS
    }
    return Meaning(np.array([SPLITS.get(text, "train") for text in said], object), faults, [])


def numbers_to_learn(name: str, column: pd.Series, refused: Callable[[str], Exception]) -> Meaning:
    """The number of each row, (N,) float64; NaN where it is unknown, which is no fault.

    Arguments:
        name: Of the column.
        column: Numbers, or texts of numbers.
        refused: Makes the error to raise where no row has a number.
    """
    values, others = numbers(column)
    said = texts(column)
    if not np.isfinite(values).any():
        first = next(filter(None, said), "")
        what = f"but values such as {first!r}{about_comma(first)}" if first else "it is empty"
        raise refused(f"--truth: {name} holds no numbers, {what}")
    faults = {
        row: f"{name} is {said[row]!r}, and networks learn numbers{about_comma(said[row])}"
        for row in np.flatnonzero(others | np.isinf(values)).tolist()
    }
    unknown = int((np.isnan(values) & ~others).sum())
    notes = [f"{name} is unknown in {unknown} of {len(values)} rows: NaN there"] if unknown else []
    return Meaning(values, faults, notes)
