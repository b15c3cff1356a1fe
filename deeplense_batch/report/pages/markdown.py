"""The page of a comparison in Markdown, made from its content alone (`results.json`)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from deeplense_batch.report.columns import beside_real, padded, score_name, table_cells, with_real
from deeplense_batch.report.run_table import Row
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
        parts += [_model_table(comparison), *_more_table(comparison), *_class_table(comparison)]
        for figure in comparison["figures"]:
            parts.append(f"![{_escaped(figure['caption'])}]({figure['name']}.png)")
    unfinished = [row for row in content["rows"] if row["state"] != "done"]
    if unfinished:
        parts += ["## Runs that are not done", _markdown(unfinished, _UNFINISHED)]
    return "\n\n".join([*parts, "## All runs", _markdown(content["rows"], _ALL)]) + "\n"


def _model_table(comparison: Mapping[str, Any]) -> str:
    """A row for each model; a column that says nothing of any is left out."""
    score = comparison["score"]
    name, told = score_name(score), dict[str, str]()
    told |= {"place": "#", "label": "model", "job": "job", "runs": "runs (seeds)"}
    told |= {"valid_score": f"valid {name}", score: f"test {name} [95%]"}
    told |= {f"{score}_sd": "sd of seeds"}
    told |= {f"auc_{c}_mean": f"AUC {c}" for c in comparison["classes"]}
    told |= {"accuracy": "accuracy [95%]", "accuracy_sd": "sd of seeds "}
    told |= {"difference": "difference [95%]", "p_value": "p", "seed_p_value": "p of seeds"}
    told |= {"tied": "told from the best", "ece": "ECE", "ece_calibrated": "ECE calibrated"}
    told |= {"train_seconds": "train seconds", "reference_hours": "reference GPU-hours"}
    told |= {"parameters_m": "parameters, M", "gflops": "GFLOPs", "device": "device"}
    rows = [
        model
        | {"tied": {True: "no", False: "yes"}.get(model.get("tied"))}
        | {cell: _with_interval(model, cell) for cell in (score, "accuracy", "difference")}
        for model in comparison["models"]
    ]
    rows[0]["tied"] = None  # it is the best
    kept = {n: head for n, head in told.items() if any(row.get(n) is not None for row in rows)}
    return _markdown([dict.fromkeys(kept) | row for row in rows], [*kept], kept)


def _with_interval(model: Mapping[str, Any], name: str) -> str | None:
    value = model.get(f"{name}_mean", model.get(name))
    if value is None:
        return None
    sign = "+" if name == "difference" else ""
    low, high = (model.get(f"{name}_{end}") for end in ("low", "high"))
    marked = "*" if name == "auc" and model.get("interval") == "Hanley-McNeil" else ""
    sure = "" if low is None else f" [{low:{sign}.4f}, {high:{sign}.4f}]{marked}"
    return f"{value:{sign}.4f}{sure}"


def _more_table(comparison: Mapping[str, Any]) -> list[str]:
    """The scores that only this task has, where there are any: means over the runs."""
    told = {"place": "#", "label": "model"}
    judged = {name: f"{name}_real" for name in with_real(comparison["models"])}
    plain = [n for n in comparison["more"] if n not in {*judged, *judged.values()}]
    tables = []
    if plain:
        columns = [*told, *plain]
        rows = [dict.fromkeys(columns) | model for model in comparison["models"]]
        tables.append(_markdown(rows, columns, told))
    if judged:
        rows = [
            {name: model[name] for name in told}
            | {name: beside_real(model, name) for name in judged}
            for model in comparison["models"]
        ]
        heads = {name: f"{score_name(name)} (real)" for name in judged}
        tables.append(_markdown(rows, [*told, *judged], told | heads))
    return tables


def _class_table(comparison: Mapping[str, Any]) -> list[str]:
    """Differences to the best class by class, where single runs were tested."""
    told = {"place": "#", "label": "model"}
    rows = []
    for model in comparison["models"]:
        row = {"place": model["place"], "label": model["label"]}
        for name, test in (model.get("delong") or {}).items():
            told[name] = f"AUC {name}, difference to the best (p of DeLong)"
            row[name] = f"{test['difference']:+.4f} ± {test['error']:.4f} ({test['p_value']:.2g})"
        rows.append(row)
    return (
        [_markdown([dict.fromkeys(told) | r for r in rows], [*told], told)]
        if len(told) > 2
        else []
    )


def _markdown(
    rows: Sequence[Row], columns: Sequence[str], heads: Mapping[str, str] | None = None
) -> str:
    cells = [[_escaped(cell) for cell in line] for line in table_cells(rows, columns, heads)]
    head, *body = [f"| {' | '.join(line)} |" for line in padded(cells)]
    return "\n".join([head, re.sub(r"[^|]", "-", head), *body])


def _escaped(text: str) -> str:
    return _MARKUP.sub(r"\\\1", text)
