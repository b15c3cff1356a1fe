"""Pictures: .png and .tif."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image as Pillow
from PIL import TiffImagePlugin

from deeplense_batch.data.formats.parts import Part
from deeplense_batch.data.formats.untrusted import ImageError, check_expansion

__all__ = ["read_picture"]

Pillow.MAX_IMAGE_PIXELS = None  # our own limit is by bytes, and can be lifted
_PICTURES = ("PNG", "TIFF")  # other kinds may have lost values, whatever the file is called
_PIXEL_BYTES = {"I": 4, "F": 4}  # of a channel, by the first letter of Pillow's mode; else 1


def read_picture(data: bytes) -> Part:
    """The image of a picture.

    Raises:
        ImageError: It is of another kind inside, or of several pictures, or has 16-bit colours.
    """
    with Pillow.open(io.BytesIO(data)) as picture:
        if picture.format not in _PICTURES:
            raise ImageError(
                f"is {picture.format} inside, not {' or '.join(_PICTURES)}; convert it"
            )
        frames = getattr(picture, "n_frames", 1)
        if frames != 1:
            raise ImageError(f"holds {frames} pictures, an image is one")
        if len(picture.getbands()) > 1 and _bits(picture, data) > 8:
            raise ImageError("16-bit colour, of which only 8 bits can be read; use .npy")
        pixels = picture.width * picture.height * len(picture.getbands())
        check_expansion(pixels * _PIXEL_BYTES.get(picture.mode[0], 1), len(data))
        if picture.mode == "P":
            return Part(np.asarray(picture.convert("RGB")))
        return Part(np.asarray(picture))


def _bits(picture: Pillow.Image, data: bytes) -> int:
    """Bits of a channel in the file, which Pillow's mode hides."""
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        return int(max(picture.tag_v2.get(258, (8,))))  # the tag BitsPerSample
    return data[24] if picture.format == "PNG" else 8  # the header IHDR comes first
