"""Loaders, batches and steps of small jobs, for checks and for measurements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from deeplense_batch import models
from deeplense_batch.core.distributed import World
from deeplense_batch.core.job import Augment, Job
from deeplense_batch.core.sections.data import DataSection
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.pixels.transform import Transform
from deeplense_batch.data.shards import open_split
from deeplense_batch.tasks import build_task
from deeplense_batch.tasks.task import Batch, Task
from deeplense_batch.training.step import Stepper

__all__ = [
    "AS_THE_JOB",
    "CLASSES",
    "EVERYTHING",
    "batch_of",
    "classification",
    "loader",
    "step",
    "stepper",
]

CLASSES = ("no", "sphere", "vort")

AS_THE_JOB = Augment(flips=True, degrees=15, translate=0.05, scale=(0.95, 1.05))
EVERYTHING = Augment(
    dihedral=True, degrees=15, translate=0.05, scale=(0.9, 1.1), blur=1.0, noise=0.1
)
_TRUTH = ("theta_e", "lens", "shear")


def classification() -> Task:
    """Telling the three classes."""
    return build_task("classification", classes=CLASSES)


def loader(
    root: str,
    device: torch.device,
    *,
    size: int | None = None,
    resident: str = "device",
    **pixels: Any,
) -> Loader:
    """Batches of the training images, stretched and normalised by fields of `DataSection`."""
    made = Loader(
        open_split(root, "train"),
        transform=Transform.of(DataSection(root=root, size=size, **pixels)),
        device=device,
        resident=resident,
        truths=_TRUTH,
    )
    made.transform = made.measured()
    return made


def batch_of(source: Loader, count: int, augment: Augment | None = None) -> Batch:
    """The first images."""
    places = [np.arange(count)]
    images, targets, index = next(
        iter(source.batches(places, augment or Augment(), seed=1, epoch=0))
    )
    return Batch(images, targets, index, truth=source.truth_of(index))


def stepper(
    model: str,
    task: Task,
    device: torch.device,
    *,
    size: int,
    options: Mapping[str, Any] | None = None,
    engine: Mapping[str, Any] | None = None,
    world: World | None = None,
    **train: Any,
) -> Stepper:
    """A network with the same first weights each time, and all that changes them."""
    torch.manual_seed(0)
    network = models.build(
        model, channels=1, classes=task.spec.num_outputs, size=size, **(options or {})
    ).to(device)
    job = Job.model_validate(
        {
            "name": "round",
            "model": {"name": model},
            "data": {"root": "."},
            "train": train,
            "engine": dict(engine or {}),
        }
    )
    made = Stepper(job, world or World(0, 1, device), task, network)
    made.start_epoch()
    return made


def step(of: Stepper, batch: Batch, number: int = 0) -> torch.Tensor:
    """One step; the sum of the losses, still on the device."""
    count = len(batch.images)
    return of(batch, samples=count, time=0.1, progress=0.1, seed=number)["loss"]
