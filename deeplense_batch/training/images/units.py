"""Sentences on images that seem to be in other units than those they are used with."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from deeplense_batch.core.job import Job
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.batches.mixture import Mixture
from deeplense_batch.data.pixels.unit import about_another_unit

__all__ = ["about_unit", "about_units"]

_LOOKED_AT = 64  # images that tell the unit of a set


def about_unit(images: Loader) -> str | None:
    """Say that images seem to be in another unit than those they are normalised as; else None."""
    if images.transform.per == "image":  # by which every unit gives the same
        return None
    return about_another_unit(_some(images), images.transform.stretch)


def about_units(job: Job, train: Mixture) -> Iterable[str]:
    """A sentence about sets that seem to be in different units; none where they do not."""
    if train.transform.per == "image":
        return
    seen = {
        each.root: _some(member)
        for each, member in zip(job.data.roots, train.members, strict=True)
    }
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


def _some(images: Loader) -> Tensor:
    """Some of the images, as a network sees them."""
    (chosen, *_) = images.representative(_LOOKED_AT, _LOOKED_AT)
    ((seen, *_),) = images.batches([chosen])
    return seen
