"""What a model predicted for each test sample, as a finished run or another program left it.

Results of other programs become rows of the comparison too: predictions (`prediction_rows`), or
published scores alone (`published_rows`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.core.scoring.metrics import classification_scores, softmax
from deeplense_batch.core.scoring.posteriors.numbers import Several
from deeplense_batch.report.catalogue import (
    DamagedCatalogueError,
    Grouping,
    kept_grouping,
    regrouped,
)
from deeplense_batch.report.run_table import COLUMNS, CollectError, Row, members_of, score_of
from deeplense_batch.report.statistics.measured import all_end_to_end, end_to_end, measured_of

__all__ = [
    "UNANSWERED",
    "Predictions",
    "PredictionsError",
    "calibrated_logits",
    "called_positive",
    "in_order",
    "prediction_rows",
    "predictions_of",
    "published_rows",
    "read_outputs",
    "read_predictions",
    "validated_of",
]

_GENERATOR = "a generator makes no predictions of single samples"
_MASKED = "a masked autoencoder restores images, and makes no predictions of single samples"
UNANSWERED = (_GENERATOR, _MASKED)  # why a run that is whole has no predictions

_SUMS_TO_ONE = 1e-3  # within this, numbers from 0 to 1 are probabilities
_REPORT_LINE = re.compile(r"^\s*(\S.*?)((?:\s+[\d.]+){4})\s*$")  # name, three scores, support


class PredictionsError(ValueError):
    """The predictions of a model cannot be read."""

    exit_code = 1  # always caught: its reader names the file


@dataclass(frozen=True)
class Predictions:
    """Of one test slice: probabilities of classes, or numbers."""

    ids: NDArray[np.str_]  # (N,)
    targets: NDArray[np.int64]  # (N,) class numbers
    classes: tuple[str, ...]
    probabilities: NDArray[np.float64] | None = None  # (N, K)
    numbers: NDArray[np.float64] | None = None  # (N, 2): true and predicted; NaN where unknown
    several: Several | None = None  # what several numbers are, which are (N, 2, D)
    positive: int = 1  # number of the class that a detection searches for, of two
    grouping: Grouping | None = None  # of the samples, where the data have groups
    calibrated: NDArray[np.float64] | None = None  # (N, K) as probabilities, by their own run
    called: NDArray[np.bool_] | None = None  # (N,) whether they reach the threshold of their run
    #: Of restored images what is measured of each, (N,) by the name of the score that is its mean.
    measured: Mapping[str, NDArray[np.float64]] | None = None


def predictions_of(row: Row) -> Predictions:
    """What the run of a row predicted; of pooled folds what all runs did, ordered by id.

    Answers are calibrated, and called positive, by what their own run found on its validation
    slice; of pooled folds those of each fold by its run, where all runs have found it.

    Raises:
        PredictionsError: As `read_predictions`; or folds do not go together.
    """
    parts = [_judged(read_predictions(Path(run["run"])), run) for run in members_of(row)]
    try:
        return _joined(parts) if len(parts) > 1 else parts[0]
    except DamagedCatalogueError as error:
        raise PredictionsError(str(error)) from error


def calibrated_logits(
    logits: NDArray[np.float64], classes: Sequence[str], run: Row
) -> NDArray[np.float64] | None:
    """Logits, (N, K), calibrated by what their run fitted on its validation slice, else None.

    These are the scores ``slope`` and ``offset`` of the log odds of the class that it searches
    for, or the ``temperature`` of logits.
    """
    slope, offset, temperature = (score_of(run, n) for n in ("slope", "offset", "temperature"))
    if slope is not None and offset is not None and run.get("learns") in classes:
        k = [*classes].index(run["learns"])
        honest = np.zeros_like(logits)
        honest[:, k] = slope * (logits[:, k] - logits[:, 1 - k]) + offset
        return honest
    return None if temperature is None else logits / temperature


def called_positive(
    probabilities: NDArray[np.float64], classes: Sequence[str], run: Row
) -> NDArray[np.bool_] | None:
    """Which samples reach the threshold of their run, (N,); None where it has found none.

    The probabilities, (N, K), are those that it gave, not calibrated.
    """
    threshold = score_of(run, "threshold")
    if threshold is None or run.get("learns") not in classes:
        return None
    return probabilities[:, [*classes].index(run["learns"])] >= threshold


def read_outputs(folder: Path) -> dict[str, NDArray]:
    """The arrays of `outputs.npz` of a run.

    Raises:
        PredictionsError: The file is missing, damaged or foreign; the message names it.
    """
    return _load(folder / "outputs.npz", _unzip)


def in_order(samples: Predictions, classes: Sequence[str]) -> Predictions:
    """The same answers with the classes in another order; unchanged where the names are others."""
    if samples.classes == tuple(classes) or sorted(samples.classes) != sorted(classes):
        return samples
    order = [samples.classes.index(name) for name in classes]
    numbers = np.argsort(order)  # that the classes get
    known, given, honest = samples.targets >= 0, samples.probabilities, samples.calibrated
    return replace(
        samples,
        classes=tuple(classes),
        targets=np.where(known, numbers[samples.targets], samples.targets),
        probabilities=None if given is None else given[:, order],
        calibrated=None if honest is None else honest[:, order],
        positive=int(numbers[samples.positive]),
    )


def validated_of(row: Row) -> Predictions:
    """What the network of a row answered on the validation slice of its training, calibrated.

    Raises:
        PredictionsError: As `read_predictions`; runs of earlier versions have not kept it, and
            runs on the folds of a split have no slice in common.
    """
    if "members" in row:  # runs on the folds of a split, pooled
        raise PredictionsError("its folds were validated on slices of their own")
    return _judged(_read_answers(Path(row.get("trained_in") or row["run"]) / "validated.npz"), row)


def read_predictions(folder: Path | str) -> Predictions:
    """Read `outputs.npz` of a run, or `all_labels.npy` and `all_preds.npy` of another program.

    The groups of a run's samples are those of its `catalogue.parquet`. Files of other programs
    hold class numbers, (N,), and logits or probabilities, (N, K); they name neither samples
    nor classes, which are numbered.

    Raises:
        PredictionsError: A file is missing, damaged or foreign; the message names it.
    """
    folder = Path(folder)
    if (folder / "all_preds.npy").exists():
        return _read_numbered(folder)
    if folder.is_file():
        raise PredictionsError(f"{folder.name} holds no predictions of single samples")
    path = folder / "outputs.npz"
    if not path.exists() and (folder / "judged.npz").exists():  # an evaluation of drawn images
        raise PredictionsError(_GENERATOR)
    samples = _read_answers(path)
    try:
        return replace(samples, grouping=kept_grouping(folder, samples.ids))
    except DamagedCatalogueError as error:
        raise PredictionsError(str(error)) from None


def _read_answers(path: Path) -> Predictions:
    """What a run wrote of one slice."""
    arrays = _load(path, _unzip)
    try:
        ids, targets = np.asarray(arrays["ids"], str), np.asarray(arrays["targets"], np.int64)
        classes = tuple(np.asarray(arrays["classes"], str).tolist())
        if "logits" in arrays:
            scores = _scores(arrays["logits"], targets, path)
            return Predictions(ids, targets, classes, _softmax(scores, path))
        if "errors" in arrays:  # by level of noise; or of hidden patches, beside their powers
            raise PredictionsError(_MASKED if "powers" in arrays else _GENERATOR)
        if "psnr" in arrays:
            return Predictions(ids, targets, classes, measured=measured_of(arrays))
        numbers = np.stack([arrays["true"], arrays["predicted"]], axis=1).astype(np.float64)
        return Predictions(ids, targets, classes, numbers=numbers, several=Several.of(arrays))
    except (KeyError, TypeError) as error:
        raise PredictionsError(f"{path.name} holds no {error} of a test slice") from None


def _judged(samples: Predictions, run: Row) -> Predictions:
    """The answers of a run with what it makes of them by its validation slice."""
    if run.get("learns") in samples.classes:
        samples = replace(samples, positive=samples.classes.index(run["learns"]))
    if (given := samples.probabilities) is None:
        return samples
    logits = np.log(np.maximum(given, np.finfo(np.float64).tiny))  # but for a constant
    honest = calibrated_logits(logits, samples.classes, run)
    return replace(
        samples,
        calibrated=None if honest is None else softmax(honest),
        called=called_positive(given, samples.classes, run),
    )


def _joined(parts: Sequence[Predictions]) -> Predictions:
    """Predictions on the parts of a split as those on all of it, ordered by id."""
    first = parts[0]
    if any(part.classes != first.classes for part in parts):
        raise PredictionsError("its folds were tested on different classes")
    ids, order = np.unique(np.concatenate([part.ids for part in parts]), return_index=True)
    if len(ids) < sum(len(part.ids) for part in parts):
        raise PredictionsError("two of its test samples have one id")
    return replace(
        first,
        ids=ids,
        targets=np.concatenate([part.targets for part in parts])[order],
        probabilities=end_to_end([part.probabilities for part in parts], order),
        numbers=end_to_end([part.numbers for part in parts], order),
        several=Several.joined([part.several for part in parts], order),
        grouping=regrouped([part.grouping for part in parts], order),
        calibrated=end_to_end([part.calibrated for part in parts], order),
        called=end_to_end([part.called for part in parts], order),
        measured=all_end_to_end([part.measured for part in parts], order),
    )


def _read_numbered(folder: Path) -> Predictions:
    """What another program left: its samples and classes have numbers for names."""
    targets = _load(folder / "all_labels.npy", np.load)
    path = folder / "all_preds.npy"
    scores = _scores(_load(path, np.load), targets, path)
    are_probabilities = (scores >= 0).all() and (
        np.abs(scores.sum(axis=1) - 1) < _SUMS_TO_ONE
    ).all()
    probabilities = scores if are_probabilities else _softmax(scores, path)
    if targets.dtype.kind not in "iu" or targets.min() < 0:
        raise PredictionsError("all_labels.npy: expected class numbers from 0")
    if targets.max() >= probabilities.shape[1]:
        known = probabilities.shape[1]
        raise PredictionsError(
            f"all_labels.npy: labels up to {targets.max()}, scores of {known} classes"
        )
    ids = np.arange(len(targets)).astype(str)
    names = tuple(str(k) for k in range(probabilities.shape[1]))
    return Predictions(ids, targets.astype(np.int64), names, probabilities)


def _scores(values: NDArray, targets: NDArray, path: Path) -> NDArray[np.float64]:
    if values.ndim != 2 or targets.shape != (len(values),) or not len(values):
        raise PredictionsError(
            f"{path.name}: expected scores of shape (N, K) and N labels, got {values.shape} and "
            f"{targets.shape}"
        )
    return values.astype(np.float64)


def _softmax(values: NDArray[np.float64], path: Path) -> NDArray[np.float64]:
    try:
        return softmax(values)
    except ValueError as error:
        raise PredictionsError(f"{path.name}: {error}") from None


def _unzip(path: Path) -> dict[str, NDArray]:
    with np.load(path) as file:
        return dict(file)


def _load(path: Path, load: Callable[[Path], Any]) -> Any:
    """Load arrays; a foreign file may hold, and so raise, anything."""
    if path.exists() and not path.is_file():
        raise PredictionsError(f"{path.name} is no file")
    try:
        return load(path)
    except FileNotFoundError:
        raise PredictionsError(f"{path.name} is missing") from None
    except Exception as error:
        raise PredictionsError(
            f"{path.name} is damaged or foreign ({type(error).__name__})"
        ) from None


def published_rows(folder: Path | str) -> list[Row]:
    """Read a folder of ``results_<model>.json`` of DeepLense model comparisons, a row for each.

    Such a file holds ``model_desc``, ``status``, ``config``, ``best_epoch``, ``best_val_auc``,
    ``val_aucs``, ``training_time_s`` and ``test_results``: ``accuracy``, ``auc_ovr_macro``, the
    ``report`` of scikit-learn as text, and ``roc_curve_data`` with the ``auc`` of each class. It
    names no device, and holds no predictions of single samples. A file of another kind is a row
    that says so.

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


def prediction_rows(named: Mapping[str, Path], classes: Sequence[str] = ()) -> list[Row]:
    """Read folders of ``all_labels.npy`` and ``all_preds.npy`` (`read_predictions`).

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
            samples = read_predictions(folder)
        except PredictionsError as error:
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
        row |= dict.fromkeys(("valid_auc", "valid_score"), float(content["best_val_auc"]))
        row |= {"best_epoch": int(content["best_epoch"])}
        row |= {"train_seconds": float(content["training_time_s"])}
        row |= {"test_samples": sum(counts.values()), "class_counts": counts}
        row["notes"] = ["the files do not name the hardware of the training times, which differs"]
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


def _blank(job: str, model: str, path: Path) -> Row:
    """A row of which nothing else is known."""
    row: Row = dict.fromkeys(COLUMNS) | {"job": job, "model": model, "run": str(path)}
    row |= {"task": "classification", "state": "unreadable"}
    return row | {"monitor": "auc", "valid_score": None, "recipe": {}, "more": {}}
