"""What a job becomes on this machine: its images, its task and its network.

Whoever trains, measures or opens a network puts task and network together here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from deeplense_batch import models
from deeplense_batch.core.distributed import World
from deeplense_batch.core.job import Job
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.batches.mixture import Mixture
from deeplense_batch.data.batches.paired import paired_loader
from deeplense_batch.data.digest import verify
from deeplense_batch.data.formats.counted import counted, counted_of
from deeplense_batch.data.job_slices import open_slices
from deeplense_batch.data.mixed_sets import about_pixel_scales, mixed_info, open_training_sets
from deeplense_batch.data.pairs.registration import Registration
from deeplense_batch.data.pixels.transform import Transform
from deeplense_batch.data.pixels.unit import about_another_unit
from deeplense_batch.data.shards import ShardError, Split, SplitInfo, open_shard
from deeplense_batch.models.start import start_from
from deeplense_batch.tasks import build_task
from deeplense_batch.tasks.task import Batch, Frame, Task, TaskSpec, Unit
from deeplense_batch.training.evaluation import batches_of

__all__ = [
    "Setup",
    "check_needed_truth",
    "check_samples",
    "check_truth_files",
    "frame_of",
    "gflops_of",
    "model_of",
    "open_loaders",
    "set_up",
    "side_given",
    "task_of",
]

_LOOKED_AT = 64  # images that tell the unit of a set

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setup:
    """All that a training works with."""

    job: Job
    task: Task
    model: nn.Module  # on the device, with the weights it starts from
    train: Loader | Mixture
    valid: Loader
    test: Loader
    # sentences on the images, and on the weights that it starts from, for a reader of scores
    notes: tuple[str, ...] = ()
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
    splits = [*slices.values(), *sets]
    for info in {split.info.files: split.info.as_stored for split in splits}.values():
        verify(info)
    for split in splits:
        if len(split) < world.size:
            raise ShardError(
                f"{split.info.files[0].parent}: {counted(len(split), 'sample')} of "
                f"{split.info.name}, less than one for each of {world.size} processes"
            )
    task, loaders = open_loaders(job, world, slices, sets)
    train = loaders.pop("train")
    notes = []
    if isinstance(train, Mixture):
        scales = about_pixel_scales(job.data, sets, [slices["test"]])
        notes = [*filter(None, [scales, *_about_units(job, train)])]
    for note in notes:
        _log.warning("%s", note)
    registered = _registered(job, train, loaders)
    for name, (ids, own) in registered.items():
        notes.append(f"data.register: {name}: {own.about(ids)}")
        _log.info("%s", notes[-1])
    model, about_start = _start(job, train.info, task)
    notes += about_start
    return Setup(
        job, task, model.to(world.device), train, **loaders, notes=tuple(notes),
        registered=registered,
    )  # fmt: skip


def open_loaders(
    job: Job, world: World, slices: Mapping[str, Split], sets: Sequence[Split] = ()
) -> tuple[Task, dict[str, Any]]:
    """The task of a job and the loaders of its slices, all normalised as ``train`` measures.

    Arguments:
        job: The recipe.
        world: Its processes.
        slices: Slices by name, ``train`` among them unless there are `sets`.
        sets: Of ``data.roots``, in place of ``train``.

    Returns:
        The task; and a `Loader` by name, a `Mixture` for ``train`` where there are `sets`.

    Raises:
        ShardError: The images lack the labels or the truth that is learnt.
        ValueError: The task cannot be had with those options or data.
    """
    info = mixed_info(job.data, sets, slices.values()) if sets else slices["train"].info
    task = task_of(job, info)
    check_truth_files(task.spec.truth_keys, slices, sets)
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
    transform = loaders["train"].measured()
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
    return task, loaders


def _all_batches(train: Loader | Mixture) -> Iterator[Batch]:
    """Every image that is trained on, once."""
    for member in train.members if isinstance(train, Mixture) else [train]:
        yield from batches_of(member, list(member.in_order(rank=0, world=1)))


def _registered(
    job: Job, train: Loader | Mixture, others: Mapping[str, Loader]
) -> dict[str, tuple[Sequence[str], Registration]]:
    """Ids and shifts of the pairs of each slice that is registered."""
    named = {getattr(job.data, use): loader for use, loader in others.items()}
    if isinstance(train, Mixture):
        for each, member in zip(job.data.roots, train.members, strict=True):
            named[f"{each.root}: {each.train}"] = member
    else:
        named = {job.data.train: train} | named
    return {
        name: (loader.split.ids(), loader.registration)
        for name, loader in named.items()
        if loader.registration is not None
    }


def check_truth_files(
    keys: Collection[str], slices: Mapping[str, Split], sets: Sequence[Split]
) -> None:
    """Make sure that what is known of some images that are read together is known of all.

    Arguments:
        keys: Truth that the task reads.
        slices: Each is read as a whole.
        sets: Read together.

    Raises:
        ShardError: A truth that the task reads is in some files of a slice, or of the sets that
            are trained on together, and not in others.
    """
    for key, together in product(keys, [*([split] for split in slices.values()), sets]):
        paths = [path for split in together for path, *_ in split.parts()]
        has = {path: _has_truth(path, key) for path in paths}
        if len(set(has.values())) > 1:
            lacking, other = ([*has.values()].index(there) for there in (False, True))
            raise ShardError(
                f"{paths[lacking]}: has no truth/{key}, which {paths[other]} has and "
                "the task reads; leave one of them out, or set task.options.truth: false for a "
                "task that has it"
            )


def _has_truth(path: Path, key: str) -> bool:
    with open_shard(path) as file:
        return f"truth/{key}" in file


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
    if len(flat := loader.flat()):
        named = ", ".join(loader.ids[flat[:3]])
        raise ShardError(
            f"{place}: {counted_of(len(flat), len(loader), 'image', 'is', 'are')} constant once "
            f"stretched and clipped ({named}{', ...' * (len(flat) > 3)}), without an sd to be "
            "divided by; leave them out when you pack, or choose data.per: band or set"
        )
    check_needed_truth(task.spec, loader.truth, place)
    unlabelled = int((loader.targets < 0).sum())
    if unlabelled and task.spec.classifies:
        raise ShardError(
            f"{place}: {counted_of(unlabelled, len(loader), 'image', 'has', 'have')} no label, "
            "which the task learns and is scored by; 'pack' those that have one, or name a slice "
            "of them"
        )


def check_needed_truth(spec: TaskSpec, known: Collection[str], place: str) -> None:
    """Make sure that images have the truth that a task cannot do without.

    Arguments:
        spec: Of the task.
        known: Names of the truth that the images have.
        place: Where they are, as the sentence begins.

    Raises:
        ShardError: They lack some of it.
    """
    if lacking := {*spec.truth_keys} - {*known} if spec.needs_truth else ():
        raise ShardError(
            f"{place}: has no truth/{min(lacking)}, which the task learns; 'simulate' keeps it "
            "beside the images"
        )


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
        size=side_given(task, frame),
        ratio=frame.ratio,
        pretrained=job.model.pretrained if pretrained is None else pretrained,
        adapt=job.model.adapt,
        **job.model.options,
    )


def side_given(task: Task, frame: Frame) -> int:
    """Pixels along a side of what the network of a task is given."""
    return frame.input_size if task.spec.needs_inputs else frame.size


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
    start = start_from(model, Path(job.train.init), channels=channels, adapt=job.model.adapt)
    but = ", but for the head" * bool(start.left)
    _log.info("from the weights of %s%s", job.train.init, but)
    return model, tuple(start.notes)
