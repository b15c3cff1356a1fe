"""Values that no image of the sky has: marks of bad pixels, padding, missing bands.

They are found by their shape alone, whatever the unit of the light: a value far from all others,
or one value again and again where noise or light would vary. Ordinary images have neither: their
saturated pixels lie on top of a profile, their zeros are counts, or sky that was clipped.
"""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

import numpy as np

from deeplense_batch.data.encoding import Array

__all__ = ["Doubt", "doubts"]

# How far from the next value, in distances from that to the mean of the rest.
_APART = 10.0
_APART_ALONE = 1e4  # of a single pixel, which a bright point may be too
_MARKS = frozenset({-99.0, -999.0, -9999.0, 99.0, 999.0, 9999.0, -32768.0, 32767.0, 65535.0})
_MARKS_FROM = 1e20
_SAMPLE = 2048  # pixels in which a repeated value is looked for
_REPEATED = 0.01  # share of the pixels that no noise gives one value
_REPEATED_ALONE = 5  # how much more often than any other value
_RARE = 0.01  # share of the inner pixels that may have the value of an edge


class Doubt(NamedTuple):
    """A value that is no light."""

    kind: str
    value: float
    text: str


def doubts(pixels: Array, *, but: Container[int] = ()) -> tuple[Doubt, ...]:
    """Values of an image that are probably no light, at most one of each kind.

    Arguments:
        pixels: (C, H, W), finite.
        but: Channels that are not looked at.
    """
    by_kind: dict[str, Doubt] = {}
    for number, channel in enumerate(pixels):
        for doubt in [] if number in but else _of_channel(number, channel):
            by_kind.setdefault(doubt.kind, doubt)
    return tuple(by_kind.values())


def _of_channel(number: int, channel: Array) -> list[Doubt]:
    least, most = channel.min(), channel.max()
    if least == most:
        return [
            Doubt("constant", float(least), f"channel {number} is constant, all {least + 0:g}")
        ]
    doubt = _marks(channel) or _edge(channel) or _repeated(channel)
    return [doubt] if doubt else []


def _marks(channel: Array) -> Doubt | None:
    """The greatest or the least value, where it is far from all others."""
    pixels = channel.ravel()
    for extreme in (pixels.max(), pixels.min()):
        few = _sample(pixels)
        if not _is_far(extreme, 2, few[few != extreme], _APART / 2):
            continue  # a cheap test for ordinary images: the next value is nearer still
        equal = pixels == extreme
        count, others = int(np.count_nonzero(equal)), pixels[~equal]
        marked = count > 1 or extreme in _MARKS or abs(float(extreme)) >= _MARKS_FROM
        if _is_far(extreme, count, others, _APART if marked else _APART_ALONE):
            return Doubt(
                "apart",
                float(extreme),
                f"{_pixels(count)} of {extreme:g} beside values from {others.min():g} to "
                f"{others.max():g}",
            )
    return None


def _is_far(value: float, count: int, others: Array, enough: float) -> bool:
    """Whether a value, the largest or the smallest of a channel, is far from the others."""
    if not others.size:
        return True
    value, low, high = float(value), float(others.min()), float(others.max())
    if low == high:
        return False  # two values: a mask, or counts of a few photons
    following = high if value > high else low
    minority = count < len(others)
    width = abs(following - float(others.mean(dtype=np.float64))) if minority else high - low
    return abs(value - following) > enough * width


def _edge(channel: Array) -> Doubt | None:
    """A value that fills whole rows or columns at an edge, and is rare elsewhere."""
    for turned in (channel, channel[::-1], channel.T, channel.T[::-1]):
        value = turned[0, 0]
        if not (turned[0] == value).all():
            continue
        same = turned == value
        full = same.all(1)
        rows = int(full.argmin())
        if 0 < rows < len(turned) and same[rows:].mean() < _RARE:
            count = rows * turned.shape[1]
            return Doubt("edge", float(value), f"{_pixels(count)} at an edge are all {value:g}")
    return None


def _repeated(channel: Array) -> Doubt | None:
    """A value again and again between others of which hardly two are equal.

    The least or the greatest value may be repeated: sky that was clipped, or saturated light.
    """
    flat = channel.ravel()
    values, counts = np.unique(_sample(flat), return_counts=True)
    i = int(counts.argmax())
    others = np.delete(counts, i)
    fewest = max(4, _REPEATED * counts.sum(), _REPEATED_ALONE * others.max(initial=0))
    if counts[i] < fewest or others.sum() >= 2 * len(others):
        return None
    if values[i] in (flat.min(), flat.max()):
        return None
    count = int(np.count_nonzero(flat == values[i]))
    return Doubt("repeated", float(values[i]), f"{_pixels(count)} are all {values[i]:g}")


def _sample(flat: Array) -> Array:
    return flat[:: -(-flat.size // _SAMPLE)]


def _pixels(count: int) -> str:
    return "1 pixel" if count == 1 else f"{count} pixels"
