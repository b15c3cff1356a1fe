"""The page of a comparison in Markdown, made from its content alone (`results.json`)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from deeplense_batch.report.columns import (
    Cell,
    Column,
    model_columns,
    number,
    padded,
    table_cells,
)
from deeplense_batch.report.text import FAIRNESS

__all__ = ["page"]

_UNFINISHED = ("job", "run", "state", "epoch", "reason", "log")
_ALL = (
    *("job", "run", "variant", "state", "epoch", "valid_auc", "auc", "accuracy", "train_seconds"),
    "device",
)
_MARKUP = re.compile(r"([\\`*\[\]<>|]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")


def page(content: Mapping[str, Any]) -> str:
    """Write the page of what `results.json` holds."""
    parts = ["# Comparison of runs", content["counts"], FAIRNESS]
    if content["missing"]:
        parts.insert(1, f"**{content['missing']}**")
    parts += [_escaped(copy) for copy in content.get("copies", ())]
    for comparison in content["comparisons"]:
        parts += [f"## {_escaped(comparison['heading'])}"]
        parts += [_escaped(sentence) for sentence in comparison["sentences"]]
        parts += _tables(comparison)
        for figure in comparison["figures"]:
            parts.append(f"![{_escaped(figure['caption'])}]({figure['name']}.png)")
        for block in comparison.get("blocks", ()):
            parts += _block(block, "###")
    for block in content.get("blocks", ()):
        parts += _block(block, "##")
    unfinished = [row for row in content["rows"] if row["state"] != "done"]
    if unfinished:
        parts += ["## Runs that are not done", _table(table_cells(unfinished, _UNFINISHED))]
    return "\n\n".join([*parts, "## All runs", _table(table_cells(content["rows"], _ALL))]) + "\n"


def _block(block: Mapping[str, Any], mark: str) -> list[str]:
    """A block of the page (`studies.block`), below a title of that mark."""
    parts = [f"{mark} {_escaped(block['title'])}", *map(_escaped, block["sentences"])]
    if block["lines"]:
        parts.append(_table([block["head"], *block["lines"]]))
    figures = block["figures"]
    return parts + [f"![{_escaped(f['caption'])}]({f['name']}.png)" for f in figures]


def _tables(comparison: Mapping[str, Any]) -> list[str]:
    """The models: what everybody looks at, and folded up what few read."""
    models, columns = comparison["models"], model_columns(comparison)
    seeds = Column("runs", "seeds", [Cell(number(model["runs"], 0)) for model in models])
    tables = [_table(_lines(models, [seeds, *(c for c in columns if not c.extra)]))]
    if extras := [column for column in columns if column.extra]:
        more = _table(_lines(models, extras))
        tables += [f"<details><summary>More numbers</summary>\n\n{more}\n\n</details>"]
    return tables


def _lines(models: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> list[list[str]]:
    heads = ["#", "model", *(column.title for column in columns)]
    rows = zip(*([cell.text for cell in column.cells] for column in columns), strict=True)
    return [heads, *([*_name(m), *row] for m, row in zip(models, rows, strict=True))]


def _name(model: Mapping[str, Any]) -> tuple[str, str]:
    return str(model["place"]), " ".join(model["label"].split())


def _table(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells, the head first."""
    cells = padded([[_escaped(cell) for cell in line] for line in lines])
    head, *body = [f"| {' | '.join(line)} |" for line in cells]
    return "\n".join([head, re.sub(r"[^|]", "-", head), *body])


def _escaped(text: str) -> str:
    return _MARKUP.sub(r"\\\1", text)
