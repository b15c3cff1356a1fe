"""Pixels that hold no light or lie beyond the edge: which they are, and what they are filled with.

All of them get the median of the rest of their channel. In a cutout most pixels are sky, so that
this is its level.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.data.encoding import Array
from deeplense_batch.data.formats.untrusted import ImageError

__all__ = ["NO_LIGHT", "crop", "fill_masked", "fill_unknown", "is_masked", "pad"]


# What masks, weights, noise and models of an image are called, in files and FITS extensions.
NO_LIGHT = frozenset(
    {
        "mask", "msk", "dq", "bpm", "flag", "flags", "var", "variance", "ivar", "invvar", "err",
        "error", "rms", "noise", "sigma", "sig", "std", "stddev", "unc", "uncertainty", "wht",
        "weight", "wei", "wgt", "wt", "conf", "confidence", "cov", "coverage", "ctx", "expmap",
        "nexp", "psf", "background", "bkg", "sky", "seg", "segm", "segmap", "segmentation",
        "model", "residual", "resid",
    }
)  # fmt: skip


def is_masked(pixels: Array, value: float) -> NDArray[np.bool_]:
    """Where an image has a value; NaN is one too, and 1e30 is what its type makes of it."""
    if np.isnan(value):
        return np.isnan(pixels)
    if pixels.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return pixels == pixels.dtype.type(value)
    return pixels == value


def fill_masked(pixels: Array, mask: NDArray[np.bool_]) -> Array:
    """Give masked pixels, (C, H, W) bool, the median of the other finite ones of their channel.

    In integers it is rounded. A channel must have such pixels.
    """
    filled = pixels.copy()
    for channel, hidden in zip(filled, mask, strict=True):
        if hidden.any():
            channel[hidden] = _level(channel[~hidden])
    return filled


def fill_unknown(pixels: Array, most: float) -> tuple[Array, int]:
    """Fill pixels that are NaN or infinite; gives how many there are.

    Arguments:
        pixels: (C, H, W).
        most: The largest share of the pixels of a channel that may be so, from 0 to 1.

    Raises:
        ImageError: More are.
    """
    unknown = ~np.isfinite(pixels)
    count = int(unknown.sum())
    if not count:
        return pixels, 0
    shares = unknown.mean((1, 2))
    worst = int(shares.argmax())
    if shares[worst] > most or shares[worst] == 1:
        raise ImageError(
            f"{shares[worst]:.2%} of channel {worst} are NaN or infinite; --fill_nan {most:g} "
            "fills at most that share, and never a whole channel"
        )
    return fill_masked(pixels, unknown), count


def crop(pixels: Array, size: int) -> Array:
    """The middle of an image (C, H, W) along the edges that are longer than a size.

    Of an odd margin the smaller half is left out before it, as by `data.augment.central`.
    """
    firsts = (max(edge - size, 0) // 2 for edge in pixels.shape[1:])
    height, width = (slice(first, first + size) for first in firsts)
    return pixels[:, height, width]


def pad(pixels: Array, size: int) -> Array:
    """An image (C, H, W) in the middle of one of a size, whose other pixels are the sky's level.

    A `crop` to the former size gives it back.
    """
    edges = [max(size, edge) for edge in pixels.shape[1:]]
    padded = np.empty((len(pixels), *edges), pixels.dtype)
    for wide, channel in zip(padded, pixels, strict=True):
        wide[...] = _level(channel)
    firsts = ((edge - own) // 2 for edge, own in zip(edges, pixels.shape[1:], strict=True))
    rows, columns = (slice(f, f + n) for f, n in zip(firsts, pixels.shape[1:], strict=True))
    padded[:, rows, columns] = pixels
    return padded


def _level(values: Array) -> Any:
    """The median of the finite values."""
    level = np.median(values[np.isfinite(values)])
    return level if values.dtype.kind == "f" else np.rint(level)
