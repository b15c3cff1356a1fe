"""Whether the numbers that a task learns are known, of images that it learns from or is scored on.

That these numbers are in the shards, `truth` makes sure of by the heads of the files. Here they
are read: a number that is one and the same, or unknown (NaN) in all images, teaches nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplense_batch.core.job import Job, JobError
from deeplense_batch.data.shards import ShardError, Split

if TYPE_CHECKING:  # which loads torch
    from deeplense_batch.tasks.task import Arrays, Task

__all__ = ["check_known", "check_numbers"]

Once = Callable[[Hashable, Callable[[], Any]], Any]


def check_numbers(
    job: Job,
    make: Callable[[], Task],
    learnt: Sequence[Split],
    scored: Sequence[Split],
    once: Once,
) -> None:
    """Check the numbers behind the images of a job; nothing where its task needs none.

    Arguments:
        job: The job.
        make: Makes its task, new.
        learnt: The slices that it is trained on; last those of the curriculum.
        scored: Its slices ``valid`` and ``test``.
        once: Of the plan, which looks at the same slices once (`Memo.once`).

    Raises:
        ShardError: A number has no logarithm that is learnt, or is unknown in all images that are
            scored by it.
        JobError: The training images have nothing to learn.
    """

    def check() -> None:
        task = make()
        for split in learnt:
            check_known(task, split, split.info.name, scored=False)
        for split, slice_ in zip(scored, (job.data.valid, job.data.test), strict=True):
            check_known(task, split, slice_, scored=True)
        fitted = learnt[: len(learnt) - len(job.data.curriculum)]
        truths = [_truth_of(task, split) for split in fitted]
        truth = {key: np.concatenate([own[key] for own in truths]) for key in truths[0]}
        targets = np.concatenate([split.targets() for split in fitted])
        try:
            task.fit_statistics(targets, truth)
        except ValueError as error:
            raise JobError(f"{job.name}: {error}") from error

    once(("numbers", repr(job.task), *map(_samples_of, (*learnt, *scored))), check)


def check_known(task: Task, split: Split, slice_: str, *, scored: bool) -> None:
    """Check the numbers behind the images of one slice.

    Arguments:
        task: That learns them, and needs them.
        split: The slice.
        slice_: As it is named.
        scored: Whether its images are scored, or else learnt from.

    Raises:
        ShardError: A number has no logarithm that is learnt, or is unknown in all images that are
            scored by it.
    """
    try:
        task.check_truth(_truth_of(task, split), scored=scored)
    except ShardError:  # the truth cannot be read
        raise
    except ValueError as error:
        raise ShardError(f"{split.info.files[0].parent}: {slice_}: {error}") from error


def _truth_of(task: Task, split: Split) -> Arrays:
    return {key: split.truth(key) for key in task.spec.truth_keys}


def _samples_of(split: Split) -> Hashable:
    """What tells two slices apart."""
    picked = None if split.picked is None else split.picked.tobytes()
    return split.info.files, split.start, split.stop, picked
