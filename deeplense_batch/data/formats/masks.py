"""Pixels that hold no light: which they are, and what they are filled with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.data.encoding import Array

__all__ = ["fill_masked", "is_masked"]


def is_masked(pixels: Array, value: float) -> NDArray[np.bool_]:
    """Where an image has a value; NaN is one too, and 1e30 is what its type makes of it."""
    if np.isnan(value):
        return np.isnan(pixels)
    if pixels.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return pixels == pixels.dtype.type(value)
    return pixels == value


def fill_masked(pixels: Array, mask: NDArray[np.bool_]) -> Array:
    """Give masked pixels, (C, H, W) bool, the median of the others of their channel.

    In a cutout most pixels are sky, so that this is its level. In integers it is rounded.
    """
    filled = pixels.copy()
    for channel, hidden in zip(filled, mask, strict=True):
        if hidden.any():
            level = np.median(channel[~hidden])
            channel[hidden] = level if channel.dtype.kind == "f" else np.rint(level)
    return filled
