"""The page of a comparison in Markdown, made from its content alone (`results.json`)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from deeplense_batch.report.columns import (
    model_columns,
    number,
    padded,
    score_name,
    score_text,
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
    unfinished = [row for row in content["rows"] if row["state"] != "done"]
    if unfinished:
        parts += ["## Runs that are not done", _table(table_cells(unfinished, _UNFINISHED))]
    return "\n\n".join([*parts, "## All runs", _table(table_cells(content["rows"], _ALL))]) + "\n"


def _tables(comparison: Mapping[str, Any]) -> list[str]:
    """The models: their columns, the other scores of their task, and class by class."""
    models, columns = comparison["models"], model_columns(comparison)
    heads = ["#", "model", "seeds", *(column.title for column in columns)]
    rows = zip(*([cell.text for cell in column.cells] for column in columns), strict=True)
    seeds = [number(model["runs"], 0) for model in models]
    lines = [[*_name(m), n, *row] for m, n, row in zip(models, seeds, rows, strict=True)]
    shown = {column.name for column in columns}
    others = [
        name for name in comparison["more"]
        if name not in shown and name.removesuffix("_real") not in shown
    ]  # fmt: skip
    tables = [[heads, *lines]]
    if others:
        scores = [[*_name(m), *(score_text(m.get(name)) for name in others)] for m in models]
        tables.append([["#", "model", *map(score_name, others)], *scores])
    return [_table(table) for table in [*tables, *_class_table(models)]]


def _class_table(models: Sequence[Mapping[str, Any]]) -> list[list[list[str]]]:
    """Differences to the best class by class, where single runs were tested."""
    names = dict.fromkeys(name for model in models for name in model.get("delong") or ())
    if not names:
        return []
    heads = [f"AUC {name}, difference to the best (DeLong's p)" for name in names]
    lines = []
    for model in models:
        tests = [(model.get("delong") or {}).get(name) for name in names]
        lines.append([*_name(model), *map(_test, tests)])
    return [[["#", "model", *heads], *lines]]


def _test(test: Mapping[str, float] | None) -> str:
    """A difference, its standard error, and its p-value."""
    if test is None:
        return "-"
    difference, error = number(test["difference"], signed=True), number(test["error"])
    return f"{difference} ± {error} ({test['p_value']:.2g})"


def _name(model: Mapping[str, Any]) -> tuple[str, str]:
    return str(model["place"]), " ".join(model["label"].split())


def _table(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells, the head first."""
    cells = padded([[_escaped(cell) for cell in line] for line in lines])
    head, *body = [f"| {' | '.join(line)} |" for line in cells]
    return "\n".join([head, re.sub(r"[^|]", "-", head), *body])


def _escaped(text: str) -> str:
    return _MARKUP.sub(r"\\\1", text)
