"""Whether a job can be adapted to unlabelled images, as far as can be known before it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from deeplense_batch.core.job import Job, JobError
from deeplense_batch.data.formats.counted import counted
from deeplense_batch.data.shards import Split, SplitInfo, data_digest
from deeplense_batch.data.slices.target_set import open_target

__all__ = ["anchored", "changed", "check_adaptation"]

_LEAST = 2  # images that have a covariance: of a piece of a batch, and of the target


def check_adaptation(
    job: Job,
    slices: Mapping[str, Split],
    sets: Sequence[Split],
    read: Callable[[str], Mapping[str, SplitInfo]],
) -> None:
    """Check what a job is adapted to; nothing where it is not.

    Arguments:
        job: The job, whose options are known to be right.
        slices: Its slices of ``data.root``.
        sets: Those of ``data.roots``.
        read: Gives the splits of a folder.

    Raises:
        ShardError: The images are not there, or do not go with the others.
        JobError: Some are learnt from or scored too, or the training does not go with the method.
    """
    if (adaptation := job.task.adaptation) is None:
        return
    train, by = job.train, adaptation.by
    if train.mixup:
        raise JobError(
            f"{job.name}: train.mixup: got {train.mixup}, and task.options.adapt would compare "
            "mixed images with others that are not; expected 0"
        )
    piece = min(train.micro_batch or train.batch_size, train.batch_size) // job.resources.tasks
    if by != "dann" and piece < _LEAST:
        raise JobError(
            f"{job.name}: task.options.adapt.by: {by} compares the images that go through the "
            f"network at once, here {piece} of each set; expected {_LEAST} or more, by "
            "train.batch_size and train.micro_batch"
        )
    target = open_target(job, adaptation, slices, sets, read)
    if len(target) < _LEAST:
        has = counted(len(target), "image")
        raise JobError(
            f"{job.name}: task.options.adapt.to: {adaptation.to.slice} of {adaptation.to.root} "
            f"has {has}, of which {by} learns nothing; expected {_LEAST} or more"
        )


def anchored(job: Job, digest_of: Callable[[str], str]) -> Job:
    """The job with the images that it is adapted to by absolute path and by content.

    Arguments:
        job: The job.
        digest_of: Gives the digest of a folder.
    """
    if (adaptation := job.task.adaptation) is None:
        return job
    root = adaptation.to.root
    update = {"root": str(Path(root).absolute()), "digest": digest_of(root)}
    to = adaptation.to.model_copy(update=update)
    known = adaptation.model_copy(update={"to": to}).model_dump(mode="json")
    options = job.task.options | {"adapt": known}
    return job.model_copy(update={"task": job.task.model_copy(update={"options": options})})


def changed(job: Job) -> str | None:
    """What is other than when the job was planned, in words; None where all is the same.

    Raises:
        ShardError: The images cannot be read.
    """
    if (adaptation := job.task.adaptation) is None:
        return None
    to = adaptation.to
    if (now := data_digest(to.root)) == to.digest:
        return None
    return (
        f"task.options.adapt.to: {to.root} holds other data, {now}, than when the run was "
        f"planned, {to.digest}"
    )
