"""Where a slice of a split begins and ends, as its name says; in percent, between two groups.

Images of one object or tile lie side by side in packed order (`shards`). A percentage is moved to
the nearest border between two groups, the same one whichever side asks, so that ``train[:70%]``
and ``train[70%:]`` share no group and leave none out. An image whose group is not known, "" or
NaN, is a group of its own. Numbers of samples are taken as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.data.header import ShardError
from deeplense_batch.data.shard_file import open_shard, reading

__all__ = ["Groups", "SliceName", "group_numbers", "groups_of", "slice_name", "without_group"]

_SLICE = re.compile(r"^(?P<split>\w+)(?:\[(?P<start>\d{1,18}%?)?:(?P<stop>\d{1,18}%?)?\])?$")


class Groups(NamedTuple):
    """The groups of a split in packed order."""

    column: str  # of the catalogue, whose values name them
    names: tuple[str, ...]
    starts: NDArray[np.int64]  # the first sample of each

    def at(self, sample: int) -> int:
        """The number of the group of a sample."""
        return int(np.searchsorted(self.starts, sample, side="right")) - 1


class SliceName(NamedTuple):
    """The name of a slice in parts: ``val``, ``50%`` and ``100%`` of ``val[50%:]``."""

    split: str
    start: str
    stop: str

    def edges(self, samples: int, groups: Callable[[], Groups | None]) -> tuple[int, int]:
        """The sample at which the slice begins, and that before which it ends.

        Arguments:
            samples: Of the whole split.
            groups: Gives those of the split; asked only where a percentage may be moved.
        """
        texts = self.start, self.stop
        inner = any(text.endswith("%") and 0 < int(text[:-1]) < 100 for text in texts)
        found = groups() if inner else None
        return _edge(self.start, samples, found), _edge(self.stop, samples, found)


def slice_name(root: Path | str, text: str) -> SliceName:
    """Take the name of a slice of a set in a folder apart.

    Raises:
        ShardError: It is none, or goes beyond 100%.
    """
    match = _SLICE.match(text)
    if not match:
        raise ShardError(
            f"{root}: '{text}' is not a split or a slice of one, such as train, val[:50%], "
            "train[0:1000] or train[fold 3/5]"
        )
    name = SliceName(match["split"], match["start"] or "0", match["stop"] or "100%")
    for edge in name[1:]:
        if edge.endswith("%") and int(edge[:-1]) > 100:
            raise ShardError(f"{root}: '{text}' goes to {edge}; percentages end at 100%")
    return name


def groups_of(files: tuple[Path, ...], column: str) -> Groups:
    """Read the groups of a split; once, as long as its files stay as they are.

    Arguments:
        files: The shards of the split, in order.
        column: Of the catalogue.

    Raises:
        ShardError: There is no such column, or images of one group lie apart.
    """
    states = [path.stat() for path in files]
    return _groups_of(files, column, tuple((s.st_mtime_ns, s.st_size) for s in states))


@lru_cache(maxsize=16)
def _groups_of(files: tuple[Path, ...], column: str, _: tuple[tuple[int, int], ...]) -> Groups:
    values = np.concatenate([_column(path, column) for path in files])
    alone = without_group(values)
    starts = np.flatnonzero(np.append(True, (values[1:] != values[:-1]) | alone[1:]))
    names = tuple(str(name) for name in values[starts].tolist())
    known = [name for name, is_alone in zip(names, alone[starts], strict=True) if not is_alone]
    if len(set(known)) < len(known):
        twice = next(name for i, name in enumerate(known) if name in known[:i])
        raise ShardError(
            f"{files[0].parent}: the images of group '{twice}' (column {column}) lie apart, so "
            "that slices would share it; pack the images again with --group"
        )
    return Groups(column, names, starts)


def group_numbers(values: NDArray) -> NDArray[np.int64]:
    """Number the groups of images, from 0 without gaps; one without a group is one of its own.

    Arguments:
        values: Of the column that names groups, (N,) numbers or texts.

    Returns:
        Group numbers, (N,).
    """
    numbers = np.unique(values.astype(str), return_inverse=True)[1]
    alone = np.flatnonzero(without_group(values))
    numbers[alone] = len(values) + alone
    return np.unique(numbers, return_inverse=True)[1]


def without_group(values: NDArray) -> NDArray[np.bool_]:
    """Whether each value of a column names no group, (N,): "" and NaN do not."""
    if values.dtype.kind == "f":
        return np.isnan(values)
    return np.array([value == "" for value in values.tolist()], bool)


def _column(path: Path, column: str) -> NDArray:
    """The values of a column in one file, (n,) numbers or texts."""
    with open_shard(path) as file, reading(path):
        if f"catalogue/{column}" not in file:
            raise ShardError(f"{path}: is grouped by '{column}', a column that it lacks")
        values: NDArray = file[f"catalogue/{column}"][:]
    return np.array([v.decode() for v in values], object) if values.dtype == object else values


def _edge(text: str, samples: int, groups: Groups | None) -> int:
    """The sample at an edge; of a percentage the nearest that begins a group, or the end."""
    if not text.endswith("%"):
        return min(int(text), samples)
    exact = samples * int(text[:-1]) // 100
    if groups is None:
        return exact
    borders = np.append(groups.starts, samples)
    return int(borders[np.abs(borders - exact).argmin()])  # of two as near, the first
