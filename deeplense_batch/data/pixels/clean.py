"""Sets of expected counts: what draws their noise needs them, and what is said without it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from deeplense_batch.core.job import Job, JobError
from deeplense_batch.data.shards import Split

__all__ = ["about_clean", "check_photons"]


def check_photons(job: Job, trained_on: Iterable[Split]) -> None:
    """Make sure that photon noise, where a job draws it, has expected counts to be drawn from.

    Arguments:
        job: The job.
        trained_on: All that it is trained on. What is scored may be observed already.

    Raises:
        JobError: A set holds images with noise.
    """
    for split in trained_on if job.data.augment.photon_noise else ():
        if split.info.sky is None:
            raise JobError(
                f"{job.name}: data.augment.photon_noise: {split.info.files[0].parent} holds "
                "observed images, which have their noise; expected a set that 'simulate "
                "substructure --keep clean' has made, or false"
            )


def about_clean(job: Job, splits: Sequence[Split]) -> str | None:
    """Say that a job learns from, or is scored by, images without noise; None where it does not.

    Arguments:
        job: The job.
        splits: All that it is trained on and scored by.
    """
    clean = [split.info.files[0].parent.name for split in splits if split.info.sky is not None]
    if job.data.augment.photon_noise or not clean:
        return None
    return (
        f"images of {', '.join(dict.fromkeys(clean))} are expected counts without noise and sky, "
        "in photons: what it is worth on observed images is not known; "
        "data.augment.photon_noise: true observes them, from 0 to 1"
    )
