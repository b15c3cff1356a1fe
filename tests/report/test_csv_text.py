"""Text in a .csv that no spreadsheet takes for a formula."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplense_batch.report.csv_text import plain_text, safe_text


@given(st.text())
def test_every_text_comes_back_from_a_cell(text):
    assert plain_text(safe_text(text)) == text
    assert not safe_text(text).startswith(("=", "@", "\t", "\r"))


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("@SUM(1)", "'@SUM(1)"),
        ("-1e-5", "-1e-5"),
        ("+3", "+3"),
        ("-cmd", "'-cmd"),
        ("'=1", "''=1"),
        ("resnet18", "resnet18"),
    ],
)
def test_formulas_are_text_and_numbers_stay_numbers(text, cell):
    assert safe_text(text) == cell
