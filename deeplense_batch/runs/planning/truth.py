"""Whether the truth that a task reads is there, and still that of its images, before a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deeplense_batch.core.job import Augment, Job, JobError
from deeplense_batch.data.shards import ShardError, Split

if TYPE_CHECKING:  # which loads torch
    from deeplense_batch.tasks.task import TaskSpec

__all__ = ["check_truth"]

# Fields of `Augment` that move the pixels of an image.
_MOVING = ("flips", "dihedral", "degrees", "translate", "scale")


def check_truth(
    job: Job,
    spec: TaskSpec,
    sets: Sequence[Split],
    known: Sequence[Sequence[str]],
    scales: str | None,
) -> None:
    """Check the truth of what a job is trained on.

    Arguments:
        job: The job.
        spec: Of its task, which reads some truth.
        sets: The slices that it is trained on.
        known: The truth arrays that each of them has.
        scales: A sentence, where their pixels are of several widths.

    Raises:
        ShardError: One of the sets lacks a truth that another has.
        JobError: Something would move images against the truth of their pixels.
    """
    truths = [set(spec.truth_keys) & {*names} for names in known]
    _check_same_truth(sets, truths)
    if not spec.fixed_geometry:
        return
    for split, truth in zip(sets, truths, strict=True):
        _check_fixed(job, truth, split.info.shape[1:])
    if truths[0] and scales:
        raise JobError(
            f"{job.name}: {scales}; task {job.task.name} measures lenses in pixels: expected sets "
            "of one pixel scale, or task.options.truth: false"
        )


def _check_same_truth(sets: Sequence[Split], truths: Sequence[set[str]]) -> None:
    """Make sure that sets that are trained on together have the same of what a task reads.

    By the first file of each; that all files of a set have it is seen when they are loaded.

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


def _check_fixed(job: Job, truth: set[str], sides: tuple[int, ...]) -> None:
    """Make sure that nothing moves images against the truth of their pixels.

    Arguments:
        job: The job.
        truth: Names of the truth that the task compares with pixels and that the data have.
        sides: Height and width of the images, pixels.

    Raises:
        JobError: A crop, an augmentation or an averaging of views would move them.
    """
    augment, none = job.data.augment, Augment()
    moving = [f"data.augment.{name}" for name in _MOVING
              if getattr(augment, name) != getattr(none, name)]  # fmt: skip
    moving += ["data.tta"] * job.data.tta + ["train.mixup"] * bool(job.train.mixup)
    if truth and job.data.crop and any((side - job.data.crop) % 2 for side in sides):
        raise JobError(
            f"{job.name}: data.crop: {job.data.crop} of {' x '.join(map(str, sides))} pixels lie "
            f"half a pixel off the middle, from which truth/{min(truth)} is measured; take one "
            "more or less"
        )
    if truth and moving:
        raise JobError(
            f"{job.name}: {moving[0]}: task {job.task.name} compares images with the truth of "
            f"their pixels (truth/{min(truth)}), which this would move; switch it off, or "
            "task.options.truth"
        )
