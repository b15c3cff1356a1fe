"""Models side by side: finished runs, grouped by what may be compared.

Runs are compared if they were tested on the same samples for the same purpose, and validated on
the same ones: one data digest, one test slice, one task, one target and one validation slice. Runs
of one job and model that differ in a setting are variants; those that differ in the seed alone are
one model. The best by validation comes first.

A network that was scored on the same images more than once counts once (`repeated`).

`add_reference_hours` makes costs of several devices comparable, `pareto` finds the models that no
other beats at less cost.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev

from deeplense_batch.report.plots.short_names import setting_texts
from deeplense_batch.report.run_table import CollectError, Row, members_of, score_of
from deeplense_batch.report.studies.networks import SCORES
from deeplense_batch.report.trained_on import training_names

__all__ = [
    "ModelRuns",
    "add_reference_hours",
    "compare",
    "equally_valid",
    "name_variants",
    "pareto",
    "repeated",
]

_SHARED = (
    *("job", "task", "learns", "model", "variant"),
    *("data_digest", "valid", "test", "test_samples"),
)
_INFERRED = (
    *("interval", "difference", "difference_low", "difference_high", "p_value", "resolved"),
    *("visible", "seeds_needed", "sample_sd", "seed_sd", "bootstrap_p_value", "seed_p_value"),
)
_MEANS = ("train_seconds", "reference_hours", "parameters_m", "gflops")


@dataclass(frozen=True)
class ModelRuns:
    """The finished runs of one model, of several seeds perhaps."""

    label: str
    runs: Sequence[Row]
    inferred: Row = field(default_factory=dict)  # intervals and differences (`significance.infer`)
    again: Sequence[str] = ()  # folders of runs that score its networks once more (`repeated`)

    def values(self, name: str) -> list[float]:
        """One score, or another number of a row, for each run that has it."""
        values = [score_of(run, name) for run in self.runs]
        return [value for value in values if value is not None]

    def mean(self, name: str) -> float | None:
        """The mean of a number over the runs that have it."""
        return _mean(self.values(name))

    @property
    def monitor(self) -> str:
        """The score that picks the best weights of its task."""
        return self.runs[0].get("monitor") or "auc"

    @property
    def valid_score(self) -> float | None:
        """That score on the validation slice, the mean over the runs."""
        return self.mean("valid_score")

    @property
    def picked(self) -> Row:
        """The run that validation picks among the seeds."""
        scores = [run.get("valid_score") for run in self.runs]
        known = [-math.inf if score is None else score for score in scores]  # dB may be below 0
        return self.runs[known.index(max(known))]

    @property
    def more(self) -> Row:
        """Means of the scores that only its task has."""
        return {name: self.mean(name) for run in self.runs for name in run.get("more") or ()}

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of their numbers."""
        names = dict.fromkeys(name for run in self.runs for name in run)
        return [n.removeprefix("auc_") for n in names if n.startswith("auc_")]

    @property
    def members(self) -> list[Row]:
        """Its runs; of pooled folds, the runs of each."""
        return [member for run in self.runs for member in members_of(run)]

    def row(self) -> Row:
        """Sum up the runs: mean, sd (of two or more), least and largest; None where unknown."""
        row: Row = {"label": self.label} | {name: self.runs[0].get(name) for name in _SHARED}
        row |= {"runs": len(self.runs), "run": self.picked["run"], "monitor": self.monitor}
        row |= {"valid_auc": self.mean("valid_auc"), "valid_score": self.valid_score}
        for name in dict.fromkeys(("auc", "accuracy", self.monitor)):
            values = self.values(name)
            row[f"{name}_mean"] = _mean(values)
            row[f"{name}_sd"] = stdev(values) if len(values) > 1 else None
            row[f"{name}_min"] = min(values, default=None)
            row[f"{name}_max"] = max(values, default=None)
        row |= {f"auc_{c}_mean": self.mean(f"auc_{c}") for c in self.classes}
        row |= {name: self.mean(name) for name in _MEANS}
        if "members" in self.picked:
            row["folds"] = [member["run"] for member in members_of(self.picked)]
        devices = sorted({run["device"] for run in self.members if run["device"]})
        if len(devices) > 1:
            row["train_seconds"] = None  # no mean over devices
        row |= {"device": "; ".join(devices) or None, "more": self.more}
        return row | dict.fromkeys(_INFERRED) | self.inferred


def name_variants(rows: Sequence[Row]) -> None:
    """Fill in ``variant``: the fields in which runs of one job and model differ, but for the seed.

    And ``settings``, these fields with their values, but for what a run was trained on.

    Runs that were trained on several sets are told apart by these too (`trained_on`). A finished
    run is named by what differs among the runs that it is compared with.
    """
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        alike = (row["job"], row["model"])
        groups.setdefault(alike, []).append(row)
        if row["state"] == "done" and row["test"]:
            tested = (row["data_digest"], row["test"], row["learns"] or "", row["valid"] or "")
            groups.setdefault((*alike, *tested), []).append(row)
    for key in sorted(groups, key=len):  # the names of finished runs replace those before
        recipes = [row["recipe"] for row in groups[key] if row["recipe"]]
        fields = dict.fromkeys(field for recipe in recipes for field in recipe)
        differ = [f for f in fields if len({str(recipe.get(f)) for recipe in recipes}) > 1]
        trained = training_names(groups[key])
        if any(trained):  # which names the slice as well
            differ = [field for field in differ if field != "data.train"]
        texts = {f: setting_texts([row["recipe"].get(f) for row in groups[key]]) for f in differ}
        for place, (row, training) in enumerate(zip(groups[key], trained, strict=True)):
            named = [f"{f}={texts[f][place]}" for f in differ if f in row["recipe"]]
            named += [f"trained on {training}"] if training else []
            row["variant"] = ", ".join(named) or None
            row["settings"] = {
                f: row["recipe"].get(f) for f in differ if row["recipe"] and f != "data.train"
            }
    for row in rows:
        del row["recipe"]


