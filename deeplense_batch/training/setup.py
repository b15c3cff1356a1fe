"""What a job becomes on this machine: its images, its task and its network.

Whoever trains, measures or opens a network puts task and network together here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from deeplense_batch import models
from deeplense_batch.core.distributed import World
from deeplense_batch.core.job import Job
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.digest import verify
from deeplense_batch.data.formats.counted import counted, counted_of
from deeplense_batch.data.job_slices import open_slices
from deeplense_batch.data.pixels.transform import Transform
from deeplense_batch.data.shards import ShardError, Split, SplitInfo
from deeplense_batch.models.start import start_from
from deeplense_batch.tasks import build_task
from deeplense_batch.tasks.task import Frame, Task

__all__ = [
    "Setup",
    "check_samples",
    "frame_of",
    "gflops_of",
    "model_of",
    "open_loaders",
    "set_up",
    "task_of",
]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setup:
    """All that a training works with."""

    job: Job
    task: Task
    model: nn.Module  # on the device, with the weights it starts from
    train: Loader
    valid: Loader
    test: Loader
    notes: tuple[str, ...] = ()  # what was changed or left out of the weights that it starts from

    @property
    def info(self) -> SplitInfo:
        """The images, as their shards describe them."""
        return self.train.split.info

    @property
    def frame(self) -> Frame:
        """The images as the network sees them."""
        return frame_of(self.job, self.info)

    @property
    def samples(self) -> dict[str, int]:
        """Images of each slice."""
        return {"train": len(self.train), "valid": len(self.valid), "test": len(self.test)}


def set_up(job: Job, world: World) -> Setup:
    """Verify the images of a job, load its slices, and build its task and its network.

    Arguments:
        job: The recipe.
        world: The processes of the run; everything is put on this one's device.

    Raises:
        ShardError: A shard is damaged, there are too few images, or they lack what is learnt.
        ModelError, WeightsError, ValueError: The network or the task cannot be had.
    """
    slices = open_slices(job)
    for info in {split.info.name: split.info for split in slices.values()}.values():
        verify(info)
    for split in slices.values():
        if len(split) < world.size:
            raise ShardError(
                f"{job.data.root}: {counted(len(split), 'sample')} of {split.info.name}, less "
                f"than one for each of {world.size} processes"
            )
    task, loaders = open_loaders(job, world, slices)
    model, notes = _start(job, loaders["train"].split.info, task)
    return Setup(job, task, model.to(world.device), **loaders, notes=notes)


def open_loaders(
    job: Job, world: World, slices: Mapping[str, Split]
) -> tuple[Task, dict[str, Loader]]:
    """The task of a job and the loaders of its slices, all normalised as ``train`` measures.

    Arguments:
        job: The recipe.
        world: Its processes.
        slices: Slices by name, ``train`` among them.

    Raises:
        ShardError: The images lack the labels or the truth that is learnt.
        ValueError: The task cannot be had with those options or data.
    """
    task = task_of(job, slices["train"].info)
    transform = Transform.of(job.data)
    loaders: dict[str, Loader] = {}
    for use, split in slices.items():
        loaders[use] = Loader(
            split,
            transform=transform,
            device=world.device,
            resident=job.engine.resident,
            truths=task.spec.truth_keys,
        )
    transform = loaders["train"].measured()
    for use, loader in loaders.items():
        loader.transform = transform
        check_samples(task, loader, f"{job.data.root}: {getattr(job.data, use)}")
    train = loaders["train"]
    task.fit_statistics(train.targets.cpu().numpy(), train.truth)
    if task.spec.target_name:
        _log.info("%s of %s", job.task.name, task.spec.target_name)
    return task, loaders


def check_samples(task: Task, loader: Loader, place: str) -> None:
    """Make sure that images have what a task cannot do without: truth, labels and contrast.

    Raises:
        ShardError: They lack some of it.
    """
    if len(flat := loader.flat()):
        named = ", ".join(loader.ids[flat[:3]])
        raise ShardError(
            f"{place}: {counted_of(len(flat), len(loader), 'image', 'is', 'are')} constant once "
            f"stretched and clipped ({named}{', ...' * (len(flat) > 3)}), without an sd to be "
            "divided by; leave them out when you pack, or choose data.per: band or set"
        )
    if lacking := set(task.spec.truth_keys) - set(loader.truth) if task.spec.needs_truth else ():
        raise ShardError(
            f"{place}: has no truth/{min(lacking)}, which the task learns; 'simulate' keeps it "
            "beside the images"
        )
    unlabelled = int((loader.targets < 0).sum())
    if unlabelled and task.spec.classifies:
        raise ShardError(
            f"{place}: {counted_of(unlabelled, len(loader), 'image', 'has', 'have')} no label, "
            "which the task learns and is scored by; 'pack' those that have one, or name a slice "
            "of them"
        )


def frame_of(job: Job, info: SplitInfo) -> Frame:
    """The images of a job as its network sees them."""
    kept = job.data.crop or info.shape[1]
    size = job.data.size or kept
    return Frame(info.shape[0], size, info.pixel_scale * kept / size)


def task_of(job: Job, info: SplitInfo) -> Task:
    """What a job learns.

    Raises:
        ValueError: The task cannot be had with those options or data.
    """
    return build_task(
        job.task.name, classes=info.classes, frame=frame_of(job, info), **job.task.options
    )


def model_of(
    job: Job, info: SplitInfo, task: Task, *, pretrained: bool | None = None
) -> nn.Module:
    """The network of a job, on the CPU, as it is published or at random.

    Arguments:
        job: Names it.
        info: The data.
        task: What it learns.
        pretrained: In place of what the job says.

    Raises:
        ModelError: Unknown name or option, or a size the model cannot take.
        WeightsError: Pretrained weights were asked for and cannot be had.
    """
    frame = frame_of(job, info)
    return models.build(
        job.model.name,
        channels=frame.channels,
        classes=task.spec.num_outputs,
        size=frame.size,
        pretrained=job.model.pretrained if pretrained is None else pretrained,
        adapt=job.model.adapt,
        **job.model.options,
    )


def gflops_of(model: nn.Module, frame: Frame) -> float:
    """Count the floating-point operations of a forward pass of one image, in 1e9.

    A multiplication and an addition are two; only products of matrices and convolutions count.
    """
    device, training = next(model.parameters()).device, model.training
    model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, frame.channels, frame.size, frame.size, device=device))
    model.train(training)
    return counter.get_total_flops() / 1e9


def _start(job: Job, info: SplitInfo, task: Task) -> tuple[nn.Module, tuple[str, ...]]:
    """The network with the weights it starts from: published, of another run, or at random.

    Returns:
        The network, and what was changed or left out of another's weights.
    """
    torch.manual_seed(job.seed)
    model = model_of(job, info, task, pretrained=job.model.pretrained and not job.train.init)
    if not job.train.init:
        return model, ()
    channels = frame_of(job, info).channels
    start = start_from(model, Path(job.train.init), channels=channels, adapt=job.model.adapt)
    but = ", but for the head" * bool(start.left)
    _log.info("from the weights of %s%s", job.train.init, but)
    return model, tuple(start.notes)
