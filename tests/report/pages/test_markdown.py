"""The page in Markdown: its tables hold whatever a name is, and what is missing is on top."""

from __future__ import annotations

import re

import pytest
from report_content import NASTY, comparison, content, model, row, usual

from deeplense_batch.report.pages.markdown import page


def tables(text):
    """Cells of each table, line by line."""
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.M)
    lines = [[re.split(r"(?<!\\)\|", line)[1:-1] for line in b.splitlines()] for b in blocks]
    return [[[cell.strip() for cell in line] for line in block] for block in lines]


@pytest.mark.parametrize("label", [*NASTY, "a|b", "_x_ and `y`", "resnet_18"])
def test_any_label_is_one_cell(label):
    text = page(content([comparison([model(1, label), model(2, "b")])], [row(0)]))
    models = tables(text)[0]
    assert len({len(line) for line in models}) == 1
    written = models[2][1]
    assert re.sub(r"\\(.)", r"\1", written) == " ".join(label.split())
    assert not re.search(r"(?<!\\)[<>*`|]", written)


def test_an_underscore_inside_a_word_stays_as_it_is():
    text = page(content([comparison([model(1, "resnet_18 _x_")])], [row(0)]))
    assert r"resnet_18 \_x\_" in text


def test_what_is_missing_is_said_before_anything_else():
    unfinished = row(1, state="failed", reason="error: a | b", job="other")
    text = page(content([comparison([model(1, "a")])], [row(0), unfinished]))
    assert text.startswith("# Comparison of runs\n\n**incomplete: 1 of 2 runs done**\n\n2 runs:")
    section = text.partition("## Runs that are not done")[2].partition("## All runs")[0]
    (table,) = tables(section)
    assert len(table) == 3 and table[2][0] == "other" and table[2][4].startswith(r"error: a \| b")


def test_where_all_is_done_nothing_is_said_to_be_missing():
    text = page(usual())
    assert "incomplete" not in text and "not done" not in text
    assert text.count("\n## ") == 2 and "\n## All runs\n" in text
    assert "![Test AUC with 95% intervals.](auc.png)" in text
    assert len(tables(text)[-1]) == 2 + 18 and len(tables(text)[0]) == 2 + 6
