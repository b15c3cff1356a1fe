"""A network on a whole slice: every sample once, over all processes, in float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from deeplense_batch.core.distributed import World
from deeplense_batch.core.job import Augment
from deeplense_batch.data.augment import keys_of, symmetries
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.batches.making import Batches
from deeplense_batch.data.batches.mixture import Mixture
from deeplense_batch.data.batches.paired import beside
from deeplense_batch.data.batches.reader import Indices
from deeplense_batch.data.batches.room import Room
from deeplense_batch.tasks.task import Arrays, Batch, Task
from deeplense_batch.training.precision import Precision, scored_in

__all__ = ["InPieces", "batches_of", "evaluate", "outputs_of"]

_NOTHING = Augment()
_PAIRS = 32  # at once: a network that makes images holds many of them, on a processor too


def evaluate(
    task: Task,
    model: nn.Module,
    loader: Loader,
    world: World,
    *,
    tta: bool = False,
    thorough: bool = False,
) -> Arrays | None:
    """Predict a whole slice, every sample once, over all processes, in float32.

    Arguments:
        task: What is predicted.
        model: The bare network; nothing in it waits for another process.
        loader: The slice.
        world: The processes.
        tta: Average the outputs over the 8 symmetries of the square.
        thorough: Compute all that is scored once, of a test slice.

    Returns:
        On the first process what `Task.predict` gives, or `Task.assess` of a thorough evaluation,
        in the order of the slice, with ``ids`` and ``targets``, (N, ...), and `Task.images_of` the
        chosen samples; None on the others.

    Raises:
        torch.OutOfMemoryError: There is no room for a single image.
    """
    world.broadcast_buffers(model)
    model.eval()
    parts: dict[str, list[Tensor]] = {}
    asked = list(loader.in_order(rank=world.rank, world=world.size))
    predict = InPieces(task, model, tta=tta, thorough=thorough)
    with torch.inference_mode():
        for batch in batches_of(loader, asked):
            for name, values in (predict(batch) | {"index": batch.index}).items():
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
    outputs |= {"ids": loader.ids, "targets": loader.targets.cpu().numpy()}
    if thorough and len(chosen := task.chosen(outputs)):
        with torch.inference_mode(), scored_in(None):
            for batch in batches_of(loader, [chosen]):
                outputs |= {n: v.cpu().numpy() for n, v in task.images_of(model, batch).items()}
    return outputs


def batches_of(
    images: Batches | Mixture,
    asked: Sequence[Indices],
    augment: Augment = _NOTHING,
    *,
    seed: int = 0,
    epoch: int = 0,
    draws: bool = False,
) -> Iterator[Batch]:
    """Batches as a task is given them: images with what is known of them and what is beside them.

    Arguments:
        images: One slice, or several sets that are trained on together.
        asked: Indices of the samples of each batch.
        augment, seed, epoch: As of `Loader.batches`.
        draws: Whether the task draws random numbers for each sample.
    """
    made = images.batches(asked, augment, seed=seed, epoch=epoch)
    more = beside(images, asked, augment, seed=seed, epoch=epoch)
    keys: Sequence[Tensor | None] = [None] * len(asked)
    if draws and asked:
        # Of all batches at once, since the host waits for the device whenever it sends something.
        numbers = torch.from_numpy(np.concatenate(asked)).to(images.device)
        keys = keys_of(seed, epoch, numbers).split([len(batch) for batch in asked])
    for (values, targets, index), own, key in zip(made, more, keys, strict=True):
        yield Batch(
            values, targets, index, draws=key, truth=images.truth_of(index),
            inputs=own.get("inputs"), clean=own.get("clean"),
        )  # fmt: skip


class InPieces:
    """Predicts batches whole, or in pieces for which there is memory.

    Arguments:
        task: What is predicted.
        model: The network, in evaluation mode.
        tta: Average over the symmetries of the square.
        precision: Of the arithmetic; by default every bit of float32.
        thorough: Compute all that is scored once (`Task.assess`).
    """

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        *,
        tta: bool = False,
        precision: Precision | None = None,
        thorough: bool = False,
    ) -> None:
        self._room = Room(_PAIRS if task.spec.needs_inputs else None)
        self._predict = partial(
            outputs_of, task, model, tta=tta, precision=precision, thorough=thorough
        )

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
    thorough: bool = False,
) -> dict[str, Tensor]:
    """Predict one batch, (B, ...) float32 by name; with `tta` the mean over the symmetries."""
    predict = task.assess if thorough else task.predict
    views = symmetries(batch.images) if tta else [batch.images]
    with scored_in(precision):
        predicted = [predict(model, replace(batch, images=view)) for view in views]
    return {
        name: torch.stack([one[name].float() for one in predicted]).mean(0)
        for name in predicted[0]
    }
