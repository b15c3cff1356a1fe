"""Models side by side: finished runs grouped into what may be compared.

Only runs tested on the same samples are: those of one data digest and one test slice. Runs of one
job and model that differ in a setting are variants; those that differ in the seed alone are one
model. The best comes first, picked by validation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from deeplense_batch.rows import Row
from deeplense_batch.stats import auc_standard_error

__all__ = ["MODEL_COLUMNS", "Compared", "compare", "name_variants", "short_label"]

MODEL_COLUMNS = (
    *("job", "model", "variant", "data_digest", "test", "test_samples", "runs", "valid_auc"),
    *("auc_mean", "auc_sd", "auc_min", "auc_max", "auc_error", "accuracy_mean", "accuracy_sd"),
    *("accuracy_min", "accuracy_max", "train_seconds", "device"),
)

_LONGEST = 48  # characters of a label in a figure


@dataclass(frozen=True)
class Compared:
    """The finished runs of one model, of several seeds perhaps."""

    label: str
    runs: Sequence[Row]

    def values(self, name: str) -> list[float]:
        """One number for each run that has it."""
        return [run[name] for run in self.runs if run.get(name) is not None]

    @property
    def monitor(self) -> str:
        """The score that picks the best weights of its task."""
        return self.runs[0].get("monitor", "auc")

    @property
    def valid_score(self) -> float | None:
        """That score on the validation slice, the mean over the runs."""
        return _mean(self.values("valid_score"))

    @property
    def more(self) -> Row:
        """Means of the scores that only its task has."""
        names = dict.fromkeys(name for run in self.runs for name in run.get("more") or ())
        each = {n: [run["more"].get(n) for run in self.runs if run.get("more")] for n in names}
        return {n: _mean([v for v in values if v is not None]) for n, values in each.items()}

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of their numbers."""
        names = dict.fromkeys(name for run in self.runs for name in run)
        return [name.removeprefix("auc_") for name in names if name.startswith("auc_")]

    def row(self) -> Row:
        """Sum up the runs: mean, sd (of two or more), least and largest; None where unknown."""
        shared = ("job", "model", "variant", "data_digest", "test", "test_samples")
        row: Row = {name: self.runs[0][name] for name in shared} | {"runs": len(self.runs)}
        row["valid_auc"] = _mean(self.values("valid_auc"))
        for name in ("auc", "accuracy"):
            values = self.values(name)
            row[f"{name}_mean"] = _mean(values)
            row[f"{name}_sd"] = stdev(values) if len(values) > 1 else None
            row[f"{name}_min"] = min(values, default=None)
            row[f"{name}_max"] = max(values, default=None)
        row["auc_error"] = _auc_error(row["auc_mean"], self.runs[0])
        row |= {f"auc_{c}_mean": _mean(self.values(f"auc_{c}")) for c in self.classes}
        devices = sorted({run["device"] for run in self.runs})
        seconds = self.values("train_seconds") if len(devices) == 1 else []
        return row | {"train_seconds": _mean(seconds), "device": "; ".join(devices)}


def name_variants(rows: Sequence[Row]) -> None:
    """Tell the runs of one job and model apart by the fields that differ: they are no seeds.

    What a finished run differs in from those that it is not compared with does not count.
    """
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        alike = (row["job"], row["model"])
        groups.setdefault(alike, []).append(row)
        if row["state"] == "done" and row["test"]:
            groups.setdefault((*alike, row["data_digest"], row["test"]), []).append(row)
    for key in sorted(groups, key=len):  # the names of finished runs replace those before
        recipes = [row["recipe"] for row in groups[key] if row["recipe"]]
        fields = dict.fromkeys(field for recipe in recipes for field in recipe)
        differ = [f for f in fields if len({str(recipe.get(f)) for recipe in recipes}) > 1]
        for row in groups[key]:
            named = (f"{f}={row['recipe'][f]}" for f in differ if f in row["recipe"])
            row["variant"] = ", ".join(named) or None
    for row in rows:
        del row["recipe"]


def compare(rows: Sequence[Row]) -> list[list[Compared]]:
    """Group finished runs by what they were tested on, then by model; the best model first."""
    groups: dict[tuple[str, ...], dict[tuple[str, ...], list[Row]]] = {}
    for row in rows:
        if row["state"] == "done" and row["test"]:
            group = groups.setdefault((row["data_digest"], row["test"], row["task"] or ""), {})
            group.setdefault((row["model"], row["variant"] or "", row["job"]), []).append(row)
    comparisons = []
    for group in sorted(groups.values(), key=lambda group: -sum(map(len, group.values()))):
        jobs = Counter(names[:2] for names in group)
        models = [
            Compared(" ".join(filter(None, names if jobs[names[:2]] > 1 else names[:2])), runs)
            for names, runs in group.items()
        ]
        models.sort(key=lambda model: -(model.valid_score or 0.0))
        comparisons.append(models)
    return comparisons


def short_label(label: str, place: int) -> str:
    """A label that fits a figure: one that is too long is cut, and ends in its place."""
    number = f"… #{place}"
    return label if len(label) <= _LONGEST else label[: _LONGEST - len(number)] + number


def _auc_error(auc: float | None, run: Row) -> float | None:
    """Standard error of one class against the rest, the rarest; of classes of one size, of any."""
    classes = sum(name.startswith("auc_") for name in run)
    if auc is None or not 2 <= classes <= run["test_samples"]:
        return None
    counts = run.get("class_counts") or {"": run["test_samples"] / classes}
    positives = min(count for count in counts.values() if count)
    return auc_standard_error(auc, positives, run["test_samples"] - positives)


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
