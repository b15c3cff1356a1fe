"""Tables of text: which line has the names, what separates them, and the rows below it.

Lines that begin with # are comments, but the last of those above the first row may have the names,
as archives and TOPCAT write it: ``# object_id,ra,dec``.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from deeplense_batch.data.catalogues.usual import USUAL
from deeplense_batch.data.header import ShardError

__all__ = ["names_in_text", "read_separated"]

_TOO_MANY = re.compile(r"in line (\d+), saw (\d+)")  # in what pandas says


def read_separated(data: bytes) -> pd.DataFrame:
    """Every column as text; separated by commas, semicolons, tabs, bars or spaces.

    Raises:
        ShardError: A row has more values than there are names.
        Exception: It is no table.
    """
    text, options = _prepared(data.decode("utf-8-sig"))
    names = pd.read_csv(io.StringIO(text), nrows=0, **options).columns
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
    rows.columns = names
    return rows.reset_index(drop=True)


def names_in_text(data: bytes) -> list[str]:
    """Names of the columns of a table of text."""
    text, options = _prepared(data.decode("utf-8-sig", "replace"))
    return [name.strip() for name in pd.read_csv(io.StringIO(text), nrows=0, **options).columns]


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
