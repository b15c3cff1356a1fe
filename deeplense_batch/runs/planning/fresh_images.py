"""Whether a job can simulate what it trains on, as far as can be known before it runs."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from deeplense_batch.core.job import Job, JobError
from deeplense_batch.data.shards import ShardError, Split, read_splits

if TYPE_CHECKING:  # which loads torch
    from deeplense_batch.tasks.task import Task

__all__ = ["anchored", "changed", "check_new_images"]


def anchored(job: Job) -> Job:
    """The job with all that ``data.simulate`` leaves to ``data.root``, and its digest.

    Raises:
        ShardError: There are no such images.
    """
    if (asked := job.data.simulate) is None:
        return job
    from deeplense_batch.simulation.fresh.like import digest_of, generator_of, settled

    known = settled(asked, job.data.root)
    info = next(iter(read_splits(job.data.root).values()))
    digest = digest_of(known, generator_of(known, info))
    update = {"simulate": known.model_copy(update={"digest": digest})}
    return job.model_copy(update={"data": job.data.model_copy(update=update)})


def changed(job: Job) -> str | None:
    """What is other than when the job was planned, in words; None where all is the same.

    Raises:
        ShardError: There are no such images any more.
    """
    asked, now = job.data.simulate, anchored(job).data.simulate
    if asked is None or now is None or asked.digest == now.digest:
        return None
    return (
        f"data.simulate: preset {asked.preset} makes other images, {now.digest}, than when the "
        f"run was planned, {asked.digest}"
    )


def check_new_images(
    job: Job,
    train: Split,
    known: Callable[[Split], Collection[str]],
    task: Task | None,
) -> None:
    """Make one of the images; nothing where none are simulated.

    Arguments:
        job: The job.
        train: The slice by which the images are normalised.
        known: Gives the names of the truth of a slice.
        task: What is learnt, where it reads more than images and labels.

    Raises:
        ShardError: It cannot be made, or lacks a truth.
        JobError: There are too few images.
    """
    if job.data.simulate is None:
        return
    from deeplense_batch.simulation.fresh.like import generator_of, settled

    asked = settled(job.data.simulate, job.data.root)
    made_by = generator_of(asked, train.info.as_stored)
    if asked.images < (least := max(len(made_by.classes), job.resources.tasks)):
        raise JobError(
            f"{job.name}: data.simulate.images: expected {least} or more, one of each class and "
            f"for each process; got {asked.images}"
        )
    try:
        truth = made_by.make("train", [0], seed=0).truth
    except ValueError as error:
        raise JobError(f"{job.name}: data.simulate: {error}") from error
    learnt = set() if task is None else {*task.spec.truth_keys} & {*known(train)}
    if lacking := learnt - {*truth}:
        raise ShardError(
            f"data.simulate: the simulation knows no truth/{min(lacking)}, which the images of "
            f"{job.data.root} have and the task learns"
        )
