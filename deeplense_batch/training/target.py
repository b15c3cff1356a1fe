"""The unlabelled images of an adaptation, made ready as the labelled ones are."""

from __future__ import annotations

from collections.abc import Iterable

from deeplense_batch.core.job import Job
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.batches.mixture import Mixture
from deeplense_batch.data.batches.unlabelled import Unlabelled
from deeplense_batch.data.formats.counted import counted_of
from deeplense_batch.data.shards import ShardError, Split
from deeplense_batch.training.images.units import about_unit

__all__ = ["about_target", "check_contrast", "open_unlabelled"]


def open_unlabelled(job: Job, target: Split, train: Loader | Mixture) -> Unlabelled:
    """The images that a job is adapted to, normalised as those that it is trained on.

    Arguments:
        job: The job.
        target: The images (`target_set.open_target`).
        train: Those that it is trained on, with what was measured on them.

    Raises:
        ShardError: Some are constant.
    """
    images = Loader(
        target, transform=train.transform, device=train.device, resident=job.engine.resident
    )
    check_contrast(images, f"{target.info.files[0].parent}: {target.info.name}")
    return Unlabelled(images)


def about_target(unlabelled: Unlabelled) -> Iterable[str]:
    """A sentence, where the images seem to be in another unit than those of training."""
    images = unlabelled.images
    if about := about_unit(images):
        yield f"task.options.adapt.to: {images.info.files[0].parent}: {about}"


def check_contrast(loader: Loader, place: str) -> None:
    """Make sure that images can be normalised, labelled or not.

    Arguments:
        loader: The images.
        place: Where they are, as the sentence begins.

    Raises:
        ShardError: Some are constant.
    """
    if len(flat := loader.flat()):
        named = ", ".join(loader.ids[flat[:3]])
        raise ShardError(
            f"{place}: {counted_of(len(flat), len(loader), 'image', 'is', 'are')} constant once "
            f"stretched and clipped ({named}{', ...' * (len(flat) > 3)}), without an sd to be "
            "divided by; leave them out when you pack, or choose data.per: band or set"
        )
