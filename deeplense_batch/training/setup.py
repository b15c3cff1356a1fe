"""What a job becomes on this machine: its images, its task and its network.

Whoever trains, measures or opens a network puts task and network together here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from deeplense_batch import models
from deeplense_batch.core.distributed import World
from deeplense_batch.core.job import Job
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.batches.making import Batches
from deeplense_batch.data.batches.mixture import Mixture
from deeplense_batch.data.batches.paired import registrations
from deeplense_batch.data.batches.unlabelled import Unlabelled
from deeplense_batch.data.digest import verify
from deeplense_batch.data.formats.counted import counted, counted_of
from deeplense_batch.data.job_slices import open_slices
from deeplense_batch.data.mixed_sets import (
    about_pixel_scales,
    open_curriculum,
    open_training_sets,
)
from deeplense_batch.data.pairs.registration import Registration
from deeplense_batch.data.pixels.clean import about_clean, check_photons
from deeplense_batch.data.shards import ShardError, SplitInfo
from deeplense_batch.data.slices.target_set import open_target
from deeplense_batch.models.start import start_from
from deeplense_batch.simulation.fresh.new_images import NewImages
from deeplense_batch.tasks.extended import bare
from deeplense_batch.tasks.task import Frame, Task
from deeplense_batch.training.images.loaders import frame_of, open_loaders
from deeplense_batch.training.images.units import about_units
from deeplense_batch.training.target import about_target, open_unlabelled

__all__ = [
    "Setup",
    "gflops_of",
    "model_of",
    "set_up",
    "side_given",
]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setup:
    """All that a training works with."""

    job: Job
    task: Task
    model: nn.Module  # on the device, with the weights it starts from
    train: Batches | Mixture
    valid: Loader
    test: Loader
    curriculum: tuple[Loader, ...] = ()  # what is trained on before `train`
    # sentences on the images, and on the weights that it starts from, for a reader of scores
    notes: tuple[str, ...] = ()
    unlabelled: Unlabelled | None = None  # images that the task adapts to
    #: Ids and shifts of pairs that are registered, by the slice as the recipe names it.
    registered: Mapping[str, tuple[Sequence[str], Registration]] = field(default_factory=dict)

    @property
    def info(self) -> SplitInfo:
        """The images, as their shards describe them."""
        return self.train.info

    @property
    def frame(self) -> Frame:
        """The images as the network sees them."""
        return frame_of(self.job, self.info)

    @property
    def gflops(self) -> float:
        """Floating-point operations of the network for one image, in 1e9."""
        return gflops_of(self.model, self.frame.channels, side_given(self.task, self.frame))

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
    sets = open_training_sets(job, slices)
    first = open_curriculum(job, slices)
    adaptation = job.task.adaptation
    target = None if adaptation is None else open_target(job, adaptation, slices, sets)
    splits = [*slices.values(), *sets, *first, *filter(None, [target])]
    check_photons(job, [*(sets or [slices["train"]]), *first])
    for info in {split.info.files: split.info.as_stored for split in splits}.values():
        verify(info)
    for split in splits:
        if len(split) < world.size:
            raise ShardError(
                f"{split.info.files[0].parent}: {counted(len(split), 'sample')} of "
                f"{split.info.name}, less than one for each of {world.size} processes"
            )
    task, loaders = open_loaders(job, world, slices, sets, first)
    train = loaders.pop("train")
    unlabelled = None if target is None else open_unlabelled(job, target, train)
    notes = [*filter(None, [about_clean(job, splits)])]
    if isinstance(train, Mixture):
        scales = about_pixel_scales(job.data, sets, [slices["test"]])
        notes += filter(None, [scales, *about_units(job, train)])
    if unlabelled is not None:
        notes += about_target(unlabelled)
    for note in notes:
        _log.warning("%s", note)
    registered = registrations(job.data, train, **loaders)
    for name, (ids, own) in registered.items():
        notes.append(f"data.register: {name}: {own.about(ids)}")
        _log.info("%s", notes[-1])
    model, about_start = _start(job, train.info, task)
    notes += about_start
    trained_on = train if job.data.simulate is None else _simulated(job, task, train)
    return Setup(
        job, task, model.to(world.device), trained_on, **loaders, notes=tuple(notes),
        unlabelled=unlabelled, registered=registered,
    )  # fmt: skip


def _simulated(job: Job, task: Task, like: Loader) -> NewImages:
    """New images in place of those of the training slice, by which they are normalised.

    Raises:
        ShardError: Some of that slice lack what is learnt, so that some new ones would.
    """
    trainable = task.trainable_mask(like.targets.cpu().numpy(), like.truth)
    if unknown := int((~trainable).sum()):
        raise ShardError(
            f"data.simulate: {counted_of(unknown, len(like), 'image', 'lacks', 'lack')} what is "
            f"learnt in {job.data.root} {job.data.train}, and so would new ones; learn what every "
            "image has, or simulate a set of other classes"
        )
    return NewImages.of(job, like)


def model_of(
    job: Job, info: SplitInfo, task: Task, *, pretrained: bool | None = None
) -> nn.Module:
    """The network of a job, on the CPU, as it is published or at random, as its task trains it.

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
    network = models.build(
        job.model.name,
        channels=frame.channels,
        classes=task.spec.num_outputs,
        size=side_given(task, frame),
        ratio=frame.ratio,
        pretrained=job.model.pretrained if pretrained is None else pretrained,
        adapt=job.model.adapt,
        **job.model.options,
    )
    return task.wrap(network)


def side_given(task: Task, frame: Frame) -> int:
    """Pixels along a side of what the network of a task is given."""
    return frame.input_size if task.spec.given_inputs else frame.size


def gflops_of(model: nn.Module, channels: int, size: int) -> float:
    """Count the floating-point operations of a forward pass of one image, in 1e9.

    A multiplication and an addition are two; only products of matrices and convolutions count.

    Arguments:
        model: Is given images of so many `channels`, of `size` pixels along a side.
    """
    device, training = next(model.parameters()).device, model.training
    model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, channels, size, size, device=device))
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
    start = start_from(bare(model), Path(job.train.init), channels=channels, adapt=job.model.adapt)
    but = ", but for the head" * bool(start.left)
    _log.info("from the weights of %s%s", job.train.init, but)
    return model, tuple(start.notes)
