"""What a model answered on each test sample, as a finished run or another program left it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.metrics import softmax

__all__ = ["Outcomes", "OutcomesError", "read_outcomes"]

_SUMS_TO_ONE = 1e-3  # within this, numbers from 0 to 1 are probabilities


class OutcomesError(ValueError):
    """The answers of a model cannot be read."""

    exit_code = 1  # always caught: its reader names the file


@dataclass(frozen=True)
class Outcomes:
    """Answers on one test slice: probabilities of classes, or numbers."""

    ids: NDArray[np.str_]  # (N,)
    targets: NDArray[np.int64]  # (N,) class numbers
    classes: tuple[str, ...]
    probabilities: NDArray[np.float64] | None = None  # (N, K)
    numbers: NDArray[np.float64] | None = None  # (N, 2): true and predicted; NaN where unknown
    searched: int = 1  # number of the class that is searched for, of two


def read_outcomes(folder: Path | str) -> Outcomes:
    """Read `outputs.npz` of a run, or `all_labels.npy` and `all_preds.npy` of another program.

    These hold class numbers, (N,), and logits or probabilities, (N, K); they name neither samples
    nor classes, which are numbered.

    Raises:
        OutcomesError: A file is missing, damaged or foreign; the message names it.
    """
    folder = Path(folder)
    if (folder / "all_preds.npy").exists():
        return _predictions(folder)
    if folder.is_file():
        raise OutcomesError(f"{folder.name} holds no answers to single samples")
    path = folder / "outputs.npz"
    found = _loaded(path, _unzipped)
    try:
        ids, targets = np.asarray(found["ids"], str), np.asarray(found["targets"], np.int64)
        classes = tuple(np.asarray(found["classes"], str).tolist())
        if "logits" in found:
            scores = _scores(found["logits"], targets, path)
            return Outcomes(ids, targets, classes, _softmax(scores, path))
        if "errors" in found:  # of restored images, by level of noise
            raise OutcomesError("a generator gives no answers to single samples")
        numbers = np.stack([found["true"], found["predicted"]], axis=1).astype(np.float64)
        return Outcomes(ids, targets, classes, numbers=numbers)
    except (KeyError, TypeError) as error:
        raise OutcomesError(f"{path.name} holds no {error} of a test slice") from None


def _predictions(folder: Path) -> Outcomes:
    targets = _loaded(folder / "all_labels.npy", np.load)
    path = folder / "all_preds.npy"
    scores = _scores(_loaded(path, np.load), targets, path)
    probable = (scores >= 0).all() and (np.abs(scores.sum(axis=1) - 1) < _SUMS_TO_ONE).all()
    probabilities = scores if probable else _softmax(scores, path)
    if targets.dtype.kind not in "iu" or targets.min() < 0:
        raise OutcomesError("all_labels.npy: expected class numbers from 0")
    if targets.max() >= probabilities.shape[1]:
        known = probabilities.shape[1]
        raise OutcomesError(
            f"all_labels.npy: labels up to {targets.max()}, scores of {known} classes"
        )
    ids = np.arange(len(targets)).astype(str)
    names = tuple(str(k) for k in range(probabilities.shape[1]))
    return Outcomes(ids, targets.astype(np.int64), names, probabilities)


def _scores(values: NDArray, targets: NDArray, path: Path) -> NDArray[np.float64]:
    if values.ndim != 2 or targets.shape != (len(values),) or not len(values):
        raise OutcomesError(
            f"{path.name}: expected scores of shape (N, K) and N labels, got {values.shape} and "
            f"{targets.shape}"
        )
    return values.astype(np.float64)


def _softmax(values: NDArray[np.float64], path: Path) -> NDArray[np.float64]:
    try:
        return softmax(values)
    except ValueError as error:
        raise OutcomesError(f"{path.name}: {error}") from None


def _unzipped(path: Path) -> dict[str, NDArray]:
    with np.load(path) as file:
        return dict(file)


def _loaded(path: Path, load: Callable[[Path], Any]) -> Any:
    """Load arrays; a foreign file may hold, and so raise, anything."""
    if path.exists() and not path.is_file():
        raise OutcomesError(f"{path.name} is no file")
    try:
        return load(path)
    except FileNotFoundError:
        raise OutcomesError(f"{path.name} is missing") from None
    except Exception as error:
        raise OutcomesError(
            f"{path.name} is damaged or foreign ({type(error).__name__})"
        ) from None
