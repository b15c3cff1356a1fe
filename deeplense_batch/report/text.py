"""What a comparison has to say in words, for the terminal and for every kind of page.

A page is read far from the runs: it says what the data are, who made the numbers, how sure they
are, and what they do not tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from deeplense_batch.report.columns import score_name
from deeplense_batch.report.compare import Compared
from deeplense_batch.report.run_table import Row

__all__ = ["FAIRNESS", "best_model", "heading", "sentences"]

FAIRNESS = (
    "Models are ranked by their validation score. Runs tested on other data (digest), on another "
    "test slice or for another task stand in separate sections and are never ranked together, nor "
    "are seconds of different devices. A model has one run for each seed: its numbers are means "
    "over its runs, and the sd is over them (n - 1), the noise of training. Intervals are 95% and "
    "of the test sample alone: a paired bootstrap within classes, 2,000 resamples, the same for "
    "all models; those marked Hanley-McNeil come from the number of samples, where no answers "
    "were kept. Differences are to the best model by validation; p-values are Holm's. DeLong's "
    "test of single classes holds the one run of a model that validation picks against that of "
    "the best, without a correction for their number, and so may differ from both."
)
_BESIDE_REAL = (
    "Generated images are held against held-out ones; in brackets stands real against real, as "
    "many training images against the same held-out ones: what a perfect generator would have."
)


def heading(models: Sequence[Compared]) -> str:
    """Name a comparison: its data, slice, and its task where that is not the usual one."""
    first = models[0].runs[0]
    task = "" if first["task"] in (None, "classification") else f", {first['task']}"
    task += f" of {first['learns']}" if first["learns"] else ""
    return f"Data {first['data_digest']}, test slice {first['test']}{task}"


def best_model(models: Sequence[Compared]) -> str:
    """Say which model of a comparison validation picks, and how good it is."""
    best, name = models[0], score_name(models[0].monitor)
    row = best.row()
    test = row[f"{best.monitor}_mean"]
    low, high = (row.get(f"{best.monitor}_{end}") for end in ("low", "high"))
    sure = "" if low is None else f" [{low:.4f}, {high:.4f}]"
    if best.valid_score is None:
        if test is None:
            return f"No {name} to pick a model by"
        return (
            f"Best by test, since nothing was validated, which flatters it: {best.label}, "
            f"{name} {test:.4f}{sure} on {row['test_samples']} samples"
        )
    return (
        f"Best by validation: {best.label}, validation {name} {best.valid_score:.4f}, "
        f"test {name} {'-' if test is None else f'{test:.4f}'}{sure} on {row['test_samples']} "
        "samples"
    )


def sentences(models: Sequence[Compared], notes: Sequence[str] = ()) -> list[str]:
    """All that is to be said of a comparison, in plain text."""
    return [
        f"{best_model(models)}.",
        *_equals(models),
        *([_BESIDE_REAL] if any(n.endswith("_real") for m in models for n in m.more) else []),
        _data(models),
        *_run_notes(models),
        *_unlike(models),
        *(f"Note: {note}." for note in notes),
        _provenance(models),
    ]


def _equals(models: Sequence[Compared]) -> list[str]:
    """Say which models the test does not tell from the best."""
    tested = [model for model in models[1:] if "tied" in model.inferred]
    if not tested:
        return []
    tied = [model.label for model in tested if model.inferred["tied"]]
    if not tied:
        return [f"All {len(tested)} other models are told from it."]
    some = "; ".join(tied[:12]) + (f"; and {len(tied) - 12} more" if len(tied) > 12 else "")
    return [f"Not distinguishable from it, {len(tied)} of {len(tested)} others: {some}."]


def _data(models: Sequence[Compared]) -> str:
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
    where = f"folder {folders}" if folders else "of another program"
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


def _run_notes(models: Sequence[Compared]) -> list[str]:
    """What the runs say about their scores: a line for each note, and whose it is."""
    whose: dict[str, dict[str, None]] = {}
    for model in models:
        for note in [note for run in model.runs for note in run["notes"] or ()]:
            whose.setdefault(note, {})[model.label] = None
    return [f"Note: {note} ({_whose(labels, models)})." for note, labels in whose.items()]


def _unlike(models: Sequence[Compared]) -> list[str]:
    """Say where runs of one model differ in what their names do not say (`resolved`)."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for run in [run for model in models for run in model.runs if run.get("resolved")]:
        groups.setdefault((run["model"], run["variant"] or ""), []).append(run)
    found = []
    for names, runs in groups.items():
        fields = dict.fromkeys(field for run in runs for field in run["resolved"])
        values = {f: Counter(_shown(run["resolved"].get(f)) for run in runs) for f in fields}
        unlike = [
            f"{field.replace('_', ' ')} {', '.join(f'{v} ({n})' for v, n in counts.items())}"
            for field, counts in values.items()
            if len(counts) > 1
        ]
        if unlike:
            found.append(
                f"Note: runs of {' '.join(filter(None, names))} were not carried out alike, which "
                f"their identity does not name and which may change a score: {'; '.join(unlike)}."
            )
    return found


def _shown(value: object) -> str:
    return " and ".join(map(str, value)) if isinstance(value, list) else str(value)


def _whose(labels: Collection[str], models: Sequence[Compared]) -> str:
    return "all models" if len(labels) == len(models) else "; ".join(labels)


def _provenance(models: Sequence[Compared]) -> str:
    """By which code the runs were made, and when."""
    runs = [run for model in models for run in model.runs]
    commits = ", ".join(sorted({run["commit"] or "of unknown commit" for run in runs}))
    days = sorted({str(run["updated"])[:10] for run in runs if run["updated"]})
    when = " to ".join(dict.fromkeys((days[0], days[-1]))) if days else "at an unknown time"
    return f"Code {commits}; runs finished {when}."
