"""Text in a .csv that no spreadsheet takes for a formula.

A cell that begins with ``=``, ``+``, ``-``, ``@``, a tab or a line break is a formula to a
spreadsheet, which runs it when the file is opened. Such a text gets an apostrophe in front, which
spreadsheets hide and `plain_text` takes away again; so does a text that begins with an apostrophe
before one of these, so that every text comes back as it was. Numbers stay numbers.
"""

from __future__ import annotations

import re

__all__ = ["plain_text", "safe_text"]

_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")


def safe_text(text: str) -> str:
    """The text as a cell; a number that is written out is one, and is left alone."""
    return f"'{text}" if _FORMULA.match(text) and not _is_number(text) else text


def plain_text(cell: str) -> str:
    """The text that `safe_text` made a cell of."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell[1:]) else cell


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text) is not None
