"""Which differences between models are more than noise: intervals, and tests against the best.

There are two kinds of noise, which are reported separately. That of the *test sample*: another
draw of test images would give other scores; a paired stratified bootstrap measures how much. That
of *training*: another seed would give another network; the spread over seeds measures how much. A
model is distinguishable from the best if the test sample says so (Holm over the models) and, where
both have several seeds, the seeds say so too (Welch's test, Holm over the models).

The best is picked by validation, so its test score is not the highest of many.

References:
    Hanley and McNeil 1982, The meaning and use of the area under a ROC curve, Radiology 143, 29.
    DeLong, DeLong and Clarke-Pearson 1988, Comparing the areas under two or more correlated
    receiver operating characteristic curves, Biometrics 44, 837.
    Sun and Xu 2014, Fast implementation of DeLong's algorithm, IEEE SPL 21, 1389.
    Holm 1979, A simple sequentially rejective multiple test procedure, Scand. J. Stat. 6, 65.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata, ttest_ind

from deeplense_batch.report import bootstrap
from deeplense_batch.report.compare import ModelRuns
from deeplense_batch.report.predictions import Predictions, PredictionsError, read_predictions
from deeplense_batch.report.run_table import Row

__all__ = [
    "LEVEL",
    "auc_standard_error",
    "delong",
    "delong_difference",
    "holm",
    "infer",
    "interval",
    "sign_p_value",
]

LEVEL = 0.05  # of the tests
Resampled = dict[str, dict[str, NDArray[np.float64]]]  # (B,) by run and score
_NAMED = 5  # of models with one fault
_NO_SPREAD = 1e-9  # of a score over seeds: they were one and the same run
_NORMAL = 1.959964  # half the width of 95% of a normal distribution, in sd


def infer(
    models: Sequence[ModelRuns],
) -> tuple[list[ModelRuns], dict[str, Predictions], list[str]]:
    """Add intervals and differences to the scores of a comparison.

    Arguments:
        models: Of one comparison, the best first.

    Returns:
        The models with, under `ModelRuns.inferred`: ``<score>_low`` and ``_high``, 95% intervals;
        ``interval``, how they were found; ``difference`` of the score that picks models to that
        of the best, ``difference_low``, ``_high``; ``p_value`` and ``seed_p_value``, both after
        Holm; ``tied``, whether the model is not distinguishable from the best; ``delong``, by
        class the difference in AUC of the picked runs, its error and its p-value. The predictions
        of each model's picked run, by label. And notes on what could not be computed.
    """
    predictions, notes = _predictions(models)
    if not predictions:
        return [replace(model, inferred=_by_size(model)) for model in models], {}, notes
    resampled = _resampled(predictions)
    inferred = [
        _by_samples(resampled, model) if model.runs[0]["run"] in predictions else _by_size(model)
        for model in models
    ]
    best = models[0].picked["run"]
    if best in predictions:
        _differences(models, inferred, resampled)
        for model, row in zip(models[1:], inferred[1:], strict=True):
            if (run := model.picked["run"]) in predictions:
                row["delong"] = _delong(predictions[run], predictions[best], model.classes)
    picked = {model.label: model.picked["run"] for model in models}
    changed = [replace(m, inferred=row) for m, row in zip(models, inferred, strict=True)]
    kept = {label: predictions[run] for label, run in picked.items() if run in predictions}
    return changed, kept, notes


def auc_standard_error(auc: float, positives: float, negatives: float) -> float:
    """Estimate the standard error of one AUC from the size of the sample (Hanley, McNeil 1982)."""
    both_positive = auc / (2 - auc) - auc**2
    both_negative = 2 * auc**2 / (1 + auc) - auc**2
    variance = auc * (1 - auc) + (positives - 1) * both_positive + (negatives - 1) * both_negative
    return math.sqrt(max(variance, 0.0) / (positives * negatives))


def delong(
    positive: ArrayLike, scores: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Estimate AUCs on one sample and their covariance (DeLong et al. 1988), by midranks.

    Arguments:
        positive: Whether a sample is of the class, (N,) bool.
        scores: Of M models, (M, N); higher means more likely of the class.

    Returns:
        The areas, (M,), and their covariance, (M, M).

    Raises:
        ValueError: Fewer than two samples are of the class, or of another.
    """
    positive, values = np.asarray(positive, bool), np.atleast_2d(np.asarray(scores, np.float64))
    m, n = int(positive.sum()), int((~positive).sum())
    if min(m, n) < 2:
        raise ValueError(f"DeLong needs two samples of each kind or more, got {m} and {n}")
    ranks = rankdata(values, axis=1)
    # how often a sample beats the samples of the other kind, a tie counting one half
    wins = (ranks[:, positive] - rankdata(values[:, positive], axis=1)) / n
    losses = 1 - (ranks[:, ~positive] - rankdata(values[:, ~positive], axis=1)) / m
    covariance = np.atleast_2d(np.cov(wins)) / m + np.atleast_2d(np.cov(losses)) / n
    return wins.mean(axis=1), covariance


