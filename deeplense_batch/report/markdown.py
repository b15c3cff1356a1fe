"""The page of a comparison, Markdown.

A page is read far from the runs: it says what the data are, who made the numbers, and what they
do not tell.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deeplense_batch.report.tables import missing_runs, padded, state_counts, table_cells
from deeplense_batch.rows import Row

if TYPE_CHECKING:  # it takes a second to load, and `status` has no use for it
    from deeplense_batch.compare import Compared

__all__ = ["best_model", "page"]

_MODELS = {  # columns of the page and their heads; those of the classes come before accuracy
    "#": "#",
    "model": "model",
    "job": "job",
    "runs": "runs (seeds)",
    "valid_auc": "valid AUC, mean",
    "auc_mean": "test AUC, mean",
    "auc_sd": "test AUC, sd",
    "accuracy_mean": "accuracy, mean",
    "accuracy_sd": "accuracy, sd",
    "train_seconds": "train seconds, mean",
    "device": "device",
}
_UNFINISHED = ("job", "run", "state", "epoch", "reason", "log")
_ALL = (
    *("job", "run", "variant", "state", "epoch", "valid_auc", "auc", "accuracy", "train_seconds"),
    "device",
)
_MARKUP = re.compile(r"([\\`*\[\]<>|]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
_FAIRNESS = """\
Models are ranked by validation AUC. Runs tested on other data (digest) or on another test slice
stand in separate sections and are never ranked together, nor are seconds of different devices.
A model has one run for each seed: its numbers are means over its runs, and the sd is over them
(n - 1)."""


def page(
    rows: Sequence[Row],
    comparisons: Sequence[Sequence[Compared]],
    pictures: Sequence[Collection[str]],
) -> str:
    """Write the page.

    Arguments:
        rows: All runs.
        comparisons: The finished ones (`compare.compare`).
        pictures: File names of the figures of each comparison.
    """
    banner = [f"**{missing_runs(rows)}**"] if missing_runs(rows) else []
    parts = ["# Comparison of runs", *banner, state_counts(rows), _FAIRNESS]
    for models, drawn in zip(comparisons, pictures, strict=True):
        first = models[0].row()
        parts += [
            f"## Data {first['data_digest']}, test slice {first['test']}{_task(models)}",
            _escaped(best_model(models)) + ".",
            _escaped(_data(models)),
            _model_table(models),
            *_more_table(models),
            *_notes(models),
            _escaped(_provenance(models)),
        ]
        if first["auc_error"] is not None:
            parts.append(_noise(first))
        parts += [f"![{name}]({name})" for name in drawn]
    unfinished = [row for row in rows if row["state"] != "done"]
    if unfinished:
        parts += ["## Runs that are not done", _markdown(unfinished, _UNFINISHED)]
    return "\n\n".join([*parts, "## All runs", _markdown(rows, _ALL)]) + "\n"


def best_model(models: Sequence[Compared]) -> str:
    """Say which model of a comparison validation picks, and how good it is."""
    best = models[0]
    row, name = best.row(), best.monitor.replace("auc", "AUC")
    if best.valid_score is None:
        return f"No validation {name} to pick a model by"
    test = row["auc_mean"] if name == "AUC" else best.more.get(best.monitor)
    error = f" (standard error {row['auc_error']:.4f})" if row["auc_error"] else ""
    return (
        f"Best by validation: {best.label}, validation {name} {best.valid_score:.4f}, "
        f"test {name} {'-' if test is None else f'{test:.4f}'}{error} on {row['test_samples']} "
        "samples"
    )


def _data(models: Sequence[Compared]) -> str:
    """Say what the data of a comparison are."""
    first = models[0].runs[0]
    roots = dict.fromkeys(run["data_root"] for model in models for run in model.runs)
    sources = filter(None, (_source(root, first["data_digest"]) for root in roots))
    made = next((f", made from {source}" for source in sources), "")
    folders = ", ".join(dict.fromkeys(Path(root).name for root in roots))
    classes = ", ".join(dict.fromkeys(name for model in models for name in model.classes))
    named = f"; classes {classes}" if classes else ""
    return f"Data: folder {folders}{made}{named}; {first['test_samples']} test samples."


def _source(root: str, digest: str) -> str | None:
    """What the shards of a folder were made from; None if they are not these data (any more)."""
    from deeplense_batch.data.shards import data_digest, read_splits

    try:
        if data_digest(root) == digest:
            return next(iter(read_splits(root).values())).source
    except (ValueError, OSError, KeyError):  # elsewhere, or no shards: a report needs none
        pass
    return None


def _model_table(models: Sequence[Compared]) -> str:
    rows = [
        model.row() | {"#": place, "model": model.label}
        for place, model in enumerate(models, start=1)
    ]
    classes = dict.fromkeys(name for model in models for name in model.classes)
    each = {f"auc_{name}_mean": f"AUC {name}, mean" for name in classes}
    for row in rows:
        row |= {name: row.get(name) for name in each}
    names = [*_MODELS]
    place = names.index("auc_sd") + 1
    return _markdown(rows, [*names[:place], *each, *names[place:]], _MODELS | each)


def _more_table(models: Sequence[Compared]) -> list[str]:
    """The scores that only this task has, where there are any: means over the runs."""
    rows = [{"#": i, "model": m.label} | m.more for i, m in enumerate(models, start=1)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [_markdown([dict.fromkeys(names) | row for row in rows], names)] if names[2:] else []


def _task(models: Sequence[Compared]) -> str:
    """The task of a comparison, where it is not the usual one."""
    name = models[0].runs[0]["task"]
    return "" if name in (None, "classification") else f", {name}"


def _notes(models: Sequence[Compared]) -> list[str]:
    """What the runs say about their scores: a line for each note, and whose it is."""
    whose: dict[str, dict[str, None]] = {}
    for model in models:
        for note in [note for run in model.runs for note in run["notes"] or ()]:
            whose.setdefault(note, {})[model.label] = None
    return [
        f"**Note:** {_escaped(note)} ({_escaped(_whose(labels, models))})."
        for note, labels in whose.items()
    ]


def _whose(labels: Collection[str], models: Sequence[Compared]) -> str:
    return "all models" if len(labels) == len(models) else "; ".join(labels)


def _provenance(models: Sequence[Compared]) -> str:
    """By which code the runs were made, and when."""
    runs = [run for model in models for run in model.runs]
    commits = ", ".join(sorted({run["commit"] or "of unknown commit" for run in runs}))
    days = sorted({str(run["updated"])[:10] for run in runs if run["updated"]})
    when = " to ".join(dict.fromkeys((days[0], days[-1]))) if days else "at an unknown time"
    return f"Code {commits}; runs finished {when}."


def _noise(row: Row) -> str:
    return (
        f"On a test slice of {row['test_samples']} samples the standard error of an AUC like the "
        f"first is about {row['auc_error']:.4f} (Hanley and McNeil 1982, the rarest class against "
        "the rest): smaller differences do not rank models."
    )


def _markdown(
    rows: Sequence[Row], columns: Sequence[str], heads: Mapping[str, str] | None = None
) -> str:
    cells = [[_escaped(cell) for cell in line] for line in table_cells(rows, columns, heads)]
    head, *body = [f"| {' | '.join(line)} |" for line in padded(cells)]
    return "\n".join([head, re.sub(r"[^|]", "-", head), *body])


def _escaped(text: str) -> str:
    return _MARKUP.sub(r"\\\1", text)
