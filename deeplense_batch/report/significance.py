"""Which differences between models are more than noise: intervals, and one verdict for each.

A score varies with the test sample and with the training. Both kinds of noise go into one
interval and one p-value (`statistics.variance`): that of the test sample from a paired stratified
bootstrap over test images, that of the training from the spread over seeds. A difference to the
best model is *resolved* where its p-value, adjusted for the number of models (Holm), is below
`LEVEL`; else it is *not resolved*, and what could have been seen is said. Other tests are kept in
`results.json`: of the test sample alone (bootstrap, DeLong), and of the seeds alone (Welch).

Where the test images are in groups, of one object or tile, the bootstrap draws groups, and its
degrees of freedom count them. DeLong's test, and intervals from the number of samples alone, take
images for independent.

The best is picked by validation, so its test score is not the highest of many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import ttest_ind

from deeplense_batch.core.scoring.auc import auc_interval, delong_difference
from deeplense_batch.report.compare import ModelRuns
from deeplense_batch.report.predictions import Predictions
from deeplense_batch.report.run_table import Row, score_of
from deeplense_batch.report.statistics import bootstrap
from deeplense_batch.report.statistics.resamples import Resamples
from deeplense_batch.report.statistics.variance import (
    LEVEL,
    Components,
    Estimates,
    SampleNoise,
    holm,
    seeds_for,
)

__all__ = ["infer", "resampled_score", "room_of"]

Resampled = Mapping[str, Mapping[str, NDArray[np.float64]]]  # (B,) by run and score
_NAMED = 5  # of models with one fault
_FEW_GROUPS = 30  # with fewer, Cameron et al. 2008 (`bootstrap`) find too many differences
_NO_SPREAD = 1e-9  # of a score over seeds: they were one and the same run
_TESTS = ("p_value", "bootstrap_p_value", "seed_p_value")  # each adjusted over the models


def infer(
    models: Sequence[ModelRuns], resamples: Resamples | None = None
) -> tuple[list[ModelRuns], dict[str, Predictions], list[str]]:
    """Add intervals and differences to the scores of a comparison.

    Arguments:
        models: Of one comparison, the best first.
        resamples: Of their runs, where they are at hand.

    Returns:
        The models with, under `ModelRuns.inferred`, of the mean score over a model's seeds:
        ``<score>_low`` and ``_high``, 95% intervals; ``interval``, what they cover: ``samples and
        seeds``, ``samples`` (no model has two seeds) or ``Hanley-McNeil`` (by the number of
        samples, where no predictions were kept); ``difference`` of the score that picks models to
        that of the best, ``difference_low``, ``_high``, and ``p_value``, after Holm; ``resolved``,
        whether that is below 0.05; ``visible``, the least true difference that these runs show
        with a chance of 80%; ``seeds_needed``, of every model, to resolve one as large as that
        found (None: no number of seeds would); ``sample_sd``, the noise of the difference by the
        test sample, and ``seed_sd``, that of one run by its training. Of other tests
        ``bootstrap_p_value`` (test sample alone) and ``seed_p_value`` (Welch; seeds alone), both
        after Holm; ``delong``, by class the difference in AUC of the picked runs, its error and
        its p-value, not adjusted. The predictions of each model's picked run, by label. And notes
        on what could not be computed.
    """
    resamples = Resamples.of(models) if resamples is None else resamples
    predictions, resampled = resamples.predictions, resamples.scores
    notes = [_fault(reason, whose, models) for reason, whose in resamples.faults.items()]
    if not predictions:
        return [replace(model, inferred=_by_size(model)) for model in models], {}, notes
    notes += _about_groups(resamples.samples)
    inferred: list[Row] = [
        {} if model.runs[0]["run"] in predictions else _by_size(model) for model in models
    ]
    for name in dict.fromkeys(name for scores in resampled.values() for name in scores):
        having = [i for i, model in enumerate(models) if _has(resampled, model, name)]
        if having:
            some = [models[i] for i in having]
            rows = [inferred[i] for i in having]
            noise = SampleNoise.of([_of_runs(resampled, model, name) for model in some])
            scores = [model.values(name) for model in some]
            components = Components(scores, noise, resamples.freedom, room_of(name, scores))
            _intervals(name, some, rows, components, resamples)
            if name == models[0].monitor:
                notes += _compare_all(name, models, some, rows, components, resampled)
    best = models[0].picked["run"]
    for model, row in zip(models[1:], inferred[1:], strict=True):
        if best in predictions and (run := model.picked["run"]) in predictions:
            first = resamples.samples
            names = first.classes if {*first.classes} == {*model.classes} else model.classes
            row["delong"] = _delong(predictions[run], predictions[best], names)
    picked = {model.label: model.picked["run"] for model in models}
    changed = [replace(m, inferred=row) for m, row in zip(models, inferred, strict=True)]
    kept = {label: predictions[run] for label, run in picked.items() if run in predictions}
    return changed, kept, notes


def resampled_score(
    models: Sequence[ModelRuns], name: str, seed: int
) -> tuple[Mapping[str, NDArray[np.float64]], int]:
    """One score of every run on resamples of the test slice that all models share.

    Returns:
        The score, (B,), by the folder of each run, of models whose predictions are all there; and
        the degrees of freedom of its noise. Slices are drawn apart by another `seed` for each.
    """
    drawn = Resamples.of(models, only=name, seed=seed)
    if not drawn.predictions:
        return {}, 1
    scores = drawn.scores.items()
    return {run: own[name] for run, own in scores if name in own}, drawn.freedom


def _fault(reason: str, whose: Sequence[str], models: Sequence[ModelRuns]) -> str:
    if len(whose) == len(models):
        return f"no bootstrap interval: {reason} (all models)"
    more = f"; and {len(whose) - _NAMED} more" if len(whose) > _NAMED else ""
    return f"no bootstrap interval: {reason} ({'; '.join(whose[:_NAMED])}{more})"


def _about_groups(samples: Predictions) -> list[str]:
    """Say that groups are resampled, where they are."""
    if (grouping := samples.grouping) is None:
        return []
    few = "; so few groups make intervals too narrow" if grouping.number < _FEW_GROUPS else ""
    return [
        f"intervals resample {grouping.number} groups of images (column {grouping.column}), which "
        f"are not independent within one{few}"
    ]


def _has(resampled: Resampled, model: ModelRuns, name: str) -> bool:
    """Whether every run of a model has a score, and resamples of it."""
    return all(
        name in resampled.get(run["run"], {}) and score_of(run, name) is not None
        for run in model.runs
    )


def _of_runs(resampled: Resampled, model: ModelRuns, name: str) -> NDArray[np.float64]:
    """The scores of a model's runs on every resample, (runs, B)."""
    return np.stack([resampled[run["run"]][name] for run in model.runs])


