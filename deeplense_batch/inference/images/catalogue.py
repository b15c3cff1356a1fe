"""The columns beside predictions: which ones, of which type, under which name.

They are those of a catalogue; of files that are not packed also ``ra``, ``dec`` and ``object`` of
FITS headers, as `pack` keeps them (`data.packing.sky`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from deeplense_batch.core.job import nearest
from deeplense_batch.data.formats.parts import NO_HEADER, Header
from deeplense_batch.data.header import ShardError
from deeplense_batch.data.listing.listing import Sample
from deeplense_batch.data.packing.sky import columns_of
from deeplense_batch.data.shards import Split
from deeplense_batch.data.sources.sources import Source
from deeplense_batch.report.catalogue import arrow_column, arrow_columns

__all__ = ["ALL", "NONE", "Columns", "columns_of_files", "columns_of_shards"]

ALL, NONE = ("all",), ("none",)
_NO_COLUMNS = "it has no catalogue, and no FITS header that says ra, dec or an object"


@dataclass(frozen=True)
class Columns:
    """The columns of a catalogue, and of the headers of images, that a table has.

    Arguments:
        types: By name: int64, float64 or text.
        digest: Of the catalogue; empty where there are no columns.
        of_headers: Names of those that no catalogue has: headers say them as images are read.
    """

    types: Mapping[str, pa.DataType]
    digest: str = ""
    of_headers: frozenset[str] = frozenset()

    @property
    def question(self) -> str | None:
        """What makes a table with other columns, or other values in them, another table."""
        return f"{', '.join(self.types)} ({self.digest})" if self.types else None

    def of(self, split: Split) -> dict[str, pa.Array]:
        """The columns of a slice, each (N,); null where it lacks one."""
        own = arrow_columns(split, [name for name in split.columns() if name in self.types])
        lacking = pa.nulls(len(split), pa.string())
        return {name: own.get(name, lacking).cast(type_) for name, type_ in self.types.items()}

    def of_files(
        self, source: Source, samples: Sequence[Sample], headers: Sequence[Header]
    ) -> dict[str, pa.Array]:
        """The columns of some samples that are files, each (N,); null where nothing is known."""
        rows = [sample.row for sample in samples]
        own = {n: source.columns[n][rows] for n in self.types if n not in self.of_headers}
        own |= columns_of(self.of_headers, headers)
        return {name: arrow_column(own[name]) for name in self.types}


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
        first = split.part(0, 1)
        for name, column in arrow_columns(first, first.columns()).items():
            found.setdefault(name, set()).add(column.type)
    names = _chosen(place, list(found), asked)
    one = {name: next(iter(found[name])) for name in names}
    types = {name: one[name] if len(found[name]) == 1 else pa.string() for name in names}
    packings = [digest for split in slices for digest in split.info.digests]
    digest = hashlib.sha256("\n".join(packings).encode()).hexdigest()[:16]
    return Columns(types, digest if types else "")


def columns_of_files(
    source: Source, asked: Collection[str] = ALL, of_headers: frozenset[str] = frozenset()
) -> Columns:
    """Choose columns of files that are not packed.

    Arguments:
        source: The files, and the columns that their catalogue keeps.
        asked: Names, or `ALL` or `NONE`.
        of_headers: Columns that headers say, and the catalogue does not.

    Raises:
        ShardError: There is no such column.
    """
    names = _chosen(source.root, [*source.columns, *sorted(of_headers)], asked)
    of_headers &= frozenset(names)
    known = {**source.columns, **columns_of(of_headers, [NO_HEADER])}
    columns = {name: arrow_column(known[name]) for name in names}
    digest = hashlib.sha256()
    for name, column in columns.items():
        digest.update(json.dumps([name, str(column.type), column.to_pylist()]).encode())
    types = {name: column.type for name, column in columns.items()}
    return Columns(types, digest.hexdigest()[:16] if types else "", of_headers)


def _chosen(place: object, known: Sequence[str], asked: Collection[str]) -> list[str]:
    if tuple(asked) in (ALL, NONE):
        return list(known) if tuple(asked) == ALL else []
    for name in asked:
        if name not in known:
            hint = nearest(name, known) if known else _NO_COLUMNS
            raise ShardError(f"--columns: {place} has no column '{name}'; {hint}")
    return list(dict.fromkeys(asked))
