"""What of the substructure survives restoration: what classifiers see in the restored images.

An evaluation asks one classifier about the true images, the restored ones and those that bicubic
interpolation gives. Classifiers are not averaged: one that was trained on other images, or is
better, sees something else, so that each has a row of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.core import yaml_text
from deeplense_batch.core.scoring.images.seen import SEEN, seen_by_class
from deeplense_batch.report.columns import number, with_interval
from deeplense_batch.report.compare import ModelRuns
from deeplense_batch.report.predictions import PredictionsError, read_outputs
from deeplense_batch.report.run_table import Row
from deeplense_batch.report.statistics import bootstrap
from deeplense_batch.report.statistics.resamples import Resamples
from deeplense_batch.report.studies.block import Block

__all__ = ["seen_by_classifiers", "survival_block"]

_SEEN = {"clean": "truth without noise", "truth": "truth", "restored": "restored",
         "fitted": "bicubic, fitted"}  # fmt: skip
_DIFFERENCES = {"gain": ("restored", "fitted"), "loss": ("truth", "restored")}
_CHANCE = 0.5  # macro AUC of a classifier that tells nothing apart
_UNKNOWN = "a classifier whose name is not known"


def seen_by_classifiers(model: ModelRuns, resamples: Resamples) -> list[Row]:
    """What each classifier sees in the images of a model.

    That is said by evaluations, which count once beside the trainings that they score again.

    Arguments:
        model: Of restoring networks.
        resamples: Of the comparison.

    Returns:
        A row for each classifier, by name: ``classifier``, its job and run; ``networks``, how many
        it was asked about; by ``clean``, ``truth``, ``restored``, ``fitted`` its AUC, the mean
        over them, as ``value``, ``low``, ``high`` (95 %); and by ``gain`` and ``loss`` the AUC on
        restored images less that on fitted ones, and on true ones less that on restored ones.
    """
    folders = [*(run["run"] for run in model.runs if "members" not in run), *model.again]
    asked: dict[str, list[dict[str, bootstrap.Statistic]]] = {}
    for folder in map(Path, folders):
        if (answers := _answers(folder, resamples)) is not None:
            asked.setdefault(_classifier(folder), []).append(answers)
    return [_averaged(name, asked[name], resamples) for name in sorted(asked)]


def survival_block(rows: Sequence[Row]) -> Block:
    """Say what survives, by each classifier and network.

    Arguments:
        rows: Of networks, with ``label`` and ``seen`` (`seen_by_classifiers`).
    """
    said = [
        "Macro AUC of a classifier, which learnt from other images, on the true images, on "
        "those that were restored and on those that were interpolated; differences are paired "
        "over the images, with 95 % intervals. What interpolation loses and a network gains back "
        "is what of the substructure the network has recovered."
    ]
    pairs = [(row["label"], seen) for row in rows for seen in row["seen"]]
    pairs.sort(key=lambda pair: pair[1]["classifier"])  # networks stay in their order
    best = _verdicts([pair for pair in pairs if pair[0] == rows[0]["label"]])
    shown = [name for name in SEEN if any(name in seen for _, seen in pairs)]
    head = ["network", "classifier", "networks asked about"]
    head += [*(f"AUC, {_SEEN[name]}" for name in shown), "restored - fitted", "truth - restored"]
    lines = [
        [label, seen["classifier"], number(seen["networks"], 0)]
        + [_of(seen.get(name)) for name in shown]
        + [_of(seen[name], signed=True) for name in _DIFFERENCES]
        for label, seen in pairs
    ]
    title = "What of the substructure survives"
    return Block(title, said + _verdicts(pairs), head, lines, headline=" ".join(best))


def _classifier(folder: Path) -> str:
    """Job and run of the classifier that an evaluation asked."""
    try:
        job = yaml_text.load((folder / "job.yaml").read_text(encoding="utf-8"))
        return "/".join(Path(job["evaluate"]["classifier"]).parts[-2:])
    except (OSError, UnicodeDecodeError, KeyError, TypeError, yaml_text.YamlError):
        return _UNKNOWN


def _averaged(
    name: str, answers: Sequence[Mapping[str, bootstrap.Statistic]], resamples: Resamples
) -> Row:
    """What one classifier sees: the mean over the networks that it was asked about."""
    names = [of for of in SEEN if all(of in one for one in answers)]
    drawn = resamples.draw([one[of] for one in answers for of in names])
    every = np.ones((len(resamples.samples.ids), 1), np.uint8)
    found: Row = {"classifier": name, "networks": len(answers)}
    resampled = {}
    for k, of in enumerate(names):
        value = float(np.mean([one[of](every)[0] for one in answers]))
        resampled[of] = drawn[k :: len(names)].mean(0)
        found[of] = _with_bounds(value, resampled[of])
    for of, (more, less) in _DIFFERENCES.items():
        value = found[more]["value"] - found[less]["value"]
        found[of] = _with_bounds(value, resampled[more] - resampled[less])
    return found


def _with_bounds(value: float, drawn: NDArray[np.float64]) -> Row:
    low, high = bootstrap.interval(drawn)
    return {"value": value, "low": low, "high": high}


def _answers(folder: Path, resamples: Resamples) -> dict[str, bootstrap.Statistic] | None:
    """The AUC by what was seen, as statistics of the samples; None where nothing was asked."""
    try:
        arrays = read_outputs(folder)
        if "seen_targets" not in arrays:
            return None
        targets, probabilities = seen_by_class(arrays)
    except (PredictionsError, KeyError, ValueError):
        return None
    labelled = arrays["seen_targets"] >= 0
    same = np.array_equal(np.asarray(arrays["ids"], str), resamples.samples.ids)
    if not same or len(np.unique(targets)) < 2:
        return None
    return {
        name: bootstrap.within(labelled, bootstrap.macro_auc(targets, values))
        for name, values in probabilities.items()
    }


def _verdicts(pairs: Sequence[tuple[str, Row]]) -> list[str]:
    """A sentence for each classifier that sees nothing, and for each network by one that does."""
    said: dict[str, None] = {}  # a classifier sees the same true images for every network
    for label, seen in pairs:
        truth = seen["truth"]
        if truth["low"] <= _CHANCE:
            why = "contains 0.5" if truth["high"] >= _CHANCE else "is below 0.5"
            said[
                f"{seen['classifier']}: the classifier tells nothing apart on the true images "
                f"themselves (AUC {_of(truth)}; the interval {why}), so that nothing can be said "
                "of what survives."
            ] = None
        else:
            said[
                f"{label}, by {seen['classifier']}: {_gained(seen['gain'])}, and "
                f"{_lost(seen['loss'])}."
            ] = None
    return [*said]


def _gained(gain: Row) -> str:
    by = f"AUC {_of(gain, signed=True)}"
    if gain["low"] > 0:
        return f"more survives than in fitted bicubic images ({by})"
    if gain["high"] < 0:
        return f"less survives than in fitted bicubic images ({by})"
    return f"whether more survives than in fitted bicubic images is not resolved ({by})"


def _lost(loss: Row) -> str:
    by = f"truth - restored {_of(loss, signed=True)}"
    if loss["low"] > 0:
        return f"less than in the true images ({by})"
    if loss["high"] < 0:
        return f"the classifier does better than on the true images ({by})"
    return f"whether any is lost beside the true images is not resolved ({by})"


def _of(found: Mapping[str, Any] | None, *, signed: bool = False) -> str:
    if found is None:
        return "-"
    return with_interval(found["value"], found["low"], found["high"], signed=signed)