def delong_difference(
    positive: ArrayLike, one: ArrayLike, other: ArrayLike
) -> tuple[float, float, float]:
    """Test whether two models have the same AUC on one sample.

    Arguments:
        positive: Whether a sample is of the class, (N,) bool.
        one, other: Scores of the two models, (N,).

    Returns:
        AUC of the one less that of the other, its standard error, and the two-sided p-value;
        1 where the two never differ.

    Raises:
        ValueError: As `delong`.
    """
    areas, covariance = delong(positive, np.stack([np.asarray(one), np.asarray(other)]))
    difference = float(areas[0] - areas[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    error = math.sqrt(max(variance, 0.0))
    if error < 1e-12:  # rounding of equal numbers
        return difference, 0.0, 1.0 if abs(difference) < 1e-12 else 0.0
    return difference, error, 2 * float(norm.sf(abs(difference) / error))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values of several tests so that one false alarm in all is as rare as in one."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The central 95% interval of resampled scores, (B,), that are defined: their percentiles."""
    tail = (1 - 0.95) / 2
    low, high = np.quantile(values[np.isfinite(values)], (tail, 1 - tail))
    return float(low), float(high)


def sign_p_value(differences: NDArray[np.float64]) -> float:
    """Two-sided p-value of resampled differences, (B,): twice the share on the rarer side of 0.

    One is added to the counts, so that B resamples never claim less than 2 / (B + 1).
    """
    rarer = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (len(differences) + 1))


def _predictions(models: Sequence[ModelRuns]) -> tuple[dict[str, Predictions], list[str]]:
    """The predictions of every run, by its folder; of a model with all its runs, or none."""
    predictions: dict[str, Predictions] = {}
    faults: dict[str, list[str]] = {}
    first: Predictions | None = None
    for model in models:
        own = {}
        try:
            for run in model.runs:
                samples = read_predictions(Path(run["run"]))
                if run["learns"] in samples.classes:
                    samples = replace(samples, positive=samples.classes.index(run["learns"]))
                first = first or samples
                _check_same(samples, first)
                own[run["run"]] = replace(samples, ids=first.ids, targets=first.targets)
        except PredictionsError as error:
            faults.setdefault(str(error), []).append(model.label)
            continue
        predictions |= own
    return predictions, [_fault(reason, whose, models) for reason, whose in faults.items()]


def _fault(reason: str, whose: Sequence[str], models: Sequence[ModelRuns]) -> str:
    if len(whose) == len(models):
        return f"no bootstrap interval: {reason} (all models)"
    more = f"; and {len(whose) - _NAMED} more" if len(whose) > _NAMED else ""
    return f"no bootstrap interval: {reason} ({'; '.join(whose[:_NAMED])}{more})"


def _check_same(samples: Predictions, first: Predictions) -> None:
    same = (samples.ids, first.ids), (samples.targets, first.targets)
    if not all(np.array_equal(one, other) for one, other in same):
        raise PredictionsError("its test samples are not those of the others")


def _resampled(predictions: Mapping[str, Predictions]) -> Resampled:
    """Scores on the same resamples, (B,), by run and name."""
    wanted = [(run, *one) for run, samples in predictions.items() for one in _statistics(samples)]
    first = next(iter(predictions.values()))
    strata = first.targets if first.probabilities is not None else np.zeros(_known(first).sum())
    values = bootstrap.bootstrap([statistic for _, _, statistic in wanted], strata)
    resampled: Resampled = {run: {} for run in predictions}
    for (run, name, _), row in zip(wanted, values, strict=True):
        resampled[run][name] = row
    return resampled


def _statistics(samples: Predictions) -> list[tuple[str, bootstrap.Statistic]]:
    """The scores that get an interval, by name."""
    targets, scores = samples.targets, samples.probabilities
    if scores is None:
        assert samples.numbers is not None
        true, predicted = samples.numbers[_known(samples)].T
        return [
            ("r2", bootstrap.r2(true, predicted)),
            ("mae", bootstrap.mean_of(np.abs(predicted - true))),
        ]
    statistics = [("accuracy", bootstrap.accuracy(targets, scores))]
    if len(np.unique(targets)) > 1:
        statistics.append(("auc", bootstrap.macro_auc(targets, scores)))
    if scores.shape[1] == 2 and 0 < targets.sum() < len(targets):
        k = samples.positive
        area = bootstrap.average_precision(targets == k, scores[:, k])
        statistics.append(("average_precision", area))
    return statistics


def _known(samples: Predictions) -> NDArray[np.bool_]:
    """Samples whose true number is known, (N,)."""
    assert samples.numbers is not None
    return np.isfinite(samples.numbers[:, 0])


def _of_model(resampled: Resampled, model: ModelRuns, name: str) -> NDArray[np.float64]:
    """The mean over a model's seeds on every resample, (B,)."""
    return np.mean([resampled[run["run"]][name] for run in model.runs], axis=0)


def _by_samples(resampled: Resampled, model: ModelRuns) -> Row:
    row: Row = {"interval": "bootstrap"}
    for name in resampled[model.runs[0]["run"]]:
        low, high = interval(_of_model(resampled, model, name))
        if low < high:  # else all resamples are alike, and say nothing of the noise
            row[f"{name}_low"], row[f"{name}_high"] = low, high
    return row


def _by_size(model: ModelRuns) -> Row:
    """The interval of an AUC from the number of samples alone, where no predictions were kept."""
    auc, run = model.mean("auc"), model.runs[0]
    classes = sum(name.startswith("auc_") for name in run)
    if auc is None or not run["test_samples"] or not 2 <= classes <= run["test_samples"]:
        return {}
    counts = run.get("class_counts") or {"": run["test_samples"] / classes}
    rarest = min(count for count in counts.values() if count)
    error = _NORMAL * auc_standard_error(auc, rarest, run["test_samples"] - rarest)
    low, high = max(auc - error, 0.0), min(auc + error, 1.0)
    return {"auc_low": low, "auc_high": high, "interval": "Hanley-McNeil"}


def _differences(
    models: Sequence[ModelRuns],
    inferred: Sequence[Row],
    resampled: Resampled,
) -> None:
    """Compare every model with the first, the best; `inferred` of each is filled in."""
    best, name = models[0], models[0].monitor
    if name not in resampled[best.runs[0]["run"]]:
        return
    own = _of_model(resampled, best, name)
    inferred[0]["tied"] = True
    others = []
    for model, row in zip(models[1:], inferred[1:], strict=True):
        if name not in resampled.get(model.runs[0]["run"], {}):
            continue
        values = _of_model(resampled, model, name)
        means = model.mean(name), best.mean(name)
        if means[0] is None or means[1] is None:
            continue
        row["difference"] = means[0] - means[1]
        row["difference_low"], row["difference_high"] = interval(values - own)
        row["p_value"] = sign_p_value(values - own)
        seeds = model.values(name), best.values(name)
        if min(map(len, seeds)) > 1 and sum(map(np.ptp, seeds)) > _NO_SPREAD:
            row["seed_p_value"] = float(ttest_ind(*seeds, equal_var=False).pvalue)
        others.append(row)
    for column in ("p_value", "seed_p_value"):
        having = [row for row in others if column in row]
        for row, adjusted in zip(having, holm([row[column] for row in having]), strict=True):
            row[column] = adjusted
    for row in others:
        row["tied"] = max(row["p_value"], row.get("seed_p_value", 0.0)) >= LEVEL


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
