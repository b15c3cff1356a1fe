"""A network on a whole slice: every sample once, over all processes, in float32."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from deeplense_batch.core.distributed import World
from deeplense_batch.data.augment import symmetries
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.batches.paired import beside
from deeplense_batch.data.batches.room import Room
from deeplense_batch.tasks.task import Arrays, Batch, Task
from deeplense_batch.training.precision import Precision, scored_in

__all__ = ["InPieces", "evaluate", "outputs_of"]


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
        both = zip(loader.batches(asked), beside(loader, asked), strict=True)
        for (images, targets, index), own in both:
            batch = Batch(
                images, targets, index, truth=loader.truth_of(index),
                inputs=own.get("inputs"), clean=own.get("clean"),
            )  # fmt: skip
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
        precision: Of the arithmetic; by default every bit of float32.
    """

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        *,
        tta: bool = False,
        precision: Precision | None = None,
    ) -> None:
        self._room = Room()
        self._predict = partial(outputs_of, task, model, tta=tta, precision=precision)

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """What `outputs_of` gives of a batch.

        Raises:
            torch.OutOfMemoryError: There is no room for a single image.
        """
        predict = self._room.pieces(len(batch.images), lambda s: self._predict(batch.part(s)))
        pieces = list(predict)
        if len(pieces) == 1:
            return pieces[0]
        return {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}


def outputs_of(
    task: Task,
    model: nn.Module,
    batch: Batch,
    *,
    tta: bool = False,
    precision: Precision | None = None,
) -> dict[str, Tensor]:
    """Predict one batch, (B, ...) float32 by name; with `tta` the mean over the symmetries."""
    views = symmetries(batch.images) if tta else [batch.images]
    with scored_in(precision):
        predicted = [task.predict(model, replace(batch, images=view)) for view in views]
    return {
        name: torch.stack([one[name].float() for one in predicted]).mean(0)
        for name in predicted[0]
    }
