"""How sure a finished run may be: the temperature of its logits, fitted once and kept."""

from __future__ import annotations

import contextlib
import logging

import numpy as np
import torch

from deeplense_batch import metrics
from deeplense_batch.data.loader import Loader
from deeplense_batch.data.shards import ShardError
from deeplense_batch.distributed import World
from deeplense_batch.fit import evaluate
from deeplense_batch.rundir import now
from deeplense_batch.trained import Trained, TrainedError

__all__ = ["CALIBRATION", "temperature_of"]

CALIBRATION = "calibration.json"

_log = logging.getLogger(__name__)


def temperature_of(trained: Trained, device: torch.device) -> float | None:
    """The number that this run's logits are divided by to be calibrated.

    It is fitted on the validation slice, never on what is tested, and kept in the run directory;
    the model must be on the device. None, with a word in the log, where the data are gone.

    Raises:
        TrainedError: The task tells no classes apart.
    """
    run = trained.run
    with contextlib.suppress(FileNotFoundError):
        kept = run.read_json(CALIBRATION)
        if kept["weights"] == trained.weights:
            return float(kept["temperature"])
    try:
        split = trained.slice("valid")
    except ShardError as error:
        _log.warning("no calibrated scores: the validation images cannot be read (%s)", error)
        return None
    loader = Loader(
        split,
        transform=trained.transform,
        device=device,
        resident="off",
        truths=trained.task.reads,
    )
    outputs = evaluate(
        trained.task, trained.model, loader, World(0, 1, device), tta=trained.job.data.tta
    )
    assert outputs is not None
    if "logits" not in outputs:
        raise TrainedError(f"{run.path}: its task, {trained.job.task.name}, gives no logits")
    targets, logits = outputs["targets"], np.asarray(outputs["logits"], np.float64)
    fitted = metrics.temperature(targets, logits)
    before, after = (
        metrics.classification_scores(targets, values, trained.classes)[0]["nll"]
        for values in (logits, logits / fitted)
    )
    content = {
        "temperature": fitted,
        "nll": before,
        "calibrated_nll": after,
        "slice": trained.job.data.valid,
        "samples": len(targets),
        "weights": trained.weights,
        "made": now(),
    }
    try:
        run.write_json(CALIBRATION, content)
    except OSError as error:
        _log.warning("%s: %s cannot be kept there (%s)", run.path, CALIBRATION, error.strerror)
    return fitted
