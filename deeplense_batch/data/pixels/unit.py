"""Whether images are in the unit of those that a network learnt from.

A set in counts beside one in fluxes is off by a factor of thousands; no other sky, depth or
survey is. Normalised as the training images are, images of another unit have a mean or an sd far
from 0 and 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `submit` compares sets without torch
    from torch import Tensor

__all__ = ["about_another_unit", "about_sizes"]

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


def about_sizes(sizes: Mapping[str, float]) -> str | None:
    """A sentence about sets whose values are not at all of one size; None if they are.

    Two may each be as far from what lies between them as `about_another_unit` allows; a few bright
    pixels, which a stretch would hold down, make no such difference.

    Arguments:
        sizes: Root mean square of the values, as packed, by the name of a set.
    """
    least, most = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
    if not sizes[most] > _OTHER_UNIT**2 * sizes[least]:
        return None
    return (
        f"the values are of size {sizes[most]:.3g} in {most} and {sizes[least]:.3g} in {least} "
        "(root mean square): are they in the same unit?"
    )
