"""Cross-validation: the test answers of all folds of a split, pooled into one row of a model.

Runs of one job, model, variant, seed and data that differ in `data.fold` alone test each sample of
a split once, by a network that has neither learnt from it nor was picked by it. Their answers
together are scored like those of one run on the whole split (`fold_scores`), and so compared with
other models on all its samples. A mean over folds would be another number: of a small fold an AUC
is coarse, and often undefined.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any, NamedTuple

from deeplense_batch.core.sections.fold_names import FoldName
from deeplense_batch.report.predictions import PredictionsError
from deeplense_batch.report.run_table import COLUMNS, Row, members_of, score_columns
from deeplense_batch.report.studies.fold_scores import fold_scores

__all__ = ["UNPOOLED", "compared", "lacking", "name_folds", "pool"]

UNPOOLED = "Folds without a pooled score"  # the title of what `lacking` says

_SAME = (
    *("job", "task", "learns", "model", "seed", "planned_epochs", "parameters_m", "gflops"),
    *("data_digest", "data_root", "monitor"),
)
_MEANS = (
    *("valid_auc", "valid_score", "checkpoint_seconds", "other_seconds", "images_per_s"),
    *("train_seconds", "reference_hours"),
)
_MOST_SENTENCES = 12  # on single rows


class _Folds(NamedTuple):
    """What runs have in common that differ in their fold alone."""

    split: str
    of: int
    job: str
    model: str
    seed: int | None
    data: str | None  # digest, or the folder where nothing is known of it
    sets: str | None  # that are trained on together, by their content
    recipe: str


def pool(rows: Sequence[Row]) -> list[Row]:
    """Pool runs by fold.

    Arguments:
        rows: Of all runs, done or not, with their recipes (`run_table.read_rows`).

    Returns:
        A row for each model, variant and seed: ``done``, with the runs of its folds in
        ``members`` and the name of the split in ``split``; or ``planned``, where a fold is missing
        or cannot be read, with the ``reason``.
    """
    digests = {row["data_root"]: row["data_digest"] for row in rows if row["data_digest"]}
    groups: dict[_Folds, dict[int, Row]] = {}
    for row in rows:
        if (name := _fold(row)) is not None:
            data = row["data_digest"] or digests.get(row["data_root"], row["data_root"])
            recipe = {f: v for f, v in row["recipe"].items() if f != "data.fold"}
            about = repr(sorted(recipe.items()))
            uncut = row.get("uncut") or {}
            sets = uncut["digest"] if uncut.get("sets") else None
            model = row["job"], row["model"], row["seed"]
            folds = _Folds(name.split, name.of, *model, data, sets, about)
            own = groups.setdefault(folds, {})
            if own.get(name.numbers[0], {}).get("state") != "done":
                own[name.numbers[0]] = row
    return [_pooled(folds, by_number) for folds, by_number in groups.items()]


def name_folds(pooled: Sequence[Row]) -> None:
    """Say in the ``variant`` of each run that is pooled which fold it is of."""
    for row in (row for row in pooled if row["state"] == "done"):
        for number, run in enumerate(members := members_of(row), start=1):
            fold = f"data.fold={number}/{len(members)}"
            run["variant"] = ", ".join(filter(None, (fold, run["variant"])))


def compared(rows: Sequence[Row], pooled: Sequence[Row]) -> list[Row]:
    """The rows to compare: those pooled, and of runs those of no fold of a split that they cover.

    Arguments:
        rows: Of all runs.
        pooled: What `pool` made of them.
    """
    covered = {_what(row) for row in pooled if row["state"] == "done"}
    left_out = {
        member["run"] for row in pooled if _what(row) in covered for member in members_of(row)
    }
    done = [row for row in pooled if row["state"] == "done"]
    return [row for row in rows if row["run"] not in left_out] + done


def lacking(pooled: Sequence[Row]) -> list[str]:
    """Say which models have no pooled score, and why; nothing where all have one.

    Arguments:
        pooled: What `pool` gave, with their variants named.
    """
    covered = {_what(row) for row in pooled if row["state"] == "done"}
    sentences = []
    for row in (row for row in pooled if row["state"] != "done"):
        name = " ".join(filter(None, (row["model"], row["variant"])))
        left = "; its other folds are left out of the comparison" * (_what(row) in covered)
        sentences.append(
            f"No pooled score of {name}, seed {row['seed']} (job {row['job']}): {row['reason']}"
            f"{left}."
        )
    if (more := len(sentences) - _MOST_SENTENCES) > 0:
        sentences[_MOST_SENTENCES:] = [f"And {more} more have none."]
    return sentences


def _fold(row: Row) -> FoldName | None:
    """The fold that a run is tested on, where `data.fold` names it."""
    try:
        name = FoldName.parse(row["test"] or "")
    except ValueError:
        return None
    if name is None or row["recipe"].get("data.fold") != f"{name.numbers[0]}/{name.of}":
        return None
    return name


def _pooled(folds: _Folds, runs: dict[int, Row]) -> Row:
    """The row of all folds, or one that says what it lacks."""
    members = [runs[number] for number in sorted(runs)]
    first = next((run for run in members if run["state"] == "done"), members[0])
    row: Row = dict.fromkeys(COLUMNS) | {name: first.get(name) for name in _SAME}
    row["recipe"] = {f: v for f, v in first["recipe"].items() if f != "data.fold"}
    row |= {"test": f"{folds.split}, {folds.of} folds", "valid": "the next fold"}
    row |= {"run": members[0]["run"], "members": members, "split": folds.split, "notes": None}
    row["training"] = first.get("uncut")
    states: dict[str, list[str]] = {}
    for number in range(1, folds.of + 1):
        state = runs[number]["state"] if number in runs else "missing"
        states.setdefault(state, []).append(str(number))
    lacks = [f"{', '.join(which)} ({s})" for s, which in states.items() if s != "done"]
    if lacks:
        reason = f"of the {folds.of} folds of {folds.split} it lacks {' and '.join(lacks)}"
        return row | {"state": "planned", "reason": reason}
    try:
        scored = fold_scores(members)
    except PredictionsError as error:
        return row | {"state": "planned", "reason": str(error)}
    devices = sorted({run["device"] for run in members if run["device"]})
    row |= {name: _mean([run.get(name) for run in members]) for name in _MEANS}
    if len(devices) > 1:
        row["train_seconds"] = None  # no mean over devices
    trained_on = _mean([run.get("train_samples") for run in members])
    return row | score_columns(scored.scores) | {
        "state": "done",
        "notes": scored.notes,
        "test_samples": scored.samples,
        "class_counts": scored.class_counts,
        "train_samples": None if trained_on is None else round(trained_on),
        "device": "; ".join(devices) or None,
        "updated": max(run["updated"] or "" for run in members),
    }  # fmt: skip


def _what(row: Row) -> tuple[Any, ...]:
    """Of which folds a row is."""
    return row["test"], row["data_digest"] or row["data_root"]


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean of numbers of which none is unknown."""
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None
