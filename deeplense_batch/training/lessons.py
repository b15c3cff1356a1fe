"""Which images each epoch is trained on: those of a curriculum first, then the training slice.

With ``data.simulate`` the last of them are of new images, others in every epoch, in place of the
training slice. Every epoch counts for the schedule of the learning rate, whatever it is trained
on; what normalises the images is measured on the training slice alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deeplense_batch.core.distributed import World
from deeplense_batch.core.job import Job, JobError
from deeplense_batch.data.batches.draws import Draws
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.batches.making import Batches
from deeplense_batch.data.batches.mixture import Mixture
from deeplense_batch.data.shards import ShardError
from deeplense_batch.tasks.task import Task

__all__ = ["Lesson", "lessons"]


@dataclass(frozen=True)
class Lesson:
    """Some epochs after one another that are trained on the same images."""

    images: Batches | Mixture
    draws: Draws  # of an epoch
    weights: Tensor | None  # of the samples, (N,) float32; None where all weigh the same
    name: str  # of the folder
    last: int  # its last epoch, from 1


def lessons(
    job: Job, world: World, task: Task, train: Batches | Mixture, curriculum: Sequence[Loader]
) -> list[Lesson]:
    """The lessons of a training, in order.

    Arguments:
        job: The recipe.
        world: Its processes.
        task: What is learnt.
        train: What is trained on to the end.
        curriculum: Before it, each for as many epochs as the recipe says.

    Raises:
        JobError: A step has not an image for each process.
        ShardError: A set of a mixture is never drawn, or one has nothing that is learnt.
    """
    made, last = [], 0
    for images, each in zip(curriculum, job.data.curriculum, strict=True):
        last += each.epochs
        made.append(_lesson(job, world, task, images, last))
    return [*made, _lesson(job, world, task, train, job.train.epochs)]


def _lesson(job: Job, world: World, task: Task, images: Batches | Mixture, last: int) -> Lesson:
    trainable = np.ones(len(images), bool)  # of new images all (`setup`)
    if isinstance(images, Loader | Mixture):
        trainable = task.trainable_mask(images.targets.cpu().numpy(), images.truth)
    draws = Draws(images, trainable, job.train.balance)
    samples = len(draws)
    if not samples:
        raise ShardError(
            f"{images.info.files[0].parent}: {images.info.name}: what is learnt is known of no "
            "image; name another slice"
        )
    least = samples // math.ceil(samples / job.train.batch_size)
    if least < world.size:
        raise JobError(
            f"{job.name}: train.batch_size: with {job.train.batch_size}, a step of "
            f"the {samples} samples has {least}, less than one for each of "
            f"{world.size} processes"
        )
    weights = None
    if job.train.balance == "weights":
        weights = torch.from_numpy(draws.class_weights()).to(world.device)
    name = images.info.name if isinstance(images, Mixture) else images.name
    return Lesson(images, draws, weights, name, last)
