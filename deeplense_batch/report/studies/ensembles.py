"""What the runs of one model say as one: the mean of their answers, scored without a new run.

Deep ensembles (Lakshminarayanan et al. 2017, arXiv:1612.01474): the probabilities of networks
that differ in the seed alone are averaged. Those of each are calibrated first, by what its run
fitted on its validation slice, so that none counts for more because it is too sure of itself. Of
a regression the predicted numbers are averaged.

The gain of an ensemble over its members is a difference of scores on the same images. It is
paired by the resamples of the comparison, and speaks of these networks: other seeds make another
ensemble.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.core.scoring.calibration import (
    calibration_error_floor,
    expected_calibration_error,
)
from deeplense_batch.core.scoring.ensembles import mean_answers, mean_logits
from deeplense_batch.core.scoring.metrics import (
    classification_scores,
    regression_scores,
    softmax,
)
from deeplense_batch.report.columns import score_name
from deeplense_batch.report.compare import ModelRuns
from deeplense_batch.report.predictions import (
    UNANSWERED,
    Predictions,
    PredictionsError,
    validated_of,
)
from deeplense_batch.report.run_table import Row, score_of
from deeplense_batch.report.statistics import bootstrap
from deeplense_batch.report.statistics.resamples import Resamples
from deeplense_batch.report.statistics.several_numbers import (
    averaged_numbers,
    scores_of,
    statistics_of,
)
from deeplense_batch.report.statistics.variance import LEVEL, Estimates, holm

__all__ = ["averaged", "ensembles"]

_ROUNDING = 1e-12

Array = NDArray[np.float64]


def ensembles(
    models: Sequence[ModelRuns], resamples: Resamples
) -> tuple[list[dict[str, Any]], list[str]]:
    """Score the mean answer of the runs of every model that has two or more.

    Arguments:
        models: Of one comparison, the best first.
        resamples: Of their runs.

    Returns:
        Of each ensemble: ``label`` of the model; ``members``, how many, and ``runs``, their
        folders; ``best_run``, the one that validation picks (None where no run was validated);
        ``calibrated``, how many of the members were. ``valid_score`` (None where validation
        answers were not kept). Of the test slice, for auc, accuracy, nll and ece, or r2 and mae:
        ``<score>``, ``<score>_low`` and ``_high`` (95% intervals by the test sample; None where
        that says nothing); ``ece_floor``; and the score that picks models of each member,
        ``member_scores``, of the best run, ``best_score``, and their mean, ``mean_score``.
        ``over_best`` and ``over_mean``: ``gain``, ``low``, ``high``, ``p_value`` (after Holm,
        over the models) and ``resolved``. Of posteriors the scores are r2 and log_prob, of the
        mixture.
        And notes, with no full stop at the end, on what could not be computed.
    """
    several = [model for model in models if _may_be_averaged(model, resamples)]
    monitor = models[0].monitor
    having, notes = _having(several, resamples, monitor)
    if not having:
        return [], notes
    answers = [averaged(_of(model, resamples)) for model in having]
    wanted = [(i, *one) for i, own in enumerate(answers) for one in _statistics(own).items()]
    values = resamples.draw([statistic for *_, statistic in wanted])
    drawn: list[dict[str, Array]] = [{} for _ in answers]
    for (i, name, _), row in zip(wanted, values, strict=True):
        drawn[i][name] = row
    rows = [
        _row(model, own, scores, resamples)
        for model, own, scores in zip(having, answers, drawn, strict=True)
    ]
    _add_gains(rows, [scores[monitor] for scores in drawn], resamples, monitor)
    notes += _add_valid_scores(rows, having, monitor)
    return rows, notes + _uncalibrated(rows, answers)


def averaged(members: Sequence[Predictions]) -> Predictions:
    """The mean answer of several runs to the same samples.

    Arguments:
        members: What each predicted; one that is not calibrated counts as it answered.

    Raises:
        ValueError: There is one member alone.
    """
    first = members[0]
    if first.several:
        return averaged_numbers(members)
    if first.numbers is not None:
        predicted = mean_answers([m.numbers[:, 1] for m in members if m.numbers is not None])
        return replace(first, numbers=np.stack([first.numbers[:, 0], predicted], axis=1))
    answers = [m.probabilities if m.calibrated is None else m.calibrated for m in members]
    mean = softmax(mean_logits([own for own in answers if own is not None]))
    return replace(first, probabilities=mean, calibrated=None, called=None)


def _may_be_averaged(model: ModelRuns, resamples: Resamples) -> bool:
    """Whether a model has runs that are no ensembles themselves, and answer for single images."""
    draws = any(model.label in resamples.faults.get(why, ()) for why in UNANSWERED)
    first = resamples.predictions.get(model.runs[0]["run"])
    restores = first is not None and first.measured is not None
    makes_images = draws or restores
    several = len(model.runs) > 1 and not any("ensemble" in run for run in model.runs)
    return several and not makes_images


def _having(
    models: Sequence[ModelRuns], resamples: Resamples, monitor: str
) -> tuple[list[ModelRuns], list[str]]:
    """Those whose runs have kept answers of one kind, with their scores; and why others lack."""
    why = {label: reason for reason, labels in resamples.faults.items() for label in labels}
    having: list[ModelRuns] = []
    faults: dict[str, list[str]] = {}
    for model in models:
        reason = why.get(model.label)
        if reason is None:
            own = _of(model, resamples)
            if len({samples.classes for samples in own}) > 1:
                reason = "its runs learnt different classes"
            elif not all(
                monitor in resamples.scores[run["run"]] and score_of(run, monitor) is not None
                for run in model.runs
            ):
                reason = f"{score_name(monitor)} of its answers is not defined"
        if reason is None:
            having.append(model)
        else:
            faults.setdefault(reason, []).append(model.label)
    return having, [f"no ensemble of {'; '.join(who)}: {why}" for why, who in faults.items()]


def _of(model: ModelRuns, resamples: Resamples) -> list[Predictions]:
    return [resamples.predictions[run["run"]] for run in model.runs]


def _scores(samples: Predictions) -> dict[str, float]:
    """Scores of answers, those that are defined."""
    if samples.several:
        found = scores_of(samples)
        names: Sequence[str] = ("r2", "log_prob")
    elif samples.numbers is not None:
        found = regression_scores(*samples.numbers.T)[0]
        names = ("r2", "mae")
    else:
        probabilities = samples.probabilities
        assert probabilities is not None
        found = classification_scores(samples.targets, np.log(probabilities), samples.classes)[0]
        found["ece"] = expected_calibration_error(samples.targets, probabilities)
        names = ("auc", "accuracy", "nll", "ece")
    return {name: value for name in names if (value := found.get(name)) is not None}


def _statistics(samples: Predictions) -> dict[str, bootstrap.Statistic]:
    """The scores that get an interval, by name."""
    if samples.several:
        own = statistics_of(samples)
        return {name: own[name] for name in ("r2", "log_prob") if name in own}
    if samples.numbers is not None:
        true, predicted = samples.numbers[np.isfinite(samples.numbers[:, 0])].T
        error = bootstrap.mean_of(np.abs(predicted - true))
        return {"r2": bootstrap.r2(true, predicted), "mae": error}
    targets, probabilities = samples.targets, samples.probabilities
    assert probabilities is not None
    surprise = -np.log(probabilities[np.arange(len(targets)), targets])
    found = {
        "accuracy": bootstrap.accuracy(targets, probabilities),
        "nll": bootstrap.mean_of(surprise),
        "ece": bootstrap.calibration_error(targets, probabilities),
    }
    if len(np.unique(targets)) > 1:
        found["auc"] = bootstrap.macro_auc(targets, probabilities)
    return found


def _row(
    model: ModelRuns, answers: Predictions, drawn: Mapping[str, Array], resamples: Resamples
) -> dict[str, Any]:
    """An ensemble with its scores on the test slice."""
    runs = model.runs
    best = None if model.valid_score is None else model.picked
    values = [_score(run, model.monitor) for run in runs]
    row: dict[str, Any] = {"label": model.label, "members": len(runs)}
    row |= {"runs": [run["run"] for run in runs], "best_run": best and best["run"]}
    row["calibrated"] = sum(own.calibrated is not None for own in _of(model, resamples))
    for name, value in _scores(answers).items():
        half = float(_of_sample([value], [drawn[name]], resamples).half[0])
        low, high = resamples.limits(name, value, half, drawn[name]) or (None, None)
        row |= {name: value, f"{name}_low": low, f"{name}_high": high}
    if answers.probabilities is not None:
        row["ece_floor"] = calibration_error_floor(answers.probabilities)[1]
    row |= {"member_scores": values, "mean_score": float(np.mean(values))}
    return row | {"best_score": None if best is None else _score(best, model.monitor)}


def _score(run: Row, name: str) -> float:
    value = score_of(run, name)
    assert value is not None  # `_having` has left out the others
    return value


def _of_sample(values: Sequence[float], drawn: Sequence[Array], resamples: Resamples) -> Estimates:
    """Numbers of which the noise of the test sample is known, (M,), by their resamples, (B,)."""
    error = np.array([own[np.isfinite(own)].std(ddof=1) for own in drawn])
    freedom = np.full(len(error), float(resamples.freedom))
    return Estimates(np.array(values), error, freedom, error, np.full(len(error), np.nan))


def _add_gains(
    rows: Sequence[dict[str, Any]], drawn: Sequence[Array], resamples: Resamples, monitor: str
) -> None:
    """Fill in the gain of each ensemble over its best member, and over the mean of its members."""
    for over, score in (("over_best", "best_score"), ("over_mean", "mean_score")):
        known, values, differences = [], [], []
        for row, own in zip(rows, drawn, strict=True):
            row[over] = None
            if row[score] is not None:
                runs = [row["best_run"]] if over == "over_best" else row["runs"]
                members = np.mean([resamples.scores[run][monitor] for run in runs], axis=0)
                difference = row[monitor] - row[score]
                known.append(row)
                values.append(0.0 if abs(difference) < _ROUNDING else difference)
                differences.append(own - members)
        found = _of_sample(values, differences, resamples)
        p_values = holm(found.p_value.tolist())
        numbers = zip(known, values, found.half.tolist(), p_values, strict=True)
        for row, value, half, p_value in numbers:
            row[over] = {"gain": value, "low": value - half, "high": value + half}
            row[over] |= {"p_value": p_value, "resolved": p_value < LEVEL}


def _add_valid_scores(
    rows: Sequence[dict[str, Any]], models: Sequence[ModelRuns], monitor: str
) -> list[str]:
    """Fill in the score of each ensemble on the validation slice; notes where it is not known."""
    faults: dict[str, list[str]] = {}
    for row, model in zip(rows, models, strict=True):
        row["valid_score"] = None
        try:
            row["valid_score"] = _valid_scores(model).get(monitor)
        except PredictionsError as error:
            faults.setdefault(str(error), []).append(model.label)
    return [
        f"no validation score of the ensemble of {'; '.join(labels)}: {reason}"
        for reason, labels in faults.items()
    ]


def _valid_scores(model: ModelRuns) -> dict[str, float]:
    """Scores of an ensemble on the validation slice.

    Raises:
        PredictionsError: A member has not kept its answers, or they are to other samples.
    """
    members = [validated_of(run) for run in model.runs]
    first = members[0]
    for own in members[1:]:
        same = own.classes == first.classes and np.array_equal(own.targets, first.targets)
        if not same or not np.array_equal(own.ids, first.ids):
            raise PredictionsError("its runs were validated on different samples")
    return _scores(averaged(members))


def _uncalibrated(rows: Sequence[dict[str, Any]], answers: Sequence[Predictions]) -> list[str]:
    """Name the ensembles with members that nothing calibrates."""
    classified = zip(rows, answers, strict=True)
    plain = [
        f"{row['label']} ({row['members'] - row['calibrated']} of {row['members']})"
        for row, own in classified
        if own.numbers is None and row["calibrated"] < row["members"]
    ]
    if not plain:
        return []
    return [f"members without a temperature count as they answered: {'; '.join(plain)}"]
