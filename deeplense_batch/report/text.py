"""The sentences of a comparison, for the terminal and for every kind of page.

Whoever reads a page may not have the runs at hand: it says what the data are, which code made the
numbers, how certain they are, and what they do not show.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from deeplense_batch.report.columns import score_name
from deeplense_batch.report.compare import ModelRuns
from deeplense_batch.report.run_table import Row

__all__ = ["FAIRNESS", "best_model", "heading", "sentences"]

FAIRNESS = (
    "Models are ranked by their validation score. Only runs tested on the same data (digest), the "
    "same test slice and the same task are ranked together; others have sections of their own. "
    "Seconds are compared on one device only. A model has one run for each seed: its scores are "
    "means over its runs, and sd is the standard deviation over them (n - 1), which is the noise "
    "of training. Brackets give 95% intervals, which are the noise of the test sample: a paired "
    "bootstrap within classes, 2,000 resamples, the same for all models. An interval with a * "
    "follows from the number of test samples alone (Hanley and McNeil), because no predictions "
    "were kept. Differences are to the best model by validation; p-values are adjusted for the "
    "number of models (Holm). A model is distinguishable from the best where p is below 0.05 "
    "and, where both have several seeds, Welch's test over their seeds (p of the seeds) is too. "
    "DeLong's test of single classes compares only the run that validation picks of each model "
    "with that of the best, and is not adjusted for the number of classes, so it may disagree "
    "with both."
)
_BESIDE_REAL = (
    "Scores of generated images compare them with held-out real images. The number in brackets is "
    "that of as many real training images, compared with the same held-out ones: what a perfect "
    "generator would reach."
)


def heading(models: Sequence[ModelRuns]) -> str:
    """Name a comparison: its data, slice, and its task where that is not the usual one."""
    first = models[0].runs[0]
    task = "" if first["task"] in (None, "classification") else f", {first['task']}"
    task += f" of {first['learns']}" if first["learns"] else ""
    return f"Data {first['data_digest']}, test slice {first['test']}{task}"


def best_model(models: Sequence[ModelRuns]) -> str:
    """Say which model of a comparison validation picks, and how good it is."""
    best, name = models[0], score_name(models[0].monitor)
    row = best.row()
    test = row[f"{best.monitor}_mean"]
    low, high = (row.get(f"{best.monitor}_{end}") for end in ("low", "high"))
    interval = "" if low is None else f" [{low:.4f}, {high:.4f}]"
    if best.valid_score is None:
        if test is None:
            return f"No model has a value of {name} by which to pick the best"
        return (
            f"Best by its test score, which is therefore too optimistic, since no run has a "
            f"validation score: {best.label}, {name} {test:.4f}{interval} on "
            f"{row['test_samples']} samples"
        )
    return (
        f"Best by validation: {best.label}, validation {name} {best.valid_score:.4f}, "
        f"test {name} {'-' if test is None else f'{test:.4f}'}{interval} on {row['test_samples']} "
        "samples"
    )


def sentences(models: Sequence[ModelRuns], notes: Sequence[str] = ()) -> list[str]:
    """Everything a comparison says in words, as plain text; `notes` end with no full stop."""
    return [
        f"{best_model(models)}.",
        *_equals(models),
        *_same_validation(models),
        *([_BESIDE_REAL] if any(n.endswith("_real") for m in models for n in m.more) else []),
        _data(models),
        *_run_notes(models),
        *_unlike(models),
        *(f"Note: {note}." for note in notes),
        _provenance(models),
    ]


def _same_validation(models: Sequence[ModelRuns]) -> list[str]:
    """Say where validation does not pick one model, as of images drawn in several ways by one."""
    first, *others = (model.valid_score for model in models)
    same = 1 + others.count(first)
    if first is None or same == 1:
        return []
    return [f"The first {same} models have the same validation score: it picks none of them."]


def _equals(models: Sequence[ModelRuns]) -> list[str]:
    """Say which models are not distinguishable from the best."""
    tested = [model for model in models[1:] if "tied" in model.inferred]
    if not tested:
        return []
    tied = [model.label for model in tested if model.inferred["tied"]]
    if not tied:
        if len(tested) == 1:
            return ["The other model is distinguishable from it."]
        return [f"All {len(tested)} other models are distinguishable from it."]
    some = "; ".join(tied[:12]) + (f"; and {len(tied) - 12} more" if len(tied) > 12 else "")
    return [f"Not distinguishable from it: {len(tied)} of {len(tested)} others ({some})."]


def _data(models: Sequence[ModelRuns]) -> str:
    """Say what the data of a comparison are."""
    first = models[0].runs[0]
    runs = [run for model in models for run in model.runs]
    roots = dict.fromkeys(run["data_root"] for run in runs if run["data_root"])
    sources = filter(None, (_source(root, first["data_digest"]) for root in roots))
    made = next((f", made from {source}" for source in sources), "")
    folders = ", ".join(dict.fromkeys(Path(root).name for root in roots))
    classes = ", ".join(dict.fromkeys(name for model in models for name in model.classes))
    named = f"; classes {classes}" if classes else ""
    counts = (first.get("class_counts") or {}).items()
    shares = f" ({', '.join(f'{count} {name}' for name, count in counts)})" if counts else ""
    where = f"folder {folders}" if folders else "those of another program"
    return f"Data: {where}{made}{named}; {first['test_samples']} test samples{shares}."


def _source(root: str, digest: str) -> str | None:
    """What the shards of a folder were made from; None if they are not these data (any more)."""
    from deeplense_batch.data.shards import data_digest, read_splits

    try:
        if data_digest(root) == digest:
            return next(iter(read_splits(root).values())).source
    except (ValueError, OSError, KeyError):  # elsewhere, or no shards: a report needs none
        pass
    return None


def _run_notes(models: Sequence[ModelRuns]) -> list[str]:
    """What the runs say about their scores: a line for each note, and whose it is."""
    whose: dict[str, dict[str, None]] = {}
    for model in models:
        for note in [note for run in model.runs for note in run["notes"] or ()]:
            whose.setdefault(note, {})[model.label] = None
    return [f"Note: {note} ({_whose(labels, models)})." for note, labels in whose.items()]


def _unlike(models: Sequence[ModelRuns]) -> list[str]:
    """Say where runs of one model ran under different conditions (`training.resolved`)."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for run in [run for model in models for run in model.runs if run.get("resolved")]:
        groups.setdefault((run["model"], run["variant"] or ""), []).append(run)
    notes = []
    for names, runs in groups.items():
        fields = dict.fromkeys(field for run in runs for field in run["resolved"])
        known = [run["resolved"] for run in runs]  # of earlier versions with fewer fields
        values = {f: Counter(_shown(one[f]) for one in known if f in one) for f in fields}
        unlike = [
            f"{field.replace('_', ' ')} {', '.join(f'{v} ({n})' for v, n in counts.items())}"
            for field, counts in values.items()
            if len(counts) > 1
        ]
        if unlike:
            notes.append(
                f"Note: runs of {' '.join(filter(None, names))} were carried out differently, "
                f"which is not part of their name and may change a score: {'; '.join(unlike)}."
            )
    return notes


def _shown(value: object) -> str:
    return " and ".join(map(str, value)) if isinstance(value, list) else str(value)


def _whose(labels: Collection[str], models: Sequence[ModelRuns]) -> str:
    return "all models" if len(labels) == len(models) else "; ".join(labels)


def _provenance(models: Sequence[ModelRuns]) -> str:
    """Which code made the runs, and when."""
    runs = [run for model in models for run in model.runs]
    commits = ", ".join(sorted({run["commit"] or "of unknown commit" for run in runs}))
    days = sorted({str(run["updated"])[:10] for run in runs if run["updated"]})
    when = " to ".join(dict.fromkeys((days[0], days[-1]))) if days else "at an unknown time"
    return f"Code {commits}; runs finished {when}."
