"""The user's catalogue beside what a network says: ra, dec, mag and others, an image a row.

A run keeps the catalogue of its test slice in ``catalogue.parquet``: ``id`` and the columns, in
the order of ``outputs.npz``, one that is called ``id`` as well as ``catalogue_id``; the metadata
``group`` names the column whose equal values are one object or tile. Where the data have no
catalogue there is no such file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from deeplense_batch.core import files
from deeplense_batch.data.shards import Split
from deeplense_batch.data.slices.edges import group_numbers

__all__ = [
    "FILE",
    "DamagedCatalogueError",
    "Grouping",
    "arrow_column",
    "arrow_columns",
    "keep",
    "kept_grouping",
    "kept_rows",
    "position",
    "without_clashes",
]

FILE = "catalogue.parquet"
_GROUP = b"group"
_PREFIX = "catalogue_"


class DamagedCatalogueError(ValueError):
    """The catalogue of a run cannot be read, or is of other samples."""

    exit_code = 1  # always caught: its reader names the run


class Grouping(NamedTuple):
    """Which samples of a test slice are of one object or tile."""

    column: str  # of the catalogue
    values: NDArray[np.int64]  # (N,) numbers of the groups; each sample without one has its own

    @property
    def number(self) -> int:
        """How many groups there are."""
        return len(np.unique(self.values))


def arrow_columns(split: Split, names: Iterable[str]) -> dict[str, pa.Array]:
    """Columns of a slice: int64, float64 or text, each (N,); null where a value is unknown."""
    return {name: arrow_column(split.catalogue(name)) for name in names}


def arrow_column(values: NDArray) -> pa.Array:
    """A column of numbers or texts, (N,); null where a value is NaN or an empty text."""
    if values.dtype == object:
        return pa.array([text or None for text in values.tolist()], pa.string())
    return pa.array(values, from_pandas=True)


def without_clashes(columns: Mapping[str, pa.Array], ours: Collection[str]) -> dict[str, pa.Array]:
    """Columns of the data under names that none of our own columns has."""
    taken = {*ours, *columns}
    named: dict[str, pa.Array] = {}
    for name, column in columns.items():
        shown = name
        while shown in ours or (shown != name and shown in taken):
            shown = f"{_PREFIX}{shown}"
        named[shown] = column
    return named


def keep(folder: Path, split: Split) -> None:
    """Write the catalogue of a test slice beside the outputs of a run; none where it has none."""
    path = folder / FILE
    path.unlink(missing_ok=True)  # of an earlier attempt
    names = split.columns()
    if not names:
        return
    ids = {"id": pa.array(split.ids(), pa.string())}
    columns = without_clashes(arrow_columns(split, names), ids)
    group, shown = split.info.group, dict(zip(names, columns, strict=True))
    table = pa.table(ids | columns)
    temporary = files.temporary_name(path)
    pq.write_table(table.replace_schema_metadata({_GROUP: shown.get(group, group)}), temporary)
    temporary.replace(path)


def kept_grouping(folder: Path, ids: NDArray[np.str_]) -> Grouping | None:
    """The groups of the test samples of a run; None where they have none.

    Arguments:
        folder: Run directory.
        ids: Of its test samples, (N,), in the order of its outputs.

    Raises:
        DamagedCatalogueError: The file is damaged, or of other samples.
    """
    table = _read(folder)
    column = "" if table is None else (table.schema.metadata or {}).get(_GROUP, b"").decode()
    if table is None or not column:
        return None
    if column not in table.column_names or table["id"].to_pylist() != ids.tolist():
        raise DamagedCatalogueError(f"{FILE} is not of the samples of outputs.npz")
    return Grouping(column, group_numbers(_values(table[column])))


def kept_rows(folder: Path, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What the catalogue of a run's test slice knows of some samples, by id; JSON."""
    table = _read(folder)
    if table is None:
        return {}
    place = {name: row for row, name in enumerate(table["id"].to_pylist())}
    known = [id_ for id_ in ids if id_ in place]
    rows = table.drop_columns("id").take([place[id_] for id_ in known]).to_pylist()
    return dict(zip(known, rows, strict=True))


def position(row: Mapping[str, Any]) -> str:
    """Right ascension and declination of a row, deg; nothing where it has none."""
    lower = {name.lower(): value for name, value in row.items()}
    ra, dec = lower.get("ra"), lower.get("dec")
    if not all(isinstance(value, int | float) for value in (ra, dec)):
        return ""
    return f"{ra:.5f} {dec:+.5f}"


def _values(column: pa.ChunkedArray) -> NDArray:
    """A column as `Split.catalogue` gives it, (N,): "" or NaN where it is null."""
    if pa.types.is_string(column.type):
        column = column.fill_null("")
    return column.to_numpy()


def _read(folder: Path) -> pa.Table | None:
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DamagedCatalogueError(f"{FILE} is damaged ({type(error).__name__})") from error
