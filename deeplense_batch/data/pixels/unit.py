"""Whether images are in the unit of those that a network learnt from.

A set in counts beside one in fluxes is off by a factor of thousands; no other sky, depth or
survey is. Normalised as the training images are, images of another unit have a mean or an sd far
from 0 and 1.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["about_another_unit"]

_OTHER_UNIT = 10.0  # sd; no other sky or depth is as far from the training images as another unit


def about_another_unit(images: Tensor, stretch: str) -> str | None:
    """A sentence about images that are not at all like those of training; None if they are.

    It says nothing of images that were normalised each by itself (``data.per: image``): those
    have mean 0 and sd 1 in any unit.

    Arguments:
        images: Stretched and normalised like the training images, (B, C, H, W) float32.
        stretch: How they were stretched, ``data.stretch``.
    """
    mean, sd = float(images.mean()), float(images.std())
    if 1 / _OTHER_UNIT < sd < _OTHER_UNIT and abs(mean) < _OTHER_UNIT:
        return None
    return (
        f"stretched ({stretch}) and normalised like the training images, these have mean "
        f"{mean:.3g} and sd {sd:.3g} where those had 0 and 1: are they in the same unit?"
    )
