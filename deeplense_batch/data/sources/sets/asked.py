"""What the arrays that a user names say of the images of sets: truth, split, group and columns.

They mean what the columns of a catalogue of the same flags mean (`catalogues.catalogue`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from deeplense_batch.data.catalogues.table import numbers, texts
from deeplense_batch.data.encoding import Array
from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.listing.layouts import SPLITS
from deeplense_batch.data.listing.listing import Listing, Skipped
from deeplense_batch.data.shards import ShardError

__all__ = ["named_by_flags", "say_as_asked"]

_POSITION = ("ra", "dec")  # kept without being asked


def named_by_flags(reading: Reading) -> frozenset[str]:
    """The arrays that a user names for what they say of each image, which are no labels."""
    return frozenset((*reading.truth, *reading.keep, reading.id, reading.split, reading.group))


def say_as_asked(
    root: object, listing: Listing, columns: Mapping[str, Array], asked: Reading
) -> None:
    """Give a listing of sets its truth, splits and groups, and the columns that are kept.

    Arguments:
        root: Named in errors.
        listing: Of all images; its columns are those that are kept where none are named.
        columns: All that there are, each (N,), in the order of the samples.
        asked: The names.

    Raises:
        ShardError: There is no such array, or none of its values is a number or a split.
    """
    for flag in ("truth", "split", "group", "keep"):
        given = getattr(asked, flag)
        for name in (given,) if isinstance(given, str) else given:
            if name and name not in columns and (flag, name) != ("split", "none"):
                raise ShardError(
                    f"{root}: --{flag}: there is no array '{name}' with a value for each image; "
                    f"there are {', '.join(columns) or 'none'}"
                )
    faults: dict[int, list[str]] = {}
    if asked.split in columns:
        _say_splits(root, listing, columns[asked.split], asked.split, faults)
    listing.truth = {name: _truth(root, columns[name], name, faults) for name in asked.truth}
    names = [*asked.keep, *_POSITION] if asked.keep else [*listing.columns]
    names = [*names, asked.group] if asked.group else names
    listing.columns = {name: columns[name] for name in dict.fromkeys(names) if name in columns}
    listing.group = asked.group
    listing.faults += [
        Skipped(listing.samples[row].id, "; ".join(why)) for row, why in sorted(faults.items())
    ]
    listing.samples = [s for row, s in enumerate(listing.samples) if row not in faults]


def _say_splits(
    root: object, listing: Listing, column: Array, name: str, faults: dict[int, list[str]]
) -> None:
    found = [text.lower() for text in texts(pd.Series(column))]
    allowed = ", ".join(SPLITS)
    if not any(text in SPLITS for text in found):
        raise ShardError(
            f"{root}: --split: {name} is {found[0]!r} for the first image, and for none one of "
            f"{allowed}"
        )
    for row, text in enumerate(found):
        if text not in SPLITS:
            faults.setdefault(row, []).append(f"{name} is {text!r}, and no split: {allowed}")
    listing.samples = [
        replace(sample, split=SPLITS.get(text, "train"))
        for sample, text in zip(listing.samples, found, strict=True)
    ]


def _truth(root: object, column: Array, name: str, faults: dict[int, list[str]]) -> Array:
    """Numbers to learn, (N,) float64; an image that has none is a fault."""
    values, _ = numbers(pd.Series(column))
    lost = np.flatnonzero(~np.isfinite(values))
    if len(lost) == len(values):
        raise ShardError(
            f"{root}: --truth: {name} holds no numbers, but values such as {str(column[0])!r}"
        )
    for row in lost.tolist():
        why = f"{name} is {str(column[row])!r}, and networks learn numbers"
        faults.setdefault(row, []).append(why)
    return values
