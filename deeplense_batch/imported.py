"""Results of other programs as rows of the comparison: published files, and plain predictions."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deeplense_batch.metrics import classification_scores
from deeplense_batch.outcomes import OutcomesError, read_outcomes
from deeplense_batch.rows import COLUMNS, CollectError, Row

__all__ = ["prediction_rows", "published_rows"]

_REPORT_LINE = re.compile(r"^\s*(\S.*?)((?:\s+[\d.]+){4})\s*$")  # name, three scores, support


def published_rows(folder: Path | str) -> list[Row]:
    """Read a folder of ``results_<model>.json`` of DeepLense model comparisons, a row for each.

    Such a file holds ``model_desc``, ``status``, ``config``, ``best_epoch``, ``best_val_auc``,
    ``val_aucs``, ``training_time_s`` and ``test_results``: ``accuracy``, ``auc_ovr_macro``, the
    ``report`` of scikit-learn as text, and ``roc_curve_data`` with the ``auc`` of each class. It
    names no device, and no answers to single samples. A file of another kind
    is a row that says so.

    Raises:
        CollectError: There is no such folder, or no such file in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CollectError(f"--import: {folder}: no such folder")
    files = sorted(folder.glob("results_*.json"))
    if not files:
        raise CollectError(f"--import: {folder}: no results here (expected results_<model>.json)")
    return [_published(file) for file in files]


def _published(file: Path) -> Row:
    row = _blank(file.parent.name, file.stem.removeprefix("results_"), file)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        config = content["config"]
        row |= {"model": str(content["model_desc"]), "seed": int(config["seed"])}
        row |= {"planned_epochs": int(config["epochs"]), "epochs": len(content["val_aucs"])}
        row["recipe"] = {f"config.{name}": value for name, value in config.items()}
        if content["status"] != "Completed":
            return row | {"state": "failed", "reason": str(content["error"] or content["status"])}
        test = content["test_results"]
        counts = _supports(test["report"])
        for k, name in enumerate(counts):
            row[f"auc_{name}"] = float(test["roc_curve_data"][str(k)]["auc"])
        row |= {"auc": float(test["auc_ovr_macro"]), "accuracy": float(test["accuracy"])}
        row |= {"best_epoch": int(content["best_epoch"])}
        row |= {"valid_auc": float(content["best_val_auc"])}
        row |= {
            "valid_score": row["valid_auc"],
            "train_seconds": float(content["training_time_s"]),
        }
        row |= {"test_samples": sum(counts.values()), "class_counts": counts}
        row["notes"] = ["seconds are of hardware that the files do not name, of several kinds"]
        return row | {"data_digest": "published", "test": "published", "state": "done"}
    except Exception as error:  # a foreign file may hold, and so raise, anything
        detail = " ".join(f"{type(error).__name__}: {error}".split())
        reason = f"{file.name}: is not a published result ({detail})"
        return _blank(file.parent.name, row["model"], file) | {"reason": reason}


def _supports(report: str) -> dict[str, int]:
    """Samples of each class, from scikit-learn's report as text."""
    above = report.split("accuracy")[0].splitlines()
    lines = [match for line in above if (match := _REPORT_LINE.match(line))]
    return {match[1]: int(match[2].split()[-1]) for match in lines}


def prediction_rows(named: Mapping[str, Path], classes: Sequence[str] = ()) -> list[Row]:
    """Read folders of ``all_labels.npy`` and ``all_preds.npy`` (`outcomes.read_outcomes`).

    Those with the same labels are of one test set.

    Arguments:
        named: Folders by the name of their model.
        classes: Class names in the order of the scores; by default they are numbered.

    Raises:
        CollectError: A folder cannot be read, or has another number of classes.
    """
    rows = []
    for name, folder in named.items():
        try:
            samples = read_outcomes(folder)
        except OutcomesError as error:
            raise CollectError(f"--predictions: {name}: {folder}: {error}") from None
        names = tuple(classes) or samples.classes
        if samples.probabilities is None or len(names) != samples.probabilities.shape[1]:
            raise CollectError(
                f"--predictions: {name}: {folder} has scores of {len(samples.classes)} classes, "
                f"and {len(names)} names were given"
            )
        targets = samples.targets
        with np.errstate(divide="ignore"):
            logits = np.log(samples.probabilities)
        scores, notes = classification_scores(targets, logits, names)
        row = _blank("predictions", name, folder) | {"state": "done", "seed": 0, **scores}
        digest = hashlib.sha256(targets.tobytes()).hexdigest()[:16]
        row |= {"data_digest": digest, "test": "predictions", "test_samples": len(targets)}
        row["class_counts"] = {class_: int((targets == k).sum()) for k, class_ in enumerate(names)}
        rows.append(row | {"notes": notes or None})
    return rows


def _blank(job: str, model: str, place: Path) -> Row:
    row: Row = dict.fromkeys(COLUMNS) | {"job": job, "model": model, "run": str(place)}
    row |= {"task": "classification", "state": "unreadable"}
    known: dict[str, Any] = {"monitor": "auc", "valid_score": None, "recipe": {}, "more": {}}
    return row | known
