"""Ids of the images of sets: what one of their arrays says, where that is unique."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from deeplense_batch.data.catalogues.table import texts
from deeplense_batch.data.catalogues.usual import USUAL
from deeplense_batch.data.encoding import Array
from deeplense_batch.data.formats.counted import counted
from deeplense_batch.data.shards import ShardError

__all__ = ["ids_of_sets", "may_be_ids"]

_NONE = "none"  # asks for places in files


def may_be_ids(name: str) -> bool:
    """Whether an array is usually one of ids by its name."""
    return name.lower() in USUAL["id"]


def ids_of_sets(
    root: object, places: Sequence[str], columns: Sequence[Mapping[str, Array]], asked: str
) -> tuple[list[str], str, list[str]]:
    """The id of each image of some sets.

    Arguments:
        root: Named in errors.
        places: What each image is called where no array names it, such as ``set.h5[3]``.
        columns: Of each file, the arrays of a value for each image, (N,).
        asked: The array that the user names, ``none``, or "".

    Returns:
        The ids, the array that they are from ("" where they are places), and notes.

    Raises:
        ShardError: A file lacks the array asked for, or it is empty or equal for some images.
    """
    if asked == _NONE or not columns:
        return list(places), "", []
    common = [name for name in columns[0] if all(name in one for one in columns)]
    if asked and asked not in common:
        raise ShardError(
            f"{root}: --id: there is no array '{asked}' with a value for each image; there are "
            f"{', '.join(common) or 'none'}"
        )
    usual = sorted(filter(may_be_ids, common), key=lambda name: USUAL["id"].index(name.lower()))
    notes = []
    for name in [asked] if asked else usual:
        parts = [texts(pd.Series(one[name])) for one in columns]
        ids: list[str] = np.concatenate(parts).tolist()
        equal = len(ids) - len(set(ids)) + ids.count("")
        if not equal:
            named = "" if asked else " (--id names another)"
            return ids, name, [f"ids are those of the array '{name}'{named}"]
        if asked:
            raise ShardError(
                f"{root}: --id: the array '{asked}' is empty or has the value of another for "
                f"{equal} of {counted(len(ids), 'image')}; an id names one"
            )
        notes.append(
            f"the array '{name}' is empty or equal for {counted(equal, 'image')}, and names none"
        )
    return list(places), "", notes
