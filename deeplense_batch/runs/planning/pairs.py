"""Whether the images of a job are the pairs that its task learns from, and stay pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from deeplense_batch.core.job import Augment, Job, JobError
from deeplense_batch.data.pairs.crops import inputs_crop
from deeplense_batch.data.pairs.registration import check_installed
from deeplense_batch.data.shards import ShardError, Split

if TYPE_CHECKING:  # which loads torch
    from deeplense_batch.tasks.task import TaskSpec

__all__ = ["check_pairs"]

_RESAMPLES = ("degrees", "translate", "scale", "blur", "noise")  # fields of `Augment`


def check_pairs(job: Job, spec: TaskSpec | None, splits: Sequence[Split]) -> None:
    """Make sure that a task that learns from pairs has pairs, of one ratio and changed alike.

    Arguments:
        job: The job.
        spec: Of its task; None for the default one.
        splits: All slices that it reads.

    Raises:
        ShardError: A slice has no inputs, inputs of another ratio, or no such crop.
        JobError: The recipe changes images and not their inputs, or other than these.
    """
    if spec is None or not spec.needs_inputs:
        if job.data.register:
            raise JobError(
                f"{job.name}: data.register: finds the shift between the two images of pairs, and "
                f"task {job.task.name} learns from one image; leave it out"
            )
        return
    for split in splits:
        place = f"{split.info.files[0].parent}: {split.info.name}"
        if split.info.inputs is None:
            raise ShardError(
                f"{place}: has no inputs, of which task {job.task.name} makes images; 'pack' "
                "packs pairs of folders HR and LR, and 'simulate super_resolution' makes some"
            )
        if split.info.ratio != splits[0].info.ratio:
            raise ShardError(
                f"{place}: has {split.info.ratio} pixels along one of its inputs, and "
                f"{splits[0].info.files[0].parent}: {splits[0].info.name} has "
                f"{splits[0].info.ratio}; expected one ratio"
            )
        inputs_crop(split.info, job.data.crop)
    if job.data.register:
        check_installed()
    for field, value, allowed in _changes(job):
        raise JobError(
            f"{job.name}: {field}: got {value}, which would not change an image and its input "
            f"alike, and task {job.task.name} learns from such pairs; expected {allowed}"
        )


def _changes(job: Job) -> Iterator[tuple[str, Any, str]]:
    """Fields of a recipe that part pairs, their values, and what is allowed."""
    data, augment, none = job.data, job.data.augment, Augment()
    if data.size is not None:
        yield "data.size", data.size, "null; data.crop keeps the middle of both"
    if data.per == "image":
        yield "data.per", data.per, "band or set"
    if data.tta:
        yield "data.tta", data.tta, "false"
    for name in _RESAMPLES:
        if (value := getattr(augment, name)) != getattr(none, name):
            usual = getattr(none, name)
            shown = list(usual) if isinstance(usual, tuple) else f"{usual:g}"
            yield f"data.augment.{name}", value, f"{shown}; flips and dihedral move both alike"
