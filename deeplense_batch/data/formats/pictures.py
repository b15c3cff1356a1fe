"""Pictures: .png, .tif and .jpg."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image as Pillow
from PIL import TiffImagePlugin, UnidentifiedImageError

from deeplense_batch.data.encoding import Array
from deeplense_batch.data.formats.parts import Change, Part
from deeplense_batch.data.formats.untrusted import ImageError, check_expansion

__all__ = ["read_picture"]

Pillow.MAX_IMAGE_PIXELS = None  # our own limit is by bytes, and can be lifted
_EXACT, _LOSSY = ("PNG", "TIFF"), ("JPEG", "MPO")  # a kind must be what the file's name says
_PIXEL_BYTES = {"I": 4, "F": 4}  # of a channel, by the first letter of Pillow's mode; else 1
_COLOURS = ("red", "green", "blue")
_OTHER_COLOURS = ("CMYK", "LAB", "HSV", "YCbCr")


def read_picture(data: bytes, *, lossy: bool = False) -> Part:
    """The image of a picture; the channels of one in colours are named red, green and blue.

    Arguments:
        data: Content of the file.
        lossy: Whether its name says that values were lost in it: that it is a JPEG.

    Raises:
        ImageError: It is of another kind inside, or of several pictures, has 16-bit colours or
            others than these, or a transparency that is not the same everywhere.
    """
    kinds = _LOSSY if lossy else _EXACT
    with _opened(data) as picture:
        if picture.format not in kinds:
            raise ImageError(f"is {picture.format} inside, not {' or '.join(kinds)}; convert it")
        frames = getattr(picture, "n_frames", 1)
        if frames != 1:
            raise ImageError(f"holds {frames} pictures, an image is one")
        if len(picture.getbands()) > 1 and _bits(picture, data) > 8:
            raise ImageError("16-bit colour, of which only 8 bits can be read; use .npy")
        if picture.mode in _OTHER_COLOURS:
            raise ImageError(f"has {picture.mode} colours; convert it to red, green and blue")
        pixels = picture.width * picture.height * len(picture.getbands())
        check_expansion(pixels * _PIXEL_BYTES.get(picture.mode[0], 1), len(data))
        array, changes = _opaque(picture)
    bands = _COLOURS if array.ndim == 3 and array.shape[2] == 3 else ()
    return Part(array, bands, changes=(*changes, *([Change("lossy")] if lossy else [])))


def _opened(data: bytes) -> Pillow.Image:
    try:
        return Pillow.open(io.BytesIO(data))
    except UnidentifiedImageError as error:
        raise ImageError("cannot be read (its beginning is that of no picture)") from error


def _opaque(picture: Pillow.Image) -> tuple[Array, list[Change]]:
    """A picture without its transparency, (H, W) or (H, W, 3), if that is the same everywhere."""
    if (
        picture.mode not in ("LA", "La", "PA", "RGBA", "RGBa")
        and "transparency" not in picture.info
    ):
        return np.asarray(picture.convert("RGB") if picture.mode == "P" else picture), []
    grey = picture.mode in ("L", "LA", "La", "I", "I;16", "1")
    array = np.asarray(picture.convert("LA" if grey else "RGBA"))
    if len(np.unique(array[..., -1])) > 1:
        raise ImageError("has a transparency that varies; save it without (flatten it)")
    return array[..., 0] if grey else array[..., :3], [Change("alpha")]


def _bits(picture: Pillow.Image, data: bytes) -> int:
    """Bits of a channel in the file, which Pillow's mode hides."""
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        return int(max(picture.tag_v2.get(258, (8,))))  # the tag BitsPerSample
    return data[24] if picture.format == "PNG" else 8  # the header IHDR comes first
