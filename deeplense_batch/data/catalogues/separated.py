"""Tables of text: which line has the names, what separates them, and the rows below it.

Lines that begin with # are comments, but the last of those above the first row may have the names,
as archives and TOPCAT write it: ``# object_id,ra,dec``.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from deeplense_batch.data.catalogues.usual import USUAL
from deeplense_batch.data.header import ShardError

__all__ = ["names_in_text", "read_separated"]

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_TOO_MANY = re.compile(r"in line (\d+), saw (\d+)")  # in what pandas says


def read_separated(data: bytes) -> pd.DataFrame:
    """Every column as text; separated by commas, semicolons, tabs, bars or spaces.

    Raises:
        ShardError: It is empty, neither in UTF-8 nor in UTF-16, or has a row of more values than
            names.
        Exception: It is no table.
    """
    text, options = _prepared(_decoded(data))
    names = _names(text, options)
    # pandas checks the width of no first row; a place more than names holds what is too much
    places = range(len(names) + 1)
    try:
        rows = pd.read_csv(io.StringIO(text), header=None, names=places, **options)[1:]
    except pd.errors.ParserError as error:
        if not (match := _TOO_MANY.search(str(error))):
            raise
        raise _too_many(f"line {match[1]} has {match[2]} values", names) from error
    surplus = rows.pop(len(names)).fillna("").str.strip()
    if surplus.any():  # separators at the ends of rows are no values
        row = int(surplus.astype(bool).to_numpy().argmax())
        raise _too_many(f"row {row + 1} ends in a surplus value {surplus.iloc[row]!r}", names)
    rows.columns = pd.Index(names)
    return rows.reset_index(drop=True)


def names_in_text(data: bytes) -> list[str]:
    """Names of the columns of a table of text."""
    return _names(*_prepared(_decoded(data)))


def _decoded(data: bytes) -> str:
    """Text in UTF-8, or in UTF-16 if its first bytes say so, as Excel writes it."""
    try:
        text = data.decode("utf-16" if data[:2] in _UTF_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ShardError(
            f"line {line} is no text in UTF-8, but perhaps in Latin-1; save the table as UTF-8"
        ) from error
    if not text.strip():
        raise ShardError("is empty")
    return text


def _names(text: str, options: dict[str, Any]) -> list[str]:
    """The names in the first line, those too that are there twice."""
    first = pd.read_csv(io.StringIO(text), header=None, nrows=1, **options).iloc[0]
    return [str(name).strip() or f"Unnamed: {i}" for i, name in enumerate(first)]


def _too_many(where: str, names: Sequence[str]) -> ShardError:
    return ShardError(
        f"{where}, but only {len(names)} columns have names; a text with a separator in it needs "
        "quotes"
    )


def _prepared(text: str) -> tuple[str, dict[str, Any]]:
    """A text whose first line has the names, without comments; and how pandas reads it.

    The lines keep their numbers, which errors give.
    """
    lines = list(io.StringIO(text, newline="")) or [""]
    first = next((i for i, line in enumerate(lines) if line.strip() and line[0] != "#"), 0)
    head = next((i for i in reversed(range(first)) if lines[i].strip()), first)
    named = lines[head].removeprefix("#").lstrip(" \t")
    if head < first and _are_names(_fields(named), _fields(lines[first])):
        lines[head] = named if _fields(named)[0] else lines[head]  # a column may be called #
    else:
        head = first
    separator = _separator(lines[head]) or r"\s+"
    options = {
        "sep": separator, "dtype": str, "keep_default_na": False, "skipinitialspace": True,
        "index_col": False, "quoting": csv.QUOTE_MINIMAL, "on_bad_lines": "error",
    }  # fmt: skip
    return "".join([*"\n" * head, lines[head], *_without_comments(lines[head + 1 :])]), options


def _are_names(fields: Sequence[str], row: Sequence[str]) -> bool:
    """Whether the fields of a comment are the names of the columns, and the row below is data."""
    if len(fields) != len(row) or any(map(_is_number, fields)) or any(map(_is_usual, row)):
        return False
    return any(not field or _is_number(field) for field in row) or any(map(_is_usual, fields))


def _is_usual(name: str) -> bool:
    return any(name.lower() in names for names in USUAL.values())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _fields(line: str) -> list[str]:
    separator = _separator(line)
    found = next(csv.reader([line], delimiter=separator)) if separator else line.split()
    return [field.strip() for field in found] or [""]


def _separator(line: str) -> str:
    """The one that a line has most of, "" for spaces."""
    found = max((",", "\t", ";", "|"), key=line.count)
    return found if found in line else ""


def _without_comments(lines: Sequence[str]) -> Iterator[str]:
    """Lines, those of comments empty; within quotes a line that begins with # is none."""
    quoted = False
    for line in lines:
        if line.startswith("#") and not quoted:
            yield "\n"
            continue
        quoted ^= line.count('"') % 2 == 1
        yield line