def compare(rows: Sequence[Row]) -> list[list[ModelRuns]]:
    """Group finished runs by what they were tested on, then by model; the best model first.

    Scores on two validation slices rank nothing, so each has a comparison of its own. Results
    without validation (of other programs) go to the first of those they fit. A network that was
    scored again on the same images counts once.
    """
    again = repeated(rows)
    rows = [row for row in rows if row["run"] not in again]
    groups: dict[tuple[str, ...], dict[tuple[str, ...], list[Row]]] = {}
    first: dict[tuple[str, ...], str] = {}  # validation slice of a purpose
    for row in sorted(rows, key=lambda row: not row.get("valid")):
        if row["state"] == "done" and row["test"]:
            purpose = (row["data_digest"], row["test"], row["task"] or "", row["learns"] or "")
            valid = row.get("valid") or first.get(purpose, "")
            first.setdefault(purpose, valid)
            group = groups.setdefault((*purpose, valid), {})
            group.setdefault((row["model"], row["variant"] or "", row["job"]), []).append(row)
    comparisons = []
    for group in sorted(groups.values(), key=lambda group: -sum(map(len, group.values()))):
        jobs = Counter(names[:2] for names in group)
        models = []
        for names, runs in group.items():
            label = " ".join(filter(None, names if jobs[names[:2]] > 1 else names[:2]))
            counted = {run["run"] for run in runs}
            others = [run for run, first in again.items() if first in counted]
            models.append(ModelRuns(label, runs, again=others))
        models.sort(key=_rank)
        comparisons.append(models)
    return comparisons


def repeated(rows: Iterable[Row]) -> dict[str, str]:
    """Find evaluations of a network on images on which another run scores it too.

    Networks that draw images answer anew each time, and are left out; so is an evaluation that
    averages over the symmetries of the square where the other does not. The training counts, else
    the newest evaluation.

    Returns:
        Folders of the evaluations that do not count, and of each that of the run that does.
    """
    newest = sorted(rows, key=lambda row: str(row["updated"] or ""), reverse=True)
    counted: dict[tuple[str, ...], str] = {}
    again: dict[str, str] = {}
    for row in sorted(newest, key=lambda row: "evaluated" in row):
        network = (row.get("evaluated") or row).get("identity")
        answers = row.get("monitor") in (*SCORES, "psnr")
        if row["state"] == "done" and answers and network and row["test"]:
            names = (name for name in row if name.startswith("auc_"))
            drawn = (row.get("evaluated") or row).get("drawn")  # of a mean of samples
            what = (network, row["learns"], row.get("tta"), drawn, *sorted(names))
            key = (str(row["data_digest"]), row["test"], *map(str, what))
            first = counted.setdefault(key, row["run"])
            if first != row["run"] and "evaluated" in row:
                again[row["run"]] = first
    return again


def pareto(points: Iterable[tuple[float | None, float | None]]) -> list[bool]:
    """Which of (cost, score) are on the Pareto front: no other costs less and scores as high.

    A point that lacks a number is not.
    """
    points = list(points)
    known = [(c, -s, i) for i, (c, s) in enumerate(points) if c is not None and s is not None]
    front, last = [False] * len(points), (0.0, math.inf)
    for cost, loss, number in sorted(known):
        if loss < last[1] or (cost, loss) == last:
            front[number], last = True, (cost, loss)
    return front


def add_reference_hours(rows: Sequence[Row], bench: Path | str) -> str:
    """Fill in ``reference_hours``: images seen over the images/s that `bench` measured.

    Arguments:
        rows: Runs; those of models that were not measured stay without.
        bench: What ``bench --out`` wrote.

    Returns:
        A sentence that names the device.

    Raises:
        CollectError: The file is missing, or no result of `bench`.
    """
    try:
        content = json.loads(Path(bench).read_text(encoding="utf-8"))
        rates = {str(m["model"]): float(m["images_per_s"]) for m in content["models"]}
        device = f"{content['device']['name']} x{int(content['device']['count'])}"
    except OSError as error:
        raise CollectError(f"--bench: {bench}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise CollectError(f"--bench: {bench}: is not what 'bench --out' wrote") from None
    known = 0
    for row in rows:
        if row["state"] == "done" and row.get("train_samples") and rates.get(row["model"]):
            seen = row["train_samples"] * row["epochs"]
            row["reference_hours"] = seen / rates[row["model"]] / 3600
            known += 1
    return (
        f"Reference hours are those of {device.removesuffix(' x1')}: images seen, divided by the "
        f"images/s that it reached ({known} of {len(rows)} runs)"
    )


def equally_valid(scores: Sequence[float | None]) -> int:
    """How many of the first models, in their order, share the best validation score.

    More than one where images were drawn in several ways by one network.
    """
    if not scores or scores[0] is None:
        return 0
    return next((i for i, score in enumerate(scores) if score != scores[0]), len(scores))


def _rank(model: ModelRuns) -> tuple[float, float]:
    """By validation; models that were never validated, by test."""
    if model.valid_score is not None:
        return -model.valid_score, 0.0
    return 0.0, -(model.mean(model.monitor) or 0.0)


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
