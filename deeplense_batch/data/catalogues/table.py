"""Tables of any usual kind as pandas reads them: CSV, Parquet, FITS, VOTable, JSON, ECSV.

Whole numbers stay exact: those of a CSV are kept as its text until they are asked for, so that an
id of 19 digits, or 007, is what the file says.
"""

from __future__ import annotations

import json
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from deeplense_batch.data.catalogues.fits_tables import fits_columns, is_fits_table
from deeplense_batch.data.catalogues.separated import read_separated
from deeplense_batch.data.encoding import Array
from deeplense_batch.data.formats.images import has_fits, needs_fits
from deeplense_batch.data.formats.untrusted import gunzip
from deeplense_batch.data.header import ShardError

__all__ = [
    "REPEATED",
    "TABLES",
    "about_comma",
    "is_table",
    "kept",
    "lost_digits",
    "numbers",
    "read_table",
    "texts",
    "without_points",
]

_ASTROPY = {".vot": "votable", ".votable": "votable", ".xml": "votable", ".ecsv": "ascii.ecsv"}
_PARQUET = (".parquet", ".pq")
_JSON = (".json", ".jsonl", ".ndjson")
_TEXT = (".csv", ".tsv", ".txt")
TABLES = (*_TEXT, *_PARQUET, *_JSON, *_ASTROPY)
_MOST_EXACT = 2.0**53  # of whole numbers that float64 has
_SEVERAL = "holds several values a row"
REPEATED = "is there more than once"
_WHOLE = re.compile(r"[+-]?((0|[1-9]\d*)(\.0)?|\d(\.\d+)?e\+\d+)")  # and no code such as 007
_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")  # a decimal comma


def is_table(path: Path) -> bool:
    """Whether a file is a table by its name; one in FITS, if it holds a table and no image."""
    if not path.is_file():
        return False
    name = path.name.lower().removesuffix(".gz")
    if needs_fits(name):
        return has_fits() and is_fits_table(path)
    return name.endswith(TABLES)


def read_table(path: Path) -> pd.DataFrame:
    """Read a table, but for columns that have no one value a row, or share their name.

    Returns:
        The columns that are plain; in ``attrs["left_out"]`` the names of others, and what is so.

    Raises:
        ShardError: It cannot be read, or has no row.
    """
    try:
        table = _read(path)
    except ShardError as error:
        raise ShardError(f"{path}: {error}") from error
    except Exception as error:  # a broken file makes its reader raise anything at all
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise ShardError(f"{path}: cannot be read as a table ({text[:300]})") from error
    left_out = table.attrs.get("left_out", {})
    table.columns = pd.Index([str(name).strip() for name in table.columns])
    repeated = table.columns.duplicated(keep=False)
    left_out |= dict.fromkeys(table.columns[repeated], REPEATED)
    table = table.loc[:, ~repeated]
    table.attrs["left_out"] = left_out
    if not len(table):
        raise ShardError(f"{path}: has no row, only the columns {', '.join(table.columns)}")
    return table


def texts(column: pd.Series) -> NDArray[np.object_]:
    """A column as text without spaces around it, (N,); "" where nothing is known."""
    values = column.array.astype(object)
    known = column.notna().to_numpy()
    found = np.full(len(column), "", object)
    found[known] = [_text(value) for value in np.asarray(values, object)[known]]
    return found


def without_points(written: NDArray[np.object_]) -> NDArray[np.object_]:
    """Whole numbers that are written as floats, 4.0, as 4, if a column holds no others, (N,).

    So pandas writes a column of ids where one is missing.
    """
    if not all(_WHOLE.fullmatch(text) for text in written if text):
        return written
    return np.array([text.removesuffix(".0") for text in written], object)


def lost_digits(text: str) -> bool:
    """Whether a text is a whole number that its writer has rounded, as floats of 17 digits are."""
    match = _WHOLE.fullmatch(text)
    return bool(match) and ("e" in text or (text.endswith(".0") and float(text) >= _MOST_EXACT))


