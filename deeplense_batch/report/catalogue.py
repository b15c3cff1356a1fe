"""What is known of images beside what a network says of them: an image a row.

A run keeps the catalogue of its test slice in ``catalogue.parquet``: ``id`` and the columns, in
the order of ``outputs.npz``, one that is called ``id`` as well as ``catalogue_id``; the metadata
``group`` names the column whose equal values are one object or tile. Where the data have no
catalogue there is no such file.

Beside it lies ``truth.parquet``: ``id`` and a column of each truth of one number an image. One of
two to eight numbers has as many columns, ``shear.0`` and ``shear.1``; lists and maps have none. A
truth that is called as a column of the catalogue is ``truth_mag``. The metadata ``lacking`` is
JSON: a file of the data that lacks a truth, by the name of a truth that only others have.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
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
    "TRUTH",
    "DamagedCatalogueError",
    "Grouping",
    "Known",
    "arrow_column",
    "arrow_columns",
    "keep",
    "kept",
    "kept_grouping",
    "kept_rows",
    "known_of",
    "position",
    "regrouped",
    "without_clashes",
]

FILE = "catalogue.parquet"
TRUTH = "truth.parquet"
_GROUP, _LACKING = b"group", b"lacking"
_PREFIX, _TRUTH_PREFIX = "catalogue_", "truth_"
_FEW = 8  # numbers of a truth that get a column each


class DamagedCatalogueError(ValueError):
    """The catalogue of a run cannot be read, or is of other samples."""

    exit_code = 1  # always caught: its reader names the run


class Known(NamedTuple):
    """What is known of the images of a slice: its catalogue, and its truth in columns."""

    columns: dict[str, NDArray]  # (N,) int64, float64 with NaN, or texts with "" where unknown
    lacking: dict[str, str]  # a file that lacks a truth, by the name of one that others have


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


def without_clashes(
    columns: Mapping[str, pa.Array], ours: Collection[str], prefix: str = _PREFIX
) -> dict[str, pa.Array]:
    """Columns of the data under names that none of our own columns has."""
    taken = {*ours, *columns}
    named: dict[str, pa.Array] = {}
    for name, column in columns.items():
        shown = name
        while shown in ours or (shown != name and shown in taken):
            shown = f"{prefix}{shown}"
        named[shown] = column
    return named


def keep(folder: Path, split: Split) -> None:
    """Write catalogue and truth of a test slice beside the outputs of a run.

    Where the data have no catalogue, or no truth, there is no file of it, or one of ids alone.
    """
    for name in (FILE, TRUTH):
        (folder / name).unlink(missing_ok=True)  # of an earlier attempt
    ids = {"id": pa.array(split.ids(), pa.string())}
    names = split.columns()
    columns = without_clashes(arrow_columns(split, names), ids)
    if names:
        group, shown = split.info.group, dict(zip(names, columns, strict=True))
        _write(folder / FILE, ids | columns, {_GROUP: shown.get(group, group)})
    truths, lacking = _truths(split)
    truths = without_clashes(truths, {*ids, *columns}, _TRUTH_PREFIX)
    _write(folder / TRUTH, ids | truths, {_LACKING: json.dumps(lacking)})


def known_of(split: Split) -> Known:
    """What the shards of a slice know of its images, under the names that a run keeps."""
    columns = without_clashes(arrow_columns(split, split.columns()), {"id"})
    truths, lacking = _truths(split)
    all_ = columns | without_clashes(truths, {"id", *columns}, _TRUTH_PREFIX)
    return Known({name: _values(pa.chunked_array([one])) for name, one in all_.items()}, lacking)


def kept(folder: Path, ids: NDArray[np.str_]) -> tuple[Known, bool]:
    """What a run has kept of its test samples.

    Arguments:
        folder: Run directory.
        ids: Of its test samples, (N,), in the order of its outputs.

    Returns:
        What is known; and whether their truth was kept, which earlier versions did not.

    Raises:
        DamagedCatalogueError: A file is damaged, or of other samples.
    """
    tables = {name: table for name in (FILE, TRUTH) if (table := _read(folder, name)) is not None}
    for name, table in tables.items():
        if table["id"].to_pylist() != ids.tolist():
            raise DamagedCatalogueError(f"{name} is not of the samples of outputs.npz")
    columns = {
        name: _values(column)
        for table in tables.values()
        for name, column in zip(table.column_names[1:], table.columns[1:], strict=True)
    }
    if TRUTH not in tables:
        return Known(columns, {}), False
    metadata = tables[TRUTH].schema.metadata or {}
    return Known(columns, json.loads(metadata.get(_LACKING, b"{}"))), True


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


def _truths(split: Split) -> tuple[dict[str, pa.Array], dict[str, str]]:
    """The truths of a slice as columns, (N,); and a file that lacks one which others have."""
    shapes, lacking = split.shared_truths()
    columns: dict[str, pa.Array] = {}
    for name, shape in shapes.items():
        if shape == () or shape == (1,):
            columns[name] = arrow_column(split.truth(name).reshape(-1))
        elif len(shape) == 1 and shape[0] <= _FEW:
            for k, one in enumerate(split.truth(name).T):
                columns[f"{name}.{k}"] = arrow_column(one)
    return columns, {name: str(path) for name, path in lacking.items()}


def _write(path: Path, columns: Mapping[str, pa.Array], metadata: Mapping[bytes, str]) -> None:
    temporary = files.temporary_name(path)
    pq.write_table(pa.table(dict(columns)).replace_schema_metadata(metadata), temporary)
    temporary.replace(path)


def _read(folder: Path, name: str = FILE) -> pa.Table | None:
    path = folder / name
    if not path.is_file():
        return None
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DamagedCatalogueError(f"{name} is damaged ({type(error).__name__})") from error


def regrouped(parts: Sequence[Grouping | None], order: NDArray[np.int64]) -> Grouping | None:
    """Groups of the parts of a split, which cut none, as those of all of it.

    Arguments:
        parts: Of each part; None where its samples have no groups.
        order: Places of the samples of the split among those of all parts, (N,).

    Raises:
        DamagedCatalogueError: Some have groups, others not.
    """
    known = [part for part in parts if part is not None]
    if len(known) not in (0, len(parts)):
        raise DamagedCatalogueError(
            "some of its folds have lost catalogue.parquet, others have not"
        )
    if not known:
        return None
    sizes = np.cumsum([0, *(int(part.values.max()) + 1 for part in known)])
    numbered = [part.values + size for part, size in zip(known, sizes, strict=False)]
    return Grouping(known[0].column, np.concatenate(numbered)[order])
