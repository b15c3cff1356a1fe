"""What a job becomes on this machine: its images, its task and its network.

Whoever trains, measures or opens a network puts task and network together here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from deeplense_batch import models
from deeplense_batch.core.distributed import World
from deeplense_batch.core.job import Job
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.batches.making import Batches
from deeplense_batch.data.batches.mixture import Mixture
from deeplense_batch.data.batches.paired import paired_loader, registrations
from deeplense_batch.data.batches.unlabelled import Unlabelled
from deeplense_batch.data.digest import verify
from deeplense_batch.data.formats.counted import counted, counted_of
from deeplense_batch.data.job_slices import open_slices
from deeplense_batch.data.mixed_sets import (
    about_pixel_scales,
    mixed_info,
    open_curriculum,
    open_training_sets,
)
from deeplense_batch.data.pairs.registration import Registration
from deeplense_batch.data.pixels.clean import about_clean, check_photons
from deeplense_batch.data.pixels.transform import Transform
from deeplense_batch.data.pixels.unit import about_another_unit
from deeplense_batch.data.shards import ShardError, Split, SplitInfo
from deeplense_batch.data.slices.target_set import open_target
from deeplense_batch.data.slices.truth_files import check_truth_files
from deeplense_batch.models.start import start_from
from deeplense_batch.simulation.fresh.new_images import NewImages
from deeplense_batch.tasks import build_task
from deeplense_batch.tasks.extended import bare
from deeplense_batch.tasks.posteriors.quantities import wrong_number
from deeplense_batch.tasks.task import Batch, Frame, Task, TaskSpec, Unit
from deeplense_batch.training.evaluation import batches_of
from deeplense_batch.training.target import about_target, check_contrast, open_unlabelled

__all__ = [
    "Setup",
    "check_needed_truth",
    "check_samples",
    "frame_of",
    "gflops_of",
    "model_of",
    "open_loaders",
    "set_up",
    "side_given",
    "task_of",
]

_LOOKED_AT = 64  # images that tell the unit of a set
_NAMED = 20  # arrays of truth in a sentence

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
        notes += filter(None, [scales, *_about_units(job, train)])
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


def open_loaders(
    job: Job,
    world: World,
    slices: Mapping[str, Split],
    sets: Sequence[Split] = (),
    first: Sequence[Split] = (),
) -> tuple[Task, dict[str, Any]]:
    """The task of a job and the loaders of its slices, all normalised as ``train`` measures.

    Arguments:
        job: The recipe.
        world: Its processes.
        slices: Slices by name, ``train`` among them unless there are `sets`.
        sets: Of ``data.roots``, in place of ``train``.
        first: Of ``data.curriculum``; none where only the others are wanted.

    Returns:
        The task; and a `Loader` by name, a `Mixture` for ``train`` where there are `sets`, and a
        tuple of them, ``curriculum``.

    Raises:
        ShardError: The images lack the labels or the truth that is learnt.
        ValueError: The task cannot be had with those options or data.
    """
    info = mixed_info(job.data, sets, slices.values()) if sets else slices["train"].info
    task = task_of(job, info)
    alone = {f"curriculum {place}": split for place, split in enumerate(first)}
    check_truth_files(task.spec.truth_keys, dict(slices) | alone, sets)
    transform = Transform.of(job.data)
    make: Callable[..., Loader] = Loader
    if task.spec.needs_inputs:
        make = partial(paired_loader, registers=job.data.register)

    def load(split: Split) -> Loader:
        return make(
            split,
            transform=transform,
            device=world.device,
            resident=job.engine.resident,
            truths=task.spec.truth_keys,
        )

    loaders: dict[str, Any] = {}
    if sets:  # each takes its memory before the next one looks for room
        weights = [each.weight for each in job.data.roots if each.weight is not None]
        loaders["train"] = Mixture([load(split) for split in sets], weights, info)
    loaders |= {use: load(split) for use, split in slices.items()}
    curriculum = tuple(load(split) for split in first)
    transform = loaders["train"].measured()
    for lesson, loader in zip(job.data.curriculum if first else (), curriculum, strict=True):
        loader.transform = transform
        check_samples(task, loader, f"{lesson.root}: {lesson.train}")
    for use, loader in loaders.items():
        loader.transform = transform
        if not isinstance(loader, Mixture):
            check_samples(task, loader, f"{job.data.root}: {getattr(job.data, use)}")
    train = loaders["train"]
    if isinstance(train, Mixture):
        for each, member in zip(job.data.roots, train.members, strict=True):
            check_samples(task, member, f"{each.root}: {each.train}")
    task.fit_statistics(train.targets.cpu().numpy(), train.truth)
    if task.spec.needs_inputs:
        task.fit_images(_all_batches(train), Unit(transform.mean, transform.sd))
    if task.spec.target_name:
        _log.info("%s of %s", job.task.name, task.spec.target_name)
    return task, loaders | {"curriculum": curriculum}


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


def _all_batches(train: Loader | Mixture) -> Iterator[Batch]:
    """Every image that is trained on, once."""
    for member in train.members if isinstance(train, Mixture) else [train]:
        yield from batches_of(member, list(member.in_order(rank=0, world=1)))


def _about_units(job: Job, train: Mixture) -> Iterable[str]:
    """A sentence about sets that seem to be in different units; none where they do not."""
    if train.transform.per == "image":
        return
    seen: dict[str, Tensor] = {}
    for each, member in zip(job.data.roots, train.members, strict=True):
        batches = member.representative(_LOOKED_AT, _LOOKED_AT)
        (seen[each.root],) = (images for images, *_ in member.batches(batches))
    stretch = train.transform.stretch
    if any(about_another_unit(images, stretch) for images in seen.values()):
        looks = (
            f"mean {images.mean():.3g} and sd {images.std():.3g} in {Path(root).name}"
            for root, images in seen.items()
        )
        yield (
            "data.roots: the sets seem to be in different units: stretched "
            f"({stretch}) and normalised together, they have {', '.join(looks)}"
        )


def check_samples(task: Task, loader: Loader, place: str) -> None:
    """Make sure that images have what a task cannot do without: truth, labels and contrast.

    Raises:
        ShardError: They lack some of it.
    """
    check_contrast(loader, place)
    known = loader.split.shared_truths()[0] if task.spec.needs_truth else {}
    check_needed_truth(task.spec, known, place)
    unlabelled = int((loader.targets < 0).sum())
    if unlabelled and task.spec.classifies:
        raise ShardError(
            f"{place}: {counted_of(unlabelled, len(loader), 'image', 'has', 'have')} no label, "
            "which the task learns and is scored by; 'pack' those that have one, or name a slice "
            "of them"
        )


def check_needed_truth(spec: TaskSpec, known: Mapping[str, tuple[int, ...]], place: str) -> None:
    """Make sure that images have the truth that a task cannot do without.

    Arguments:
        spec: Of the task.
        known: Shape of the numbers of an image, by names of the truth that the images have.
        place: Where they are, as the sentence begins.

    Raises:
        ShardError: They lack some of it, or it has another shape.
    """
    if lacking := {*spec.truth_keys} - {*known} if spec.needs_truth else ():
        has = f"it has {', '.join(sorted(known)[:_NAMED])}" + ", ..." * (len(known) > _NAMED)
        keeps = "'simulate' keeps it beside the images"
        raise ShardError(
            f"{place}: has no truth/{min(lacking)}, which the task learns; "
            f"{has if known else keeps}"
        )
    for key, number in spec.truth_numbers:
        if fault := wrong_number(key, number, known[key]):
            raise ShardError(f"{place}: {fault}")


def frame_of(job: Job, info: SplitInfo) -> Frame:
    """The images of a job as its network sees them."""
    kept = job.data.crop or info.shape[1]
    size = job.data.size or kept
    return Frame(info.shape[0], size, info.pixel_scale * kept / size, info.ratio)


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
