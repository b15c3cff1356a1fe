"""The scores of several networks on parts of a split, as if one had answered for all of it.

Outputs are put together as they are: the AUC then compares outputs of different networks, which
differ in scale, and is rather too low than too high. What each network found on its own validation
fold, temperature or threshold, is applied to its own answers alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.core.scoring import calibration, detection, metrics
from deeplense_batch.core.scoring.posteriors import numbers
from deeplense_batch.report.predictions import (
    PredictionsError,
    calibrated_logits,
    called_positive,
    read_outputs,
)
from deeplense_batch.report.run_table import Row, score_columns, score_of

__all__ = ["FoldScores", "fold_scores"]

Arrays = dict[str, NDArray[Any]]
Scores = dict[str, float | None]


class FoldScores(NamedTuple):
    """What the answers of all folds are worth."""

    scores: Scores  # by their names in `metrics.json`
    notes: list[str]
    samples: int  # that were scored
    class_counts: dict[str, int]


def fold_scores(rows: Sequence[Row]) -> FoldScores:
    """Score the outputs of runs that were tested on the folds of a split.

    Arguments:
        rows: Of the runs, in the order of their folds (`run_table`).

    Raises:
        PredictionsError: The outputs of a run cannot be read, or two hold one sample.
    """
    parts = []
    for number, row in enumerate(rows, start=1):
        try:
            parts.append(_answers(row))
        except PredictionsError as error:
            raise PredictionsError(f"of fold {number} of {len(rows)} {error}") from None
    classes = parts[0]["classes"].tolist()
    if any(part["classes"].tolist() != classes for part in parts):
        raise PredictionsError("its folds were tested on different classes")
    together = _together(parts)
    scores, notes = _scores(together, classes, rows[0])
    notes = [_about(len(rows), scores), *notes, *_other_notes(rows, parts, classes)]
    # Of one network: no number stands for all.
    names = dict.fromkeys(name for row in rows for name in _names(row) if name not in scores)
    if names:
        notes.append(f"each network has its own {', '.join(names)}, which no pooled score has")
    known = together["true"] if "true" in together else together["targets"]
    if "quantities" in together:
        each = np.isfinite(known)
        known = np.where(each.all(1) if "log_prob" in together else each.any(1), 1.0, np.nan)
    targets = together["targets"]
    counts = np.bincount(targets[targets >= 0], minlength=len(classes)).tolist()
    return FoldScores(
        scores, notes, int(np.isfinite(known).sum()), dict(zip(classes, counts, strict=True))
    )


def _answers(row: Row) -> Arrays:
    """What a run gave for its fold, with what it called a lens and its calibrated logits."""
    arrays = read_outputs(Path(row["run"]))
    if "logits" not in arrays and not {"true", "predicted"} <= arrays.keys():
        raise PredictionsError("its outputs are no predictions of single samples")
    if "logits" not in arrays:
        return arrays
    logits, classes = arrays["logits"].astype(np.float64), arrays["classes"].tolist()
    found = {
        "honest": calibrated_logits(logits, classes, row),
        "called": called_positive(metrics.softmax(logits), classes, row),
    }
    return arrays | {name: values for name, values in found.items() if values is not None}


def _together(parts: Sequence[Arrays]) -> Arrays:
    """The arrays that all have, (N, ...), by id; each sample once. And ``quantities``, names."""
    shared = set.intersection(*(set(part) for part in parts)) - {"classes", "quantities"}
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in sorted(shared)}
    ids, order = np.unique(arrays["ids"], return_index=True)
    if len(ids) < len(arrays["ids"]):
        raise PredictionsError("two of its test samples have one id")
    named = {name: parts[0][name] for name in ("quantities",) if name in parts[0]}
    return {name: values[order] for name, values in arrays.items()} | named


def _scores(arrays: Arrays, classes: Sequence[str], row: Row) -> tuple[Scores, list[str]]:
    """The scores of the task of a run, of the arrays that it leaves; and notes."""
    if "logits" not in arrays:
        if "quantities" in arrays:
            scores, notes = numbers.scores(arrays, arrays["quantities"].tolist())
        else:
            scores, notes = metrics.regression_scores(arrays["true"], arrays["predicted"])
        return {name: value for name, value in scores.items() if name != "loss"}, notes
    targets, logits = arrays["targets"], arrays["logits"]
    scores, notes = metrics.classification_scores(targets, logits, classes)
    if "honest" in arrays:
        honest = metrics.log_softmax(arrays["honest"])
        for name, own in (("ece", logits), ("ece_calibrated", honest)):
            probabilities = metrics.softmax(own)
            scores[name] = calibration.expected_calibration_error(targets, probabilities)
            scores[f"{name}_floor"] = calibration.calibration_error_floor(probabilities)[1]
        scores["nll_calibrated"] = -float(honest[np.arange(len(targets)), targets].mean())
    if row["task"] == "detection":
        found, more = _search(arrays, [*classes].index(row["learns"]), row["recipe"])
        scores, notes = scores | found, notes + more
    if "true_lens" in arrays:
        from deeplense_batch.lensing.recovery import recovery_scores  # loads torch

        names = "deflection_square", "mean_deflection_square", "convergence_correlation"
        radii = arrays["lens"][:, 0], arrays["true_lens"][:, 0]
        scores |= recovery_scores(*radii, *(arrays[name] for name in names))
    return scores, notes


def _search(arrays: Arrays, positive: int, recipe: Mapping[str, Any]) -> tuple[Scores, list[str]]:
    """The scores of a search for the class of a number."""
    prevalence = recipe.get("task.options.prevalence", detection.PREVALENCE)
    lens = arrays["targets"] == positive
    probability = metrics.softmax(arrays["logits"])[:, positive]
    scores, notes = detection.detection_scores(
        lens, probability, threshold=None, prevalence=prevalence
    )
    del scores["threshold"]
    if "called" in arrays and 0 < lens.sum() < len(lens):
        called = arrays["called"]
        hits, wrong = int(called[lens].sum()), int(called[~lens].sum())
        found = detection.Found(hits, int(lens.sum()), wrong, int((~lens).sum()))
        scores |= found.numbers(prevalence)
        notes.append(f"purity: where {prevalence:g} of all galaxies are lenses")
    if "honest" in arrays:
        scores["expected_lenses"] = float(metrics.softmax(arrays["honest"])[:, positive].sum())
    return scores, notes


def _about(folds: int, scores: Scores) -> str:
    text = (
        f"each image is scored by one of {folds} networks, that which neither learnt from it nor "
        "was picked by it; their outputs are pooled as they are"
    )
    mixed = ", so that an AUC compares outputs of different networks"
    return text + mixed * (scores.get("auc") is not None)


def _other_notes(
    rows: Sequence[Row], parts: Sequence[Arrays], classes: Sequence[str]
) -> list[str]:
    """What runs say beside their scores, once where all say it, else with the fold."""
    own = []
    for row, part in zip(rows, parts, strict=True):
        of_scores = _scores(part, classes, row)[1]  # those of all folds have notes of their own
        own.append([note for note in row["notes"] or () if note not in of_scores])
    shared = [note for note in own[0] if all(note in notes for notes in own)]
    named = [
        f"fold {number}: {note}"
        for number, notes in enumerate(own, start=1)
        for note in notes
        if note not in shared
    ]
    return shared + named


def _names(row: Row) -> list[str]:
    """Names of the scores that a run has."""
    more = row.get("more") or {}
    columns = score_columns(row)
    return [n for n in (*columns, *more) if n != "more" and score_of(row, n) is not None]
