"""Tables beside the images, which are not read: what they hold, and how they are packed."""

from __future__ import annotations

import io
import json
import posixpath
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pyarrow.parquet

from deeplense_batch.data.catalogues.columns import flags_of_bands
from deeplense_batch.data.catalogues.fits_tables import TABLE_WORDS, fits_columns
from deeplense_batch.data.catalogues.separated import names_in_text
from deeplense_batch.data.catalogues.table import TABLES
from deeplense_batch.data.catalogues.usual import usual_columns
from deeplense_batch.data.formats.filters import without_bands
from deeplense_batch.data.formats.images import SUFFIXES, needs_fits
from deeplense_batch.data.listing.archive import Tree

__all__ = ["about_tables"]

_TABLES = (".csv", ".tsv", ".ecsv", ".parquet", ".json", ".jsonl", ".xlsx", ".xls", ".ods", ".xml",
           ".vot", ".feather", ".arrow")  # fmt: skip
_PLAIN_TABLES = (".txt", ".dat", ".cat")  # tables only if their name says so
_COMPRESSED = ("gz", "bz2", "xz", "zst")
_MOST_BYTES = 1 << 26  # of a table that is opened for its columns
_MOST_COLUMNS = 12
_IN_THEIR_PLACE = (
    "to read it, pack it in their place: --images is their folder, --pattern '{id}_{band}.fits' "
    "or the like their names"
)


def about_tables(
    root: Path, tree: Tree, others: Sequence[str], images: Sequence[str]
) -> list[str]:
    """Warn of tables beside images without labels, and give the command that reads them.

    Arguments:
        root: The source, as a command names it.
        tree: Holds the files.
        others: Names of those that are no images.
        images: Names of the images.
    """
    tables = {name: _columns_of(tree, name) for name in others if _is_table(name)}
    shown = "; ".join(f"{name} ({_shown(columns)})" for name, columns in list(tables.items())[:3])
    more = f" and {len(tables) - 3} more" if len(tables) > 3 else ""
    these = "a table, which is" if len(tables) == 1 else "tables, which are"
    warning = f"beside images without labels lies {these} not read: {shown}{more}"
    commands = (_command(root, name, columns, images) for name, columns in tables.items())
    advice = next(filter(None, commands), _IN_THEIR_PLACE)
    return [f"{warning}; {advice}"] if tables else []


def _command(root: Path, name: str, columns: Sequence[str], images: Sequence[str]) -> str:
    """The command that packs a table with the images beside it; "" where no column is known."""
    if not columns or not (needs_fits(name) or name.lower().endswith(TABLES)):
        return ""
    folder = posixpath.commonpath([posixpath.dirname(image) for image in images])
    place, table = f"{root}/{folder}" if folder else str(root), f"{root}/{name}"
    unpack = ""
    if not root.is_dir():
        unpack, place, table = f"take {name} out of {root.name}, then ", str(root), name
    files = _files(columns, images[0])
    if not files:
        return ""
    if "--path" in files:
        place = str(root)
    words = f"{unpack}pack {table} OUT --images {place} {files}"
    if labels := usual_columns(columns, "label"):
        return f"{words} --label {labels[0]} reads it, if {labels[0]} is the class"
    return f"{words} reads it; --label names its column of classes, if it has one"


def _files(columns: Sequence[str], image: str) -> str:
    """The flags that say where the files of a table are, "" where that is unknown."""
    ids, paths = (usual_columns(columns, role) for role in ("id", "path"))
    id_ = f"--id {ids[0]} " if len(ids) > 1 else ""
    if paths:
        return f"{id_}--path {paths[0]}"
    if flags := flags_of_bands(columns):
        return f"{id_}{flags}"
    if without_bands(PurePosixPath(image).name)[1]:
        return ""  # its bands are files, and how ids are part of their names is not known
    first = (ids or list(columns))[0]
    return f"--id {first} --pattern '{{id}}{_ending(image)}'"


def _ending(image: str) -> str:
    return next(suffix for suffix in sorted(SUFFIXES, key=len, reverse=True)
                if image.lower().endswith(suffix))  # fmt: skip


def _is_table(name: str) -> bool:
    lower = _unzipped(PurePosixPath(name).name.lower())
    named = lower.endswith(_PLAIN_TABLES) and any(word in lower for word in TABLE_WORDS)
    return named or needs_fits(lower) or lower.endswith(_TABLES)  # FITS files that are no images


def _unzipped(name: str) -> str:
    """The name of a file before it was compressed."""
    plain, _, ending = name.rpartition(".")
    return plain if ending in _COMPRESSED else name


def _columns_of(tree: Tree, name: str) -> list[str]:
    """Names of the columns of a table; none where they cannot be read."""
    try:
        if needs_fits(name):
            with tree.open(name) as file:
                return fits_columns(file)
        return _columns(PurePosixPath(name).suffix.lower(), tree.read(name))
    except Exception:  # a broken file makes its reader raise anything at all
        return []


def _shown(columns: Sequence[str]) -> str:
    more = ", ..." if len(columns) > _MOST_COLUMNS else ""
    listed = ", ".join(columns[:_MOST_COLUMNS])
    return f"columns {listed}{more}" if columns else "its columns cannot be shown"


def _columns(suffix: str, data: bytes) -> list[str]:
    if len(data) > _MOST_BYTES:
        return []
    if suffix == ".parquet":
        return list(pyarrow.parquet.read_schema(io.BytesIO(data)).names)
    if suffix in (".json", ".jsonl"):
        return _keys(data.decode("utf-8-sig"))
    if suffix in (".csv", ".tsv", ".ecsv", *_PLAIN_TABLES):
        return names_in_text(data)
    return []


def _keys(text: str) -> list[str]:
    """Keys of the first record of a JSON file, or of a line of it."""
    try:
        record = json.loads(text)
    except json.JSONDecodeError:
        record = json.loads(text.splitlines()[0])
    while isinstance(record, list) and record:
        record = record[0]
    return [str(key) for key in record] if isinstance(record, dict) else []
