"""The columns of a catalogue beside predictions: which ones, of which type, under which name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from deeplense_batch.core.job import nearest
from deeplense_batch.data.header import ShardError
from deeplense_batch.data.shards import Split
from deeplense_batch.data.sources.listing import Sample
from deeplense_batch.data.sources.sources import Source
from deeplense_batch.report.catalogue import arrow_column, arrow_columns

__all__ = [
    "ALL",
    "NONE",
    "Columns",
    "columns_of_files",
    "columns_of_shards",
    "without_clashes",
]

ALL, NONE = ("all",), ("none",)
_PREFIX = "catalogue_"


@dataclass(frozen=True)
class Columns:
    """The columns of the catalogue that a table has.

    Arguments:
        types: By name: int64, float64 or text.
        digest: Of the catalogue; empty where there are no columns.
    """

    types: Mapping[str, pa.DataType]
    digest: str = ""

    @property
    def question(self) -> str | None:
        """What makes a table with other columns, or other values in them, another table."""
        return f"{', '.join(self.types)} ({self.digest})" if self.types else None

    def of(self, split: Split) -> dict[str, pa.Array]:
        """The columns of a slice, each (N,); null where it lacks one."""
        own = arrow_columns(split, [name for name in split.columns() if name in self.types])
        lacking = pa.nulls(len(split), pa.string())
        return {name: own.get(name, lacking).cast(type_) for name, type_ in self.types.items()}

    def of_files(self, source: Source, samples: Sequence[Sample]) -> dict[str, pa.Array]:
        """The columns of some samples of a catalogue of files, each (N,)."""
        rows = [sample.row for sample in samples]
        return {name: arrow_column(source.columns[name][rows]) for name in self.types}


def columns_of_shards(
    place: object, slices: Sequence[Split], asked: Collection[str] = ALL
) -> Columns:
    """Choose columns of shards.

    Arguments:
        place: Where the shards are.
        slices: Of them.
        asked: Names, or `ALL` or `NONE`.

    Raises:
        ShardError: There is no such column.
    """
    found: dict[str, set[pa.DataType]] = {}
    for split in slices:
        first = Split(split.info, split.start, split.start + 1)
        for name, column in arrow_columns(first, first.columns()).items():
            found.setdefault(name, set()).add(column.type)
    names = _chosen(place, list(found), asked)
    one = {name: next(iter(found[name])) for name in names}
    types = {name: one[name] if len(found[name]) == 1 else pa.string() for name in names}
    packings = [digest for split in slices for digest in split.info.digests]
    digest = hashlib.sha256("\n".join(packings).encode()).hexdigest()[:16]
    return Columns(types, digest if types else "")


def columns_of_files(source: Source, asked: Collection[str] = ALL) -> Columns:
    """Choose columns that a catalogue of files keeps.

    Raises:
        ShardError: There is no such column.
    """
    names = _chosen(source.root, list(source.columns), asked)
    columns = {name: arrow_column(source.columns[name]) for name in names}
    digest = hashlib.sha256()
    for name, column in columns.items():
        digest.update(json.dumps([name, str(column.type), column.to_pylist()]).encode())
    types = {name: column.type for name, column in columns.items()}
    return Columns(types, digest.hexdigest()[:16] if types else "")


def _chosen(place: object, known: Sequence[str], asked: Collection[str]) -> list[str]:
    if tuple(asked) in (ALL, NONE):
        return list(known) if tuple(asked) == ALL else []
    for name in asked:
        if name not in known:
            hint = nearest(name, known) if known else "it has no catalogue"
            raise ShardError(f"--columns: {place} has no column '{name}'; {hint}")
    return list(dict.fromkeys(asked))


def without_clashes(columns: Mapping[str, pa.Array], ours: Collection[str]) -> dict[str, pa.Array]:
    """Columns of a catalogue under names that none of our own columns has."""
    taken = {*ours, *columns}
    named: dict[str, pa.Array] = {}
    for name, column in columns.items():
        shown = name
        while shown in ours or (shown != name and shown in taken):
            shown = f"{_PREFIX}{shown}"
        named[shown] = column
    return named
