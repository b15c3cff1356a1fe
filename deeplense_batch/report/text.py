"""The sentences of a comparison, for the terminal and for every kind of page.

Whoever reads a page may not have the runs at hand: it says what the data are, which code made the
numbers, how certain they are, and what they do not show.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from deeplense_batch.report.columns import p_value, score_name, with_interval
from deeplense_batch.report.compare import ModelRuns, equally_valid
from deeplense_batch.report.run_table import Row

__all__ = ["FAIRNESS", "best_model", "heading", "sentences"]

FAIRNESS = (
    "Models are ranked by their validation score. Only runs tested on the same data (digest) "
    "and test slice, for the same task, and validated on the same slice are ranked together; "
    "others have sections of their own. Seconds are compared on one device only. A model has "
    "one run for each seed: its scores are means over its runs, and sd is the standard "
    "deviation over them (n - 1). Brackets give 95% intervals of these means, and of "
    "differences to the best model by validation. They cover two kinds of noise: that of the "
    "test sample (a paired bootstrap within classes, 2,000 resamples, the same for all "
    "models) and that of training (the spread over seeds, pooled over the models; with one "
    "seed each, it is not covered). Scores from 0 to 1 have their intervals on the scale of "
    "the logit. An interval with a * follows from the number of test samples alone (Hanley "
    "and McNeil), because no predictions were kept. A difference is resolved where its "
    "p-value, adjusted for the number of models (Holm), is below 0.05; its interval is not "
    "adjusted. What a difference not resolved could still be, its interval says. Other "
    "training sets and other splits may give other differences: no interval covers them. "
    "Other tests are in results.json: of the test sample alone (bootstrap; DeLong, of the run "
    "that validation picks, class by class), and of the seeds alone (Welch)."
)
_TINY = 1e-9
_MOST_NAMED = 12  # models in one sentence
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
    valid = f", validated on {first['valid']}" if first.get("valid") else ""
    return f"Data {first['data_digest']}, test slice {first['test']}{valid}{task}"


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
    test_score = f"test {name} {'-' if test is None else f'{test:.4f}'}{interval}"
    if (same := equally_valid([model.valid_score for model in models])) > 1:
        return (
            f"Validation picks none of the first {same} models, which share their {name} "
            f"{best.valid_score:.4f}; the first is {best.label}, {test_score} on "
            f"{row['test_samples']} samples"
        )
    return (
        f"Best by validation: {best.label}, validation {name} {best.valid_score:.4f}, "
        f"{test_score} on {row['test_samples']} samples"
    )


def sentences(
    models: Sequence[ModelRuns], notes: Sequence[str] = (), scored: int = 0
) -> list[str]:
    """Everything a comparison says in words, as plain text.

    Arguments:
        models: Of the comparison, the best first.
        notes: More to say, with no full stop at the end.
        scored: Recipes that were ever scored on its test slice.
    """
    return [
        f"{best_model(models)}.",
        *_verdicts(models),
        *_scored(scored),
        *([_BESIDE_REAL] if any(n.endswith("_real") for m in models for n in m.more) else []),
        _data(models),
        *_again(models),
        *_run_notes(models),
        *_unlike(models),
        *(f"Note: {note}." for note in notes),
        _provenance(models),
    ]


def _verdicts(models: Sequence[ModelRuns]) -> list[str]:
    """Say which differences to the best are resolved, which are not, and what that covers."""
    tested = [model for model in models[1:] if "resolved" in model.inferred]
    if not tested:
        alone = len(models) == 1 and "sample_sd" in models[0].inferred
        return [_covered(models)] if alone else []
    name = score_name(models[0].monitor)
    said = []
    for word, sign in (("lower", -1), ("higher", 1)):
        rows = {m.label: m.inferred for m in tested if m.inferred["resolved"]}
        some = {label: row for label, row in rows.items() if sign * row["difference"] > 0}
        if some:
            named = _named([f"{label} by {_by(row, sign)}" for label, row in some.items()])
            said.append(f"{name} {word} than that of the best: {named}.")
    unresolved = [model for model in tested if not model.inferred["resolved"]]
    if unresolved:
        named = _named([f"{m.label}, {_by(m.inferred)}" for m in unresolved])
        said += [f"Not resolved: {named}.", _visible([models[0], *unresolved])]
    return [*said, _covered([models[0], *tested])]


def _by(row: Row, sign: int = 0) -> str:
    """A difference with its interval and p-value; of a known sign, how large it is."""
    numbers = [row["difference"], row["difference_low"], row["difference_high"]]
    if sign:
        numbers = [abs(numbers[0]), *sorted(sign * bound for bound in numbers[1:])]
    return f"{with_interval(*numbers, signed=not sign)}, p {p_value(row['p_value'])}"


def _named(labels: Sequence[str]) -> str:
    more = f"; and {len(labels) - _MOST_NAMED} more" if len(labels) > _MOST_NAMED else ""
    return "; ".join(labels[:_MOST_NAMED]) + more


def _visible(models: Sequence[ModelRuns]) -> str:
    """Say which differences the runs could not show, and how many would; the best model first."""
    others, samples = models[1:], models[0].runs[0]["test_samples"]
    values = [model.inferred["visible"] for model in others]
    if max(values) < _TINY:  # all runs of all models have one score
        return "These models have one and the same score."
    least = _span(values)
    one = "a difference" if " to " not in least else "differences"
    said = f"With {_counts(models)} {one} below {least} could not be seen"
    known = [model for model in others if "seeds_needed" in model.inferred]
    if not known:
        return f"{said}."
    counts = [model.inferred["seeds_needed"] for model in known]
    needed = [
        f"{'over 1,000' if count is None else count} ({model.label})"
        for model, count in zip(known, counts, strict=True)
    ]
    larger = f": {samples:,} test samples are too few" if None in counts else ""
    return (
        f"{said}; to resolve one as large as that found takes so many seeds each: "
        f"{_named(needed)}{larger}."
    )


def _covered(models: Sequence[ModelRuns]) -> str:
    """Say which noise the intervals cover."""
    rows = [model.inferred for model in (models[1:] or models)]
    what = "Intervals and p-values of differences cover" if models[1:] else "The interval covers"
    sample = f"the noise of the test sample (sd {_span([row['sample_sd'] for row in rows])})"
    spreads = [row["seed_sd"] for row in rows if "seed_sd" in row]
    if not spreads:
        one = "every model has one run, so they speak" if models[1:] else "one run speaks"
        return (
            f"{what} {sample} alone: {one} of these networks, not of their recipes. Another seed "
            "may give other results."
        )
    pooled = f"pooled over {len(models)} models, " if models[1:] else ""
    few = " Few seeds tell little of it, and make the interval wide." if not models[1:] else ""
    return (
        f"{what} {sample} and that of training (sd of one run {_span(spreads)}, {pooled}"
        f"{_counts(models)}).{few} Not covered: other training sets and splits."
    )


def _counts(models: Sequence[ModelRuns]) -> str:
    counts = sorted({len(model.runs) for model in models})
    several = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    return f"{several} seed{'' if counts[-1] == 1 else 's'} each"


def _span(values: Sequence[float]) -> str:
    """One number, or from the least to the largest."""
    ends = dict.fromkeys(f"{value:.2g}" for value in (min(values), max(values)))
    return " to ".join(ends)


def _scored(recipes: int) -> list[str]:
    """Say how often a test slice was looked at."""
    if recipes < 2:
        return []
    return [
        f"{recipes} recipes have been scored on this test slice so far, over all jobs here and "
        "all repeats: choices made by such scores make the next ones too optimistic."
    ]


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


def _again(models: Sequence[ModelRuns]) -> list[str]:
    """Say which networks were scored more than once on these images."""
    labels = [model.label for model in models if model.again]
    if not labels:
        return []
    runs = sum(len(model.again) for model in models)
    said = "1 run scores a network" if runs == 1 else f"{runs} runs score networks"
    whose = "all models" if len(labels) == len(models) else "; ".join(labels)
    return [
        f"{said} once more on the same images, which counts once ({whose}); see the table of all "
        "runs."
    ]


def _run_notes(models: Sequence[ModelRuns]) -> list[str]:
    """What the runs say about their scores: a line for each note, and whose it is."""
    whose: dict[str, dict[str, list[Row]]] = {}
    for model in models:
        for run in model.runs:
            for note in dict.fromkeys(run["notes"] or ()):
                whose.setdefault(note, {}).setdefault(model.label, []).append(run)
    return [f"Note: {note} ({_whose(runs, models)})." for note, runs in whose.items()]


def _unlike(models: Sequence[ModelRuns]) -> list[str]:
    """Say where runs of one model ran under different conditions (`training.resolved`)."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for run in [run for model in models for run in model.members if run.get("resolved")]:
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


def _whose(noted: Mapping[str, Sequence[Row]], models: Sequence[ModelRuns]) -> str:
    """The models whose runs say something, by label; with the seeds, where not all runs do."""
    some = {
        model.label: [*dict.fromkeys(str(run["seed"]) for run in noted[model.label])]
        for model in models
        if model.label in noted and len(noted[model.label]) < len(model.runs)
    }
    if not some and len(noted) == len(models):
        return "all models"
    named = [
        f"{label} seed{'s' * (len(some[label]) > 1)} {', '.join(some[label])}"
        if label in some
        else label
        for label in noted
    ]
    return "; ".join(named)


def _provenance(models: Sequence[ModelRuns]) -> str:
    """Which code made the runs, and when."""
    runs = [run for model in models for run in model.members]
    commits = ", ".join(sorted({run["commit"] or "of unknown commit" for run in runs}))
    days = sorted({str(run["updated"])[:10] for run in runs if run["updated"]})
    when = " to ".join(dict.fromkeys((days[0], days[-1]))) if days else "at an unknown time"
    return f"Code {commits}; runs finished {when}."
