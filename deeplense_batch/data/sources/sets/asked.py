"""What the arrays that a user names say of the images of sets: truth, split, group and columns.

They mean what the columns of a catalogue of the same flags mean (`catalogues.values`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd
from numpy.typing import NDArray

from deeplense_batch.data.catalogues.values import Meaning, numbers_to_learn, splits_of
from deeplense_batch.data.encoding import Array
from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.listing.listing import Listing, Skipped
from deeplense_batch.data.shards import ShardError

__all__ = ["named_by_flags", "say_as_asked"]

_POSITION = ("ra", "dec")  # kept without being asked


def named_by_flags(reading: Reading) -> frozenset[str]:
    """The arrays that a user names for what they say of each image, which are no labels."""
    named = (*reading.truth, *reading.keep, *reading.pair)
    return frozenset((*named, reading.id, reading.split, reading.group))


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

    def noted(said: Meaning) -> NDArray:
        for row, why in said.faults.items():
            faults.setdefault(row, []).append(why)
        listing.notes += said.notes
        return said.values

    def refused(why: str) -> ShardError:
        return ShardError(f"{root}: {why}")

    if asked.split in columns:
        splits = noted(splits_of(asked.split, pd.Series(columns[asked.split]), refused))
        listing.samples = [
            replace(sample, split=split)
            for sample, split in zip(listing.samples, splits.tolist(), strict=True)
        ]
    listing.truth = {
        name: noted(numbers_to_learn(name, pd.Series(columns[name]), refused))
        for name in asked.truth
    }
    names = [*asked.keep, *_POSITION] if asked.keep else [*listing.columns]
    names = [*names, asked.group] if asked.group else names
    listing.columns = {name: columns[name] for name in dict.fromkeys(names) if name in columns}
    listing.group = asked.group
    listing.faults += [
        Skipped(listing.samples[row].id, "; ".join(why)) for row, why in sorted(faults.items())
    ]
    listing.samples = [s for row, s in enumerate(listing.samples) if row not in faults]