def numbers(column: pd.Series) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """A column as numbers, (N,) float64, NaN where it has none; and where it holds other text."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy(np.float64, na_value=np.nan), np.zeros(len(column), bool)
    found = texts(column)
    known = pd.to_numeric(pd.Series(found), errors="coerce").to_numpy(np.float64)
    none = np.isin(np.char.lower(found.astype(str)), ("", "nan", "null", "none", "--"))
    return known, np.isnan(known) & ~none


def about_comma(text: str) -> str:
    """What to say of a number with a decimal comma, which is read as text; "" of another text."""
    if not _COMMA.fullmatch(text):
        return ""
    return f" (a number has a decimal point, not a comma: {text.replace(',', '.')})"


def kept(column: pd.Series) -> Array:
    """A column as shards keep it: (N,) int64 or float64 if all of it are numbers, else text."""
    if column.dtype.kind in "mM":
        return texts(column)
    values, others = numbers(column)
    written = None if pd.api.types.is_numeric_dtype(column.dtype) else texts(column)
    if others.any() or (written is not None and not _plain_numbers(written)):
        return texts(column)
    whole = np.isnan(values) | (values == np.rint(values))
    if whole.all() and (written is None or not _with_points(written)):
        return _whole(column, values)
    return values


def _whole(column: pd.Series, values: NDArray[np.float64]) -> Array:
    """Whole numbers as int64, as float64 where some are missing, as text where that is inexact."""
    if column.dtype.kind == "f":
        return values
    if not np.isnan(values).any() and np.abs(values).max(initial=0) < 2.0**63:
        exact = pd.to_numeric(pd.Series(texts(column))) if column.dtype.kind in "OT" else column
        return exact.to_numpy(np.int64)
    return values if np.nanmax(np.abs(values), initial=0) <= _MOST_EXACT else texts(column)


def _plain_numbers(written: NDArray[np.object_]) -> bool:
    """Whether texts are numbers, and none a code such as 007."""
    codes = (text.lstrip("+-") for text in written if text)
    return not any(len(code) > 1 and code[0] == "0" and code[1].isdigit() for code in codes)


def _with_points(written: NDArray[np.object_]) -> bool:
    return any(not text.lstrip("+-").isdigit() for text in written if text)


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip()
    if isinstance(value, float) and value.is_integer() and abs(value) < _MOST_EXACT:
        return str(int(value))  # an id among missing ones
    return str(value).strip()


def _read(path: Path) -> pd.DataFrame:
    name = path.name.lower().removesuffix(".gz")
    suffix = Path(name).suffix
    if suffix in _PARQUET:
        return _of_arrow(pa.parquet.ParquetFile(path).read())
    if needs_fits(name) or suffix in _ASTROPY:
        return _read_astropy(path, _ASTROPY.get(suffix, "fits"))
    data = gunzip(path.read_bytes()) if name != path.name.lower() else path.read_bytes()
    if suffix in _JSON:
        return _read_json(data)
    if data.startswith(b"# %ECSV"):
        return _read_astropy(path, "ascii.ecsv")
    return read_separated(data)


def _read_json(data: bytes) -> pd.DataFrame:
    """A list of records, or a record a line; a text stays one, even if it looks like a date."""
    text = data.decode("utf-8-sig")
    records = (
        json.loads(text, object_pairs_hook=_record)
        if text.lstrip().startswith("[")
        else list(_each_json(text))
    )
    if not all(isinstance(record, dict) for record in records):
        raise ShardError('expected JSON records, such as {"id": 1}, in a list or one a line')
    names = dict.fromkeys(name for record in records for name in record)
    columns = {name: _arrow([record.get(name) for record in records]) for name in names}
    return _of_arrow(pa.table(columns))


def _each_json(text: str) -> Iterator[Any]:
    """The values of a text one after another, each on a line or over several."""
    decode, end = (
        json.JSONDecoder(object_pairs_hook=_record).raw_decode,
        len(text) - len(text.lstrip()),
    )
    while end < len(text):
        value, end = decode(text, end)
        yield value
        while end < len(text) and text[end].isspace():
            end += 1


def _arrow(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except OverflowError:  # ids of more than 63 bits
        return pa.array([None if value is None else str(value) for value in values])


def _record(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        twice = next(name for i, (name, _) in enumerate(pairs) if name in dict(pairs[:i]))
        raise ShardError(f"a record has {twice!r} more than once")
    return record


def _of_arrow(table: pa.Table) -> pd.DataFrame:
    """Numbers as numpy has them, but whole numbers with gaps exact; lists are left out."""
    nested = [field.name for field in table.schema if pa.types.is_nested(field.type)]
    empty = [field.name for field in table.schema if pa.types.is_null(field.type)]
    left_out = dict.fromkeys(nested, _SEVERAL) | dict.fromkeys(empty, "is empty in every row")
    left_out |= dict.fromkeys(_repeated(table.column_names), REPEATED)
    table = table.select([i for i, n in enumerate(table.column_names) if n not in left_out])
    gaps: dict[Any, Any] = {
        pa.int8(): pd.Int64Dtype(), pa.int16(): pd.Int64Dtype(), pa.int32(): pd.Int64Dtype(),
        pa.int64(): pd.Int64Dtype(), pa.uint8(): pd.Int64Dtype(), pa.uint16(): pd.Int64Dtype(),
        pa.uint32(): pd.Int64Dtype(), pa.uint64(): pd.UInt64Dtype(), pa.bool_(): pd.BooleanDtype(),
    }  # fmt: skip
    frame = table.to_pandas(types_mapper=gaps.get, ignore_metadata=True)
    frame.attrs["left_out"] = left_out
    return frame


def _read_astropy(path: Path, kind: str) -> pd.DataFrame:
    if not has_fits():
        raise ShardError(f"{path.suffix} needs astropy: pip install deeplense-batch[fits]")
    from astropy.table import Table

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of units that astropy does not know
        options = {"character_as_bytes": False} if kind == "fits" else {}
        if kind == "fits" and (twice := _repeated(fits_columns(path))):
            raise ShardError(f"has more than one column named {twice[0]!r}; rename one")
        table = Table.read(path, format=kind, **options)
        table.convert_bytestring_to_unicode()
        several = [name for name in table.colnames if _has_several(table[name])]
        table.remove_columns(several)
        frame = table.to_pandas(index=False)
        frame.attrs["left_out"] = dict.fromkeys(several, _SEVERAL)
        return frame


def _has_several(column: Any) -> bool:
    """Whether a column of astropy has an array in each row, of one length or of any."""
    varies = column.dtype.kind == "O" and any(isinstance(value, np.ndarray) for value in column)
    return column.ndim > 1 or varies


def _repeated(names: Sequence[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]
