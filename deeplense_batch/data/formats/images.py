"""Image files, whatever they are, as checked images (C, H, W).

The content of a file is untrusted: nothing is unpickled unless asked for, and whatever cannot be
an image is refused with a reason that a person can act on.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from math import nan

import numpy as np

from deeplense_batch.data.encoding import Array
from deeplense_batch.data.formats.arrays import read_npy, read_npz
from deeplense_batch.data.formats.fits import read_fits
from deeplense_batch.data.formats.masks import fill_masked, is_masked
from deeplense_batch.data.formats.parts import (
    NO_HEADER,
    Header,
    Part,
    channels_first,
    join_images,
    plain,
)
from deeplense_batch.data.formats.pictures import read_picture
from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.formats.untrusted import ImageError, gunzip, unwarned

__all__ = [
    "SUFFIXES",
    "Header",
    "Image",
    "ImageError",
    "Part",
    "check_image",
    "has_fits",
    "join_images",
    "read_array",
]

SUFFIXES = (".fits", ".fits.gz", ".npy", ".npz", ".png", ".tif", ".tiff")

_MOST_VALUE = float(np.finfo(np.float32).max)
_AS_FILES_SAY = Reading()


@dataclass(frozen=True)
class Image:
    """One checked image: finite in float32, not constant."""

    pixels: Array  # (C, H, W), an integer or floating type in native byte order
    least: float
    most: float
    axion_mass_ev: float = nan  # only DeepLenseSim's axion files know it
    bands: tuple[str, ...] = ()  # of the channels, where names say them
    header: Header = NO_HEADER
    masked: int = 0  # pixels that had the mask value


def has_fits() -> bool:
    """Whether .fits and .fits.gz files can be read: astropy is installed."""
    return importlib.util.find_spec("astropy") is not None


def read_array(name: str, data: bytes, reading: Reading = _AS_FILES_SAY) -> Part:
    """Read the array of an image file, which `check_image` checks.

    Arguments:
        name: File name; its ending, one of `SUFFIXES`, says what `data` is.
        data: Content of the file.
        reading: What is not in the file itself.

    Raises:
        ImageError: The file holds no image that can be packed.
        Exception: A broken file makes its reader raise anything at all.
    """
    if not data:
        raise ImageError("empty file")
    with unwarned:  # readers warn of damage before they raise
        return _read(name, data, reading.allow_pickle)


def _read(name: str, data: bytes, allow_pickle: bool) -> Part:
    suffix = name.rpartition(".")[2].lower()
    if suffix == "fits":
        return read_fits(data)
    if suffix == "gz":
        return read_fits(gunzip(data))
    if suffix == "npy":
        return read_npy(data, allow_pickle=allow_pickle)
    if suffix == "npz":
        return read_npz(data, allow_pickle=allow_pickle)
    return read_picture(data)


def check_image(part: Part, reading: Reading = _AS_FILES_SAY) -> Image:
    """Bring an array to (C, H, W) in native byte order, and prove that it is an image.

    Arguments:
        part: What a file holds.
        reading: What is not in the file itself.

    Raises:
        ImageError: Wrong type or axes, NaN or infinite pixels, or such in float32, all pixels
            equal, no pixels, or a channel of masked pixels alone.
    """
    pixels, masked = np.ascontiguousarray(channels_first(plain(part.array))), 0
    if (mask_value := reading.mask_value) is not None:
        mask = is_masked(pixels, mask_value)
        if mask.all((1, 2)).any():
            raise ImageError(f"a channel has the mask value {mask_value:g} in all its pixels")
        masked = int(mask.sum())
        pixels = fill_masked(pixels, mask) if masked else pixels
    least, most = pixels.min(), pixels.max()
    if not (np.isfinite(least) and np.isfinite(most)):
        bad = int((~np.isfinite(pixels)).sum())
        raise ImageError(f"{bad} of {pixels.size} pixels are NaN or infinite")
    if least == most:
        raise ImageError(f"constant image, all pixels are {least}")
    if max(-float(least), float(most)) > _MOST_VALUE:
        raise ImageError(f"values from {least} to {most} do not fit float32, which networks take")
    if np.float32(least) == np.float32(most):
        raise ImageError(f"values from {least} to {most} are all equal in float32")
    mass = part.axion_mass_ev
    return Image(pixels, float(least), float(most), mass, part.bands, part.header, masked)