def _intervals(
    name: str,
    models: Sequence[ModelRuns],
    rows: Sequence[Row],
    components: Components,
    resamples: Resamples,
) -> None:
    """Fill in the intervals of one score of every model."""
    means = components.means()
    covers = "samples" if np.isnan(means.training_sd).all() else "samples and seeds"
    numbers = zip(means.value.tolist(), means.half.tolist(), strict=True)
    for model, row, (mean, half) in zip(models, rows, numbers, strict=True):
        drawn = _of_runs(resamples.scores, model, name).mean(axis=0)
        row["interval"] = covers
        if (bounds := resamples.limits(name, mean, half, drawn)) is not None:
            row[f"{name}_low"], row[f"{name}_high"] = bounds


def _by_size(model: ModelRuns) -> Row:
    """The interval of an AUC from the number of samples alone, where no predictions were kept."""
    auc, run = model.mean("auc"), model.runs[0]
    classes = sum(name.startswith("auc_") for name in run)
    if auc is None or not run["test_samples"] or not 2 <= classes <= run["test_samples"]:
        return {}
    counts = run.get("class_counts") or {"": run["test_samples"] / classes}
    rarest = min(count for count in counts.values() if count)
    low, high = auc_interval(auc, rarest, run["test_samples"] - rarest)
    return {"auc_low": low, "auc_high": high, "interval": "Hanley-McNeil"}


