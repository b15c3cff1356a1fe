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
from deeplense_batch.data.formats.fits.extensions import read_fits
from deeplense_batch.data.formats.masks import crop, fill_masked, fill_unknown, is_masked, pad
from deeplense_batch.data.formats.parts import (
    NO_HEADER,
    Change,
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
    "LOSSY",
    "SUFFIXES",
    "Change",
    "Header",
    "Image",
    "ImageError",
    "Part",
    "check_image",
    "has_fits",
    "join_images",
    "needs_fits",
    "read_array",
]

_FITS = (".fits", ".fit", ".fts", ".fits.gz", ".fit.gz", ".fts.gz", ".fz")  # .fits.fz too
LOSSY = (".jpg", ".jpeg")
SUFFIXES = (
    ".fits", ".fits.gz", ".fits.fz", ".fit", ".fts", ".fit.gz", ".fts.gz", ".fz",
    ".npy", ".npz", ".png", ".tif", ".tiff", *LOSSY,
)  # fmt: skip

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
    changes: tuple[Change, ...] = ()  # what was done so that it could be packed


def has_fits() -> bool:
    """Whether FITS files can be read: astropy is installed."""
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
    lower = name.lower()
    with unwarned:  # readers warn of damage before they raise
        try:
            return _read(lower, data, reading)
        except ImageError as error:
            if lower.endswith(SUFFIXES):
                raise
            raise ImageError(
                f"{error}; {name} is taken for a picture, since its name ends in none of "
                f"{', '.join(SUFFIXES)}"
            ) from error


def needs_fits(name: str) -> bool:
    """Whether a file is FITS by its name."""
    return name.lower().endswith(_FITS)


def _read(name: str, data: bytes, reading: Reading) -> Part:
    if needs_fits(name):
        return read_fits(gunzip(data) if name.endswith(".gz") else data, reading)
    if asked := (*reading.extensions, reading.mask_extension)[0]:
        raise ImageError(f"is no FITS file, so that it has no extension {asked}")
    if name.endswith(".npy"):
        return read_npy(data, allow_pickle=reading.allow_pickle)
    if name.endswith(".npz"):
        return read_npz(data, allow_pickle=reading.allow_pickle)
    return read_picture(data, lossy=name.endswith(LOSSY))


def check_image(part: Part, reading: Reading = _AS_FILES_SAY) -> Image:
    """Bring an array to (C, H, W) in native byte order, and prove that it is an image.

    Arguments:
        part: What a file holds.
        reading: What is not in the file itself.

    Raises:
        ImageError: Wrong type or axes, NaN or infinite pixels, or such in float32, all pixels
            equal, no pixels, or a channel of masked pixels alone.
    """
    pixels, changes = _changed(channels_first(plain(part.array)), reading)
    pixels = np.ascontiguousarray(pixels)
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
    return Image(
        pixels,
        float(least),
        float(most),
        part.axion_mass_ev,
        part.bands,
        part.header if len(pixels) == 1 else part.header._replace(band=""),
        (*part.changes, *changes),
    )


def _changed(pixels: Array, reading: Reading) -> tuple[Array, list[Change]]:
    """Crop, fill and pad an image (C, H, W), as far as it is asked for and needed."""
    changes = []
    if reading.crop and reading.crop < max(pixels.shape[1:]):
        pixels = crop(pixels, reading.crop)
        changes.append(Change("crop"))
    if (value := reading.mask_value) is not None:
        mask = is_masked(pixels, value)
        if mask.all((1, 2)).any():
            raise ImageError(f"a channel has the mask value {value:g} in all its pixels")
        if masked := int(mask.sum()):
            pixels = fill_masked(pixels, mask)
            changes.append(Change("mask_value", masked))
    if reading.fill_nan is not None:
        pixels, unknown = fill_unknown(pixels, reading.fill_nan)
        changes += [Change("fill_nan", unknown)] if unknown else []
    if reading.pad and reading.pad > min(pixels.shape[1:]):
        pixels = pad(pixels, reading.pad)
        changes.append(Change("pad"))
    return pixels, changes
