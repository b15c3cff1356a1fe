"""A network on a whole slice: every sample once, over all processes, in float32."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from deeplense_batch.core.distributed import World
from deeplense_batch.data.augment import symmetries
from deeplense_batch.data.loader import Loader
from deeplense_batch.tasks.task import Arrays, Batch, Task
from deeplense_batch.training.precision import full_float32

__all__ = ["InPieces", "evaluate", "outputs_of"]

_log = logging.getLogger(__name__)


def evaluate(
    task: Task, model: nn.Module, loader: Loader, world: World, *, tta: bool = False
) -> Arrays | None:
    """Predict a whole slice, every sample once, over all processes, in float32.

    Arguments:
        task: What is predicted.
        model: The bare network; nothing in it waits for another process.
        loader: The slice.
        world: The processes.
        tta: Average the outputs over the 8 symmetries of the square.

    Returns:
        On the first process what `Task.predict` gives, in the order of the slice, with ``ids``
        and ``targets``, (N, ...); None on the others.

    Raises:
        torch.OutOfMemoryError: There is no room for a single image.
    """
    world.broadcast_buffers(model)
    model.eval()
    parts: dict[str, list[Tensor]] = {}
    asked = list(loader.in_order(rank=world.rank, world=world.size))
    predict = InPieces(task, model, tta=tta)
    with torch.inference_mode():
        for images, targets, index in loader.batches(asked):
            batch = Batch(images, targets, index, truth=loader.truth_of(index))
            for name, values in (predict(batch) | {"index": index}).items():
                parts.setdefault(name, []).append(values)
    # All at once, since the host waits for the device whenever it asks it for something.
    gathered = world.gather({name: torch.cat(v).cpu().numpy() for name, v in parts.items()})
    if gathered is None:
        return None
    indices = gathered.pop("index")
    by_index = np.argsort(indices)
    assert np.array_equal(indices[by_index], np.arange(len(loader))), (
        "a sample lacks or is doubled"
    )
    outputs = {name: values[by_index] for name, values in gathered.items()}
    return outputs | {"ids": loader.ids, "targets": loader.targets.cpu().numpy()}


class InPieces:
    """Predicts batches whole, or in pieces for which there is memory.

    Arguments:
        task: What is predicted.
        model: The network, in evaluation mode.
        tta: Average over the symmetries of the square.
    """

    def __init__(self, task: Task, model: nn.Module, *, tta: bool = False) -> None:
        self._task, self._model, self._tta = task, model, tta
        self._most: int | None = None  # images at once; None while whole batches do

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """What `outputs_of` gives of a batch.

        Raises:
            torch.OutOfMemoryError: There is no room for a single image.
        """
        while True:
            size = min(self._most or len(batch.images), len(batch.images))
            fault = ""
            try:
                return self._predicted(batch, size)
            except torch.OutOfMemoryError as error:
                fault = str(error)
            # Here the activations of the pass that failed are gone.
            if size <= 1:
                raise torch.OutOfMemoryError(fault)
            self._most = math.ceil(size / 2)
            if batch.images.is_cuda:
                torch.cuda.empty_cache()
            _log.warning("out of memory: %d images at a time are predicted", self._most)

    def _predicted(self, batch: Batch, size: int) -> dict[str, Tensor]:
        pieces = [
            outputs_of(self._task, self._model, piece, tta=self._tta)
            for piece in batch.split(size)
        ]
        if len(pieces) == 1:
            return pieces[0]
        return {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}


def outputs_of(
    task: Task, model: nn.Module, batch: Batch, *, tta: bool = False
) -> dict[str, Tensor]:
    """Predict one batch, (B, ...) float32 by name; with `tta` the mean over the symmetries."""
    views = symmetries(batch.images) if tta else [batch.images]
    with full_float32():
        predicted = [task.predict(model, replace(batch, images=view)) for view in views]
    return {
        name: torch.stack([one[name].float() for one in predicted]).mean(0)
        for name in predicted[0]
    }