def room_of(name: str, scores: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """How far mean scores are from where they cannot vary."""
    means = np.array([np.asarray(own, np.float64).mean() for own in scores])
    if name == "log_prob" or name.startswith(("psnr", "gain")):  # which have no bound
        return np.ones(len(means))
    kind = name.partition("_")[0]
    bounded = {"r2": 1 - means, "mae": means, "mse": means, "crps": means}
    return bounded.get(kind, means * (1 - means))


def _compare_all(
    name: str,
    models: Sequence[ModelRuns],
    having: Sequence[ModelRuns],
    rows: Sequence[Row],
    components: Components,
    resampled: Resampled,
) -> list[str]:
    """Compare those models that have what it takes with the best, if it has; notes."""
    if len(models) == 1:
        means = components.means()
        rows[0]["sample_sd"] = float(means.sample_sd[0])
        if np.isfinite(variance := components.training_variance[0]):
            rows[0]["seed_sd"] = float(variance**0.5)
    if having[0] is not models[0]:
        best = models[0].label
        return [f"no model is compared with the best, {best}: its predictions are not all there"]
    if len(having) > 1:
        _differences(name, having, rows, components, resampled)
    return _spreads(having, components)


def _differences(
    name: str,
    models: Sequence[ModelRuns],
    rows: Sequence[Row],
    components: Components,
    resampled: Resampled,
) -> None:
    """Compare every model with the first, the best; the row of each is filled in."""
    found, tests = components.differences(), len(models) - 1
    visible = found.visible(tests)
    own = _of_runs(resampled, models[0], name).mean(axis=0)
    for i, (model, row) in enumerate(zip(models[1:], rows[1:], strict=True), start=1):
        row |= _difference(found, components, i, tests) | {"visible": float(visible[i])}
        values = _of_runs(resampled, model, name).mean(axis=0)
        row["bootstrap_p_value"] = bootstrap.sign_p_value(values - own)
        seeds = model.values(name), models[0].values(name)
        if min(map(len, seeds)) > 1 and sum(map(np.ptp, seeds)) > _NO_SPREAD:
            row["seed_p_value"] = float(ttest_ind(*seeds, equal_var=False).pvalue)
    for test in _TESTS:
        having = [row for row in rows[1:] if test in row]
        for row, adjusted in zip(having, holm([row[test] for row in having]), strict=True):
            row[test] = adjusted
    for row in rows[1:]:
        row["resolved"] = row["p_value"] < LEVEL


def _difference(found: Estimates, components: Components, i: int, tests: int) -> Row:
    """The difference of model `i` to the best, one of so many tests, and what its noise is."""
    value, half = float(found.value[i]), float(found.half[i])
    row: Row = {"difference": value, "difference_low": value - half}
    row |= {"difference_high": value + half, "p_value": float(found.p_value[i])}
    row["sample_sd"] = float(found.sample_sd[i])
    variance = components.training_variance[[0, i]]
    if np.isfinite(variance).all():
        row["seed_sd"] = float(np.mean(variance)) ** 0.5
        pooled = 1 if components.own_spread[[0, i]].any() else tests + 1
        row["seeds_needed"] = seeds_for(
            value, *components.with_more_seeds(i), models=pooled, tests=tests
        )
    return row


def _spreads(models: Sequence[ModelRuns], components: Components) -> list[str]:
    """Name the models whose scores are spread over seeds unlike those of the others."""
    unlike = [m.label for m, own in zip(models, components.own_spread, strict=True) if own]
    if not unlike:
        return []
    return [
        f"the scores of {'; '.join(unlike)} vary far more over the seeds than those of the other "
        "models; the noise of their training is estimated from their own runs alone"
    ]


def _delong(
    samples: Predictions, best: Predictions, classes: Sequence[str]
) -> dict[str, dict[str, float]]:
    """By class, the difference in one-vs-rest AUC of two runs, its error and p-value."""
    if samples.probabilities is None or best.probabilities is None:
        return {}
    tests = {}
    for k, name in enumerate(classes):
        positive = samples.targets == k
        if min(positive.sum(), (~positive).sum()) > 1:
            scores = samples.probabilities[:, k], best.probabilities[:, k]
            difference, error, p_value = delong_difference(positive, *scores)
            tests[name] = {"difference": difference, "error": error, "p_value": p_value}
    return tests
