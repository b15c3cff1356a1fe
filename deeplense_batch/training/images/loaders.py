"""The loaders of a job: of its slices and sets, checked, and normalised as it trains.

Whatever is measured of the images, and fitted to them, is of those that are trained on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from deeplense_batch.core.distributed import World
from deeplense_batch.core.job import Job, JobError
from deeplense_batch.core.sections.data import DataSection
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.batches.mixture import Mixture
from deeplense_batch.data.batches.paired import paired_loader
from deeplense_batch.data.formats.counted import counted_of
from deeplense_batch.data.mixed_sets import mixed_info
from deeplense_batch.data.pixels.transform import Transform
from deeplense_batch.data.shards import ShardError, Split, SplitInfo
from deeplense_batch.data.slices.truth_files import check_truth_files
from deeplense_batch.tasks import build_task
from deeplense_batch.tasks.posteriors.quantities import wrong_number
from deeplense_batch.tasks.task import Batch, Frame, Task, TaskSpec, Unit
from deeplense_batch.training.evaluation import batches_of
from deeplense_batch.training.target import check_contrast

__all__ = ["check_needed_truth", "check_samples", "frame_of", "open_loaders", "task_of"]

_NAMED = 20  # arrays of truth in a sentence

_log = logging.getLogger(__name__)


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
        JobError: There is nothing to learn from them.
        ValueError: The task cannot be had with those options or data.
    """
    info = mixed_info(job.data, sets, slices.values()) if sets else slices["train"].info
    task = task_of(job, info)
    alone = {f"curriculum {place}": split for place, split in enumerate(first)}
    check_truth_files(task.spec.truth_keys, dict(slices) | alone, sets)
    loaders = _loaders(job, world, task, slices, sets, first, info)
    train = loaders["train"]
    transform = train.measured()
    scored = [loaders.get(use) for use in ("valid", "test")]
    for place, loader in _by_place(job.data, loaders):
        loader.transform = transform
        check_samples(task, loader, place, scored=loader in scored)
    try:
        task.fit_statistics(train.targets.cpu().numpy(), train.truth)
        if task.spec.needs_inputs:
            task.fit_images(_all_batches(train), Unit(transform.mean, transform.sd))
    except (JobError, ShardError):
        raise
    except ValueError as error:
        raise JobError(f"{job.name}: {error}") from error
    if task.spec.target_name:
        _log.info("%s of %s%s", job.task.name, task.spec.target_name, _learnt_from(task, train))
    return task, loaders


def _learnt_from(task: Task, train: Loader | Mixture) -> str:
    """How many images of the training slice are learnt from, where that is not all."""
    trainable = task.trainable_mask(train.targets.cpu().numpy(), train.truth)
    count = len(trainable)
    if trainable.all():
        return ""
    return f", learnt from {trainable.sum()} of {count} images; the others lack what is learnt"


def _loaders(
    job: Job,
    world: World,
    task: Task,
    slices: Mapping[str, Split],
    sets: Sequence[Split],
    first: Sequence[Split],
    info: SplitInfo,
) -> dict[str, Any]:
    """Loaders as `open_loaders` gives them, not normalised yet."""
    make: Callable[..., Loader] = Loader
    if task.spec.needs_inputs:
        make = partial(paired_loader, registers=job.data.register)

    def load(split: Split) -> Loader:
        return make(
            split,
            transform=Transform.of(job.data),
            device=world.device,
            resident=job.engine.resident,
            truths=task.spec.truth_keys,
        )

    loaders: dict[str, Any] = {}
    if sets:  # each takes its memory before the next one looks for room
        weights = [each.weight for each in job.data.roots if each.weight is not None]
        loaders["train"] = Mixture([load(split) for split in sets], weights, info)
    loaders |= {use: load(split) for use, split in slices.items()}
    return loaders | {"curriculum": tuple(load(split) for split in first)}


def _by_place(data: DataSection, loaders: Mapping[str, Any]) -> Iterator[tuple[str, Loader]]:
    """Every loader of one slice, by the folder and the slice that it is of."""
    for lesson, loader in zip(data.curriculum, loaders["curriculum"], strict=False):
        yield f"{lesson.root}: {lesson.train}", loader
    for use, loader in loaders.items():
        if isinstance(loader, Mixture):
            for each, member in zip(data.roots, loader.members, strict=True):
                yield f"{each.root}: {each.train}", member
        elif use != "curriculum":
            yield f"{data.root}: {getattr(data, use)}", loader


def _all_batches(train: Loader | Mixture) -> Iterator[Batch]:
    """Every image that is trained on, once."""
    for member in train.members if isinstance(train, Mixture) else [train]:
        yield from batches_of(member, list(member.in_order(rank=0, world=1)))


def check_samples(task: Task, loader: Loader, place: str, *, scored: bool = True) -> None:
    """Make sure that images have what a task cannot do without: truth, labels and contrast.

    Arguments:
        task: The task.
        loader: The images, with their truth.
        place: Where they are, as a sentence begins.
        scored: Whether they are scored, or else learnt from.

    Raises:
        ShardError: They lack some of it.
    """
    check_contrast(loader, place)
    known = loader.split.shared_truths()[0] if task.spec.needs_truth else {}
    check_needed_truth(task.spec, known, place)
    try:
        task.check_truth(loader.truth, scored=scored)
    except ValueError as error:
        raise ShardError(f"{place}: {error}") from error
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
