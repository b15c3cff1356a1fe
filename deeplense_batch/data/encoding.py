"""The smallest exact form of an image.

Simulated lens images are often photon counts in disguise: integers k, the minimum subtracted,
divided by their maximum L. Then k as uint16 and L as one float64 per channel hold the image bit
for bit at a quarter of its size. `encode_counts` finds k and L and proves the round trip; an image
for which there is no such pair is kept in floating point. Pictures of 8 bits are kept as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BYTES", "CLEAN", "COUNTS", "Array", "decode", "encode_counts", "is_exact"]

Array = NDArray[Any]  # integers or floats of any width

BYTES = np.dtype(np.uint8)  # of pictures, whose values they are: no scale
COUNTS = np.dtype(np.uint16)
CLEAN = np.dtype(np.float32)  # of simulated images without their noise
_MOST_COUNTS = np.iinfo(COUNTS).max
_LEAST_STEP = 0.5 / _MOST_COUNTS  # no count is worth less than 1 / 65535; half for rounding
_FEW = 2048  # pixels, enough for two floats in [0, 1] to lie closer than the least step


def decode(stored: Array, scale: NDArray[np.float64] | None, dtype: np.dtype) -> Array:
    """Give stored images their values back.

    Arguments:
        stored: Images as in a shard, (N, C, H, W) uint16; uint8 or a float where `scale` is None.
        scale: Counts of value 1, (N, C) float64, or None.
        dtype: Type of the values as they were before packing.

    Returns:
        Images, (N, C, H, W) of `dtype`, the packed values bit for bit.
    """
    if scale is None:
        return stored.astype(dtype)
    exact = dtype if dtype in (np.float32, np.float64) else np.dtype(np.float64)
    return (stored.astype(exact) / scale[..., None, None].astype(exact)).astype(dtype)


def encode_counts(image: Array) -> tuple[NDArray[np.uint16], NDArray[np.float64]] | None:
    """Write one image as integer counts, if that loses nothing.

    Arguments:
        image: One image, (C, H, W), any integer or floating type.

    Returns:
        Counts, (C, H, W) uint16, and counts of value 1, (C,) float64; None where `decode` would
        not give the image back bit for bit.
    """
    if image.dtype in (BYTES, COUNTS):
        return image.astype(COUNTS), np.ones(len(image))
    counts = np.empty(image.shape, COUNTS)
    scale = np.empty(len(image))
    for c, channel in enumerate(image):
        encoded = _encode_channel(channel)
        if encoded is None:
            return None
        counts[c], scale[c] = encoded
    return counts, scale


def is_exact(values: Array, dtype: np.dtype) -> bool:
    """Whether `values` survive a cast to `dtype` and back, bit for bit."""
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows there or back is not exact
        return _same_bits(values.astype(dtype).astype(values.dtype), values)


def _encode_channel(values: Array) -> tuple[NDArray[np.uint16], float] | None:
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float64)  # exact for counts, and for float16
    least, most = float(values.min()), float(values.max())
    if not (least >= 0.0 and most <= _MOST_COUNTS):
        return None
    for levels in _candidate_levels(values, most):
        if not 1 <= levels <= _MOST_COUNTS / max(most, 1.0):
            continue
        counts = values * values.dtype.type(levels)
        np.rint(counts, out=counts)
        counts += 0.0  # -0.0 becomes the 0.0 that uint16 would make of it, and is found out
        if _same_bits(counts / values.dtype.type(levels), values):
            return counts.astype(COUNTS), float(levels)
    return None


def _candidate_levels(values: Array, most: float) -> Iterator[int]:
    """Numbers of levels worth a try, the cheapest to find first.

    In a float image of k / L the smallest positive value is 1 / L as soon as one pixel holds a
    single count, and the smallest gap is 1 / L as soon as two neighbouring counts occur.
    """
    if most == 0.0 or (most > 1.0 and most == np.rint(most)):
        yield 1
        return
    smallest = _smallest_positive(values)
    if smallest < _LEAST_STEP:
        return
    yield round(1.0 / smallest)
    # Floats that are no counts end at a few pixels, before the whole image is sorted for them.
    for part in (values.ravel()[:_FEW], values):
        gap = float(np.diff(np.unique(part)).min(initial=np.inf))
        if gap < _LEAST_STEP:
            return
    yield from (round(1.0 / gap), *(round(k / smallest) for k in range(2, 9)))


def _smallest_positive(values: Array) -> float:
    """The smallest value above zero of an image without negative ones.

    Floats that are not negative sort as their bits do, and 0 - 1 wraps to the largest integer:
    ten times faster than to select the positive pixels of a noisy image first.
    """
    bits = values.view(f"u{values.itemsize}")
    one = bits.dtype.type(1)
    return float(((bits - one).min() + one).view(values.dtype))


def _same_bits(a: Array, b: Array) -> bool:
    # Compared as integers: -0.0 is not 0.0 here, and a NaN is itself.
    if a.dtype != b.dtype:
        return False
    return bool((a.view(f"u{a.itemsize}") == b.view(f"u{b.itemsize}")).all())
