"""What a file holds, not yet checked: an array, the names of its channels, and its header."""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, hypot, isnan, nan, radians
from typing import NamedTuple

import numpy as np

from deeplense_batch.data.encoding import Array
from deeplense_batch.data.formats.counted import counted
from deeplense_batch.data.formats.filters import filters_in, without_bands
from deeplense_batch.data.formats.untrusted import ImageError

__all__ = [
    "NO_HEADER",
    "Change",
    "Header",
    "Part",
    "channels_first",
    "join_images",
    "plain",
    "same_scale",
]

_MOST_CHANNELS_LAST = 4  # RGB and alpha; a longer last axis is no colour axis
_SAME_SCALE = 0.01  # relative difference up to which two pixel scales are one
_MOST_APART = 2.0  # pixels between the centres of bands of one object


class Header(NamedTuple):
    """What a FITS header says of an image; NaN and "" where it says nothing."""

    pixel_scale: float = nan  # arcsec, at the centre of the image
    ra: float = nan  # deg, ICRS, of the centre of the image
    dec: float = nan
    object: str = ""  # name or number
    band: str = ""  # filter, of an image of one channel
    objects: tuple[str, ...] = ()  # names in the headers of its bands that are of several objects


NO_HEADER = Header()


class Change(NamedTuple):
    """What was done to an image so that it could be packed."""

    kind: str
    pixels: int = 0  # that have other values than in the file


class Part(NamedTuple):
    """The array of a file, not yet checked."""

    array: Array
    bands: tuple[str, ...] = ()  # of its channels, where the file names them
    axion_mass_ev: float = nan
    header: Header = NO_HEADER
    changes: tuple[Change, ...] = ()


def join_images(parts: Sequence[Part], bands: Sequence[str]) -> Part:
    """Make one image of files that hold a band each.

    Arguments:
        parts: One channel each.
        bands: The name of each.

    Returns:
        The image, with the first header; its object is empty where the headers name several,
        which are its objects then.

    Raises:
        ImageError: One holds several channels, they differ in size, or their headers contradict
            each other or the names of the bands.
    """
    images = [channels_first(plain(part.array)) for part in parts]
    for image, band in zip(images, bands, strict=True):
        if len(image) != 1:
            raise ImageError(f"band {band} holds {counted(len(image), 'channel')}, a band is one")
    if len({image.shape for image in images}) > 1:
        sizes = (f"{b} {i.shape[1]} x {i.shape[2]}" for i, b in zip(images, bands, strict=True))
        raise ImageError(f"bands of one object differ in size: {', '.join(sizes)}")
    header = _one_header([part.header for part in parts], bands)
    changes = tuple(change for part in parts for change in part.changes)
    return Part(np.concatenate(images), tuple(bands), header=header, changes=changes)


def plain(array: Array) -> Array:
    """An array of numbers in native byte order.

    Raises:
        ImageError: It holds something else.
    """
    dtype = array.dtype.newbyteorder("=")
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise ImageError(f"type {dtype}; images hold integers or 16, 32 or 64-bit floats")
    return array.astype(dtype, copy=False)


def channels_first(array: Array) -> Array:
    """An image as (C, H, W), whichever of its axes are the channels.

    Raises:
        ImageError: It has no pixels, or other axes than those of an image.
    """
    if array.size == 0:
        raise ImageError(f"shape {array.shape} has no pixels")
    if array.ndim == 2:
        return array[None]
    if array.ndim == 3:
        first, last = array.shape[0], array.shape[2]
        if first <= min(array.shape[1:]):
            return array
        if last <= _MOST_CHANNELS_LAST and last < min(array.shape[:2]):
            return array.transpose(2, 0, 1)
    stack = "; many images go into an .npz as 'images'" if array.ndim > 2 else ""
    raise ImageError(f"shape {array.shape}; images are (H, W), (C, H, W) or (H, W, C){stack}")


def same_scale(one: float, other: float) -> bool:
    """Whether two pixel scales are one; an unknown one, NaN, is as any."""
    return not abs(one - other) > _SAME_SCALE * abs(one)


def _one_header(headers: Sequence[Header], bands: Sequence[str]) -> Header:
    """The header of bands of one object; what it does not say is taken from a later one."""
    for header, band in zip(headers, bands, strict=True):
        if not _may_be(header.band, band):
            raise ImageError(f"is band {band} by its name, but {header.band} by its header")
    known = [(h, b) for h, b in zip(headers, bands, strict=True) if not isnan(h.pixel_scale)]
    for header, band in known[1:]:
        _check_same_sky(known[0], (header, band))
    first = known[0][0] if known else headers[0]
    names = list(dict.fromkeys(header.object for header in headers if header.object))
    several = len({without_bands(name)[0] for name in names}) > 1  # not lens-g and lens-r
    return first._replace(
        object=names[0] if len(names) == 1 else "",
        band="",
        objects=tuple(names) if several else (),
    )


def _may_be(said: str, band: str) -> bool:
    """Whether a header means a band: HSC's r2 is r, and words that are no filters say nothing."""
    words, own = filters_in(said), filters_in(band)
    return not (words and own) or not words.isdisjoint(own)


def _check_same_sky(one: tuple[Header, str], other: tuple[Header, str]) -> None:
    """Refuse bands of one object that show different parts of the sky.

    Raises:
        ImageError: Their pixel scales or their centres differ.
    """
    (a, band), (b, other_band) = one, other
    if not same_scale(a.pixel_scale, b.pixel_scale):
        raise ImageError(
            f"bands of one object differ in pixel scale: {band} {a.pixel_scale:.4g}, {other_band} "
            f"{b.pixel_scale:.4g} arcsec"
        )
    east = ((b.ra - a.ra + 180) % 360 - 180) * cos(radians(a.dec))
    apart = hypot(east, b.dec - a.dec) * 3600 / a.pixel_scale
    if apart > _MOST_APART:
        raise ImageError(
            f"bands of one object have centres {apart:.3g} pixels apart: {band}, {other_band}"
        )
