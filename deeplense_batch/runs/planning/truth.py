"""Whether labels and truth that a task reads are there, and still those of its images.

As far as can be known before a run: by the heads of the files, and by the arrays of the first file
of a split, whose other files `data.writer` gives the same ones. That every file is so, and none
damaged, is seen when all of them are read, which takes too long to plan with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from deeplense_batch.core.job import Augment, Job, JobError
from deeplense_batch.data.formats.counted import counted_of
from deeplense_batch.data.shards import ShardError, Split

if TYPE_CHECKING:  # which loads torch
    from deeplense_batch.tasks.task import TaskSpec

__all__ = ["check_balance", "check_labels", "check_truth"]

# Fields of `Augment` that move the pixels of an image.
_MOVING = ("flips", "dihedral", "degrees", "translate", "scale")


def check_truth(
    job: Job,
    spec: TaskSpec,
    trained_on: Sequence[Split],
    scored: Sequence[Split],
    known: Callable[[Split], Mapping[str, tuple[int, ...]]],
    scales: str | None,
) -> None:
    """Check the truth of the images of a job.

    What is scored may lack a truth that is learnt, unless the task needs it: real images, of which
    nothing is known, judge what was learnt on simulated ones.

    Arguments:
        job: The job.
        spec: Of its task, which reads some truth.
        trained_on: The slices that it is trained on.
        scored: Its slices ``valid`` and ``test``, of other images perhaps.
        known: Gives the shapes of the truth of a slice, by its name.
        scales: A sentence, where their pixels are of several widths.

    Raises:
        ShardError: A slice lacks a truth that the task needs, or that another has which is
            trained on with it.
        JobError: Something would move or zoom images against the truth of their pixels.
    """
    learnt, judged = (
        [(split, {*spec.truth_keys} & {*known(split)}) for split in splits]
        for splits in (trained_on, scored)
    )
    _check_same_truth(*zip(*learnt, strict=True))
    if spec.needs_truth:
        from deeplense_batch.training.images.loaders import (
            check_needed_truth,  # torch is loaded by now
        )

        for split in (*trained_on, *scored):
            place = f"{split.info.files[0].parent}: {split.info.name}"
            check_needed_truth(spec, known(split), place)
    _check_not_zoomed(job, spec)
    if not spec.fixed_geometry:
        return
    for split, truth in (*learnt, *judged):
        _check_middle(job, truth, split.info.shape[1:])
    augment, none = job.data.augment, Augment()
    changed = [name for name in _MOVING if getattr(augment, name) != getattr(none, name)]
    moving = [f"data.augment.{name}" for name in changed]
    moving += ["train.mixup"] * bool(job.train.mixup)
    _check_still(job, spec, moving, set().union(*(truth for _, truth in learnt)))
    _check_still(
        job, spec, ["data.tta"] * job.data.tta, set().union(*(truth for _, truth in judged))
    )
    if learnt[0][1] and scales:
        raise JobError(
            f"{job.name}: {scales}; task {job.task.name} measures lenses in pixels: expected sets "
            "of one pixel scale, or task.options.truth: false"
        )


def check_labels(split: Split) -> None:
    """Make sure that images whose classes are learnt, or scored by, have labels.

    The heads count those of whole splits: that a part of one lacks some is seen when it is loaded.

    Raises:
        ShardError: Fewer images of the split have a label than the slice has images.
    """
    info = split.info
    labelled = sum(info.class_counts)
    if labelled < len(split):
        has = counted_of(labelled, len(info), "image", "has", "have")
        raise ShardError(
            f"{info.files[0].parent}: {info.name}: {has} a label, which the task learns and is "
            "scored by; 'pack' those that have one, or name a slice of them"
        )


def check_balance(job: Job, trained_on: Sequence[Split]) -> None:
    """Make sure that images have labels where their classes are to be balanced.

    Raises:
        JobError: Some have none.
    """
    if job.train.balance == "none":
        return
    for split in trained_on:
        if sum(split.info.class_counts) == len(split.info):  # by its head all have one
            continue
        labelled = int((split.targets() >= 0).sum())
        if labelled < len(split):
            has = counted_of(labelled, len(split), "image", "has", "have")
            raise JobError(
                f"{job.name}: train.balance: got {job.train.balance}, which balances classes, and "
                f"{has} a label in {split.info.files[0].parent}: {split.info.name}; expected none"
            )


def _check_same_truth(sets: Sequence[Split], truths: Sequence[set[str]]) -> None:
    """Make sure that sets that are trained on together have the same of what a task reads.

    Raises:
        ShardError: One lacks what another has.
    """
    for split, known in zip(sets, truths, strict=True):
        if lacking := set().union(*truths) - known:
            key = min(lacking)
            other = next(s for s, t in zip(sets, truths, strict=True) if key in t)
            raise ShardError(
                f"{split.info.files[0].parent}: has no truth/{key}, which "
                f"{other.info.files[0].parent} has and the task reads; leave one of them out, or "
                "set task.options.truth: false for a task that has it"
            )


def _check_middle(job: Job, truth: set[str], sides: tuple[int, ...]) -> None:
    """Make sure that a crop keeps the middle, from which truth is measured.

    Arguments:
        job: The job.
        truth: Names of the truth that the task compares with pixels and that the data have.
        sides: Height and width of the images, pixels.

    Raises:
        JobError: It does not.
    """
    if truth and job.data.crop and any((side - job.data.crop) % 2 for side in sides):
        raise JobError(
            f"{job.name}: data.crop: {job.data.crop} of {' x '.join(map(str, sides))} pixels lie "
            f"half a pixel off the middle, from which truth/{min(truth)} is measured; take one "
            "more or less"
        )


def _check_not_zoomed(job: Job, spec: TaskSpec) -> None:
    """Make sure that no image is zoomed of which a length is learnt.

    Raises:
        JobError: Some are.
    """
    scale = job.data.augment.scale
    if spec.lengths and scale != Augment().scale:
        raise JobError(
            f"{job.name}: data.augment.scale: got {[*scale]}, which would make another number of "
            f"{spec.lengths[0]}, a length in the image that task {job.task.name} learns; expected "
            "[1, 1], or other numbers to learn"
        )


def _check_still(job: Job, spec: TaskSpec, moving: Sequence[str], truth: set[str]) -> None:
    """Make sure that nothing moves images against the truth of their pixels.

    Arguments:
        job: The job.
        spec: Of its task.
        moving: Fields of it that move some images.
        truth: Names of the truth of these that the task compares with pixels.

    Raises:
        JobError: Something does.
    """
    if truth and moving:
        raise JobError(
            f"{job.name}: {moving[0]}: task {job.task.name} compares images with the truth of "
            f"their pixels (truth/{min(truth)}), which this would move; switch it off, or "
            f"{'learn other numbers' if spec.truth_numbers else 'task.options.truth'}"
        )
