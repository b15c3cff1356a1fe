"""Image files, whatever they are, as checked arrays (C, H, W); and sets of them in an .npz.

The content of a file is untrusted: nothing is unpickled unless asked for, and whatever cannot be
an image is refused with a reason that a person can act on.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import zipfile
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from math import nan
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import TiffImagePlugin

from deeplense_batch.data.encoding import Array
from deeplense_batch.data.formats.doubts import fill_masked, is_masked
from deeplense_batch.data.formats.filters import band_order, bands_of_names
from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.formats.untrusted import (
    ImageError,
    check_expansion,
    gunzip,
    read_member,
    unwarned,
)
from deeplense_batch.data.sources.labels import check_labels, class_names

__all__ = [
    "SUFFIXES",
    "Image",
    "ImageError",
    "Part",
    "array_names",
    "channels_first",
    "check_image",
    "has_fits",
    "join_images",
    "read_array",
    "read_arrays",
    "read_labels",
]

SUFFIXES = (".fits", ".fits.gz", ".npy", ".npz", ".png", ".tif", ".tiff")

# Extensions of a FITS file, by the names that surveys give them: the image, and what is no light.
_LIGHT = frozenset({"SCI", "IMAGE"})
_NO_LIGHT = frozenset(
    {
        "MASK", "DQ", "BPM", "FLAGS", "VAR", "VARIANCE", "IVAR", "ERR", "ERROR", "RMS", "NOISE",
        "SIGMA", "UNC", "WHT", "WEIGHT", "PSF", "BACKGROUND", "BKG", "SKY", "SEGMAP", "MODEL",
        "RESIDUAL",
    }
)  # fmt: skip
_MOST_CHANNELS_LAST = 4  # RGB and alpha; a longer last axis is no colour axis
Pillow.MAX_IMAGE_PIXELS = None  # our own limit is by bytes, and can be lifted
_MOST_VALUE = float(np.finfo(np.float32).max)
_PICTURES = ("PNG", "TIFF")  # other kinds may have lost values, whatever the file is called
_AS_FILES_SAY = Reading()
_PIXEL_BYTES = {"I": 4, "F": 4}  # of a channel, by the first letter of Pillow's mode; else 1


class Part(NamedTuple):
    """The array of a file, not yet checked."""

    array: Array
    bands: tuple[str, ...] = ()  # of its channels, where the file names them
    axion_mass_ev: float = nan


@dataclass(frozen=True)
class Image:
    """One checked image: finite in float32, not constant."""

    pixels: Array  # (C, H, W), an integer or floating type in native byte order
    least: float
    most: float
    axion_mass_ev: float = nan  # only DeepLenseSim's axion files know it
    bands: tuple[str, ...] = ()  # of the channels, where names say them
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
        return _read_fits(data)
    if suffix == "gz":
        return _read_fits(gunzip(data))
    if suffix == "npy":
        array = _read_npy(data, allow_pickle)
    elif suffix == "npz":
        array = _only_array(read_arrays(io.BytesIO(data), allow_pickle=allow_pickle))
    else:
        array = _read_picture(data)
    if array.dtype.hasobject:
        image, mass = _image_and_mass(array)
        return Part(image, (), mass)
    return Part(array)


def join_images(parts: Sequence[Part], bands: Sequence[str]) -> Part:
    """Make one image of files that hold a band each.

    Raises:
        ImageError: One holds several channels, or they differ in size.
    """
    images = [channels_first(_plain(part.array)) for part in parts]
    for image, band in zip(images, bands, strict=True):
        if len(image) != 1:
            raise ImageError(f"band {band} holds {len(image)} channels, a band is one")
    if len({image.shape for image in images}) > 1:
        sizes = (f"{b} {i.shape[1]} x {i.shape[2]}" for i, b in zip(images, bands, strict=True))
        raise ImageError(f"bands of one object differ in size: {', '.join(sizes)}")
    return Part(np.concatenate(images), tuple(bands))


def check_image(part: Part, reading: Reading = _AS_FILES_SAY) -> Image:
    """Bring an array to (C, H, W) in native byte order, and prove that it is an image.

    Arguments:
        part: What a file holds.
        reading: What is not in the file itself.

    Raises:
        ImageError: Wrong type or axes, NaN or infinite pixels, or such in float32, all pixels
            equal, no pixels, or a channel of masked pixels alone.
    """
    pixels, masked = np.ascontiguousarray(channels_first(_plain(part.array))), 0
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
    return Image(pixels, float(least), float(most), part.axion_mass_ev, part.bands, masked)


def _plain(array: Array) -> Array:
    """An array of numbers in native byte order."""
    dtype = array.dtype.newbyteorder("=")
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise ImageError(f"type {dtype}; images hold integers or 16, 32 or 64-bit floats")
    return array.astype(dtype, copy=False)


def read_arrays(
    file: IO[bytes], *, only: Container[str] | None = None, allow_pickle: bool = False
) -> dict[str, Array]:
    """Read the arrays of an .npz file, or `only` some of them.

    Raises:
        ImageError: An array is cut short, or an object array while `allow_pickle` is off.
    """
    arrays = {}
    with zipfile.ZipFile(file) as archive:
        _refuse_twice(archive.namelist())
        for member in archive.namelist():
            name = member.removesuffix(".npy")
            if member != name and (only is None or name in only):
                arrays[name] = _read_npy(read_member(archive, member), allow_pickle)
    return arrays


def array_names(file: IO[bytes]) -> tuple[str, ...]:
    """Names of the arrays of an .npz file; one that holds `images` is a set of them.

    Raises:
        ImageError: It is damaged.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            names = tuple(name.removesuffix(".npy") for name in archive.namelist())
    except Exception as error:  # a broken file makes its reader raise anything at all
        raise ImageError("is a damaged or incomplete .npz") from error
    _refuse_twice(names)
    return names


def _refuse_twice(names: Sequence[str]) -> None:
    """Refuse an .npz that holds two arrays of one name, of which one would be lost."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ImageError(f"holds several arrays named {twice[0].removesuffix('.npy')}")


def read_labels(file: IO[bytes]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Read what a set of images in an .npz says about them, without the images.

    Returns:
        Class numbers from `labels`, (N,), -1 where there are none; names from `classes`, or none.

    Raises:
        ImageError: The file is broken, or its arrays do not fit together.
    """
    try:
        arrays = read_arrays(file, only={"labels", "classes"})
        with zipfile.ZipFile(file) as archive, archive.open("images.npy") as images:
            shape, _, dtype = _header(images)
            available = archive.getinfo("images.npy").file_size
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(f"cannot be read ({type(error).__name__}: {error})") from error
    if (
        min(shape, default=0) < 0
        or 0 in shape[1:]
        or np.prod(shape, dtype=object) * dtype.itemsize > available
    ):
        raise ImageError(f"'images' of shape {shape} and {dtype} are cut short, or none")
    if len(shape) not in (3, 4):
        raise ImageError(f"'images' has shape {shape}, expected (N, C, H, W) or (N, H, W)")
    labels = arrays.get("labels", np.full(shape[0], -1))
    if labels.shape != shape[:1]:
        raise ImageError(f"{shape[0]} images, but labels of shape {labels.shape}")
    check_labels(labels)
    return labels.astype(np.int64), class_names(arrays.get("classes", np.empty(0, str)))


def _read_npy(data: bytes, allow_pickle: bool) -> Array:
    if not data.startswith(np.lib.format.MAGIC_PREFIX):
        raise ImageError("not a .npy file")
    wide = data[6:7] != b"\x01"  # version 2 and 3 have four bytes for the length, version 1 two
    start = 12 if wide else 10
    start += int.from_bytes(data[8:start], "little")
    shape, fortran, dtype = _npy_header(data[:start])
    if dtype.hasobject:
        if not allow_pickle:
            raise ImageError("a pickled object, which may run code; --allow_pickle reads it")
        return np.load(io.BytesIO(data), allow_pickle=True)
    size = int(np.prod(shape, dtype=object))
    expected, available = size * dtype.itemsize, len(data) - start
    if available < expected:
        raise ImageError(f"cut short: {available} of {expected} bytes")
    if available > expected:  # np.save appends to a file that is open
        raise ImageError(f"holds {available - expected} bytes after its array")
    values = np.frombuffer(data, dtype, size, start)
    return values.reshape(shape, order="F" if fortran else "C")


@functools.lru_cache(maxsize=64)  # files of one set share their header, and parsing it is slow
def _npy_header(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    return _header(io.BytesIO(header))


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, Fortran order and type, from the start of an .npy stream."""
    if np.lib.format.read_magic(stream) == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    return np.lib.format.read_array_header_2_0(stream)


def _only_array(arrays: dict[str, Array]) -> Array:
    if len(arrays) != 1:
        raise ImageError(
            f"holds {len(arrays)} arrays ({', '.join(arrays)}), an image is one; "
            "a set of images has 'images' and 'labels'"
        )
    return next(iter(arrays.values()))


def _read_picture(data: bytes) -> Array:
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
            return np.asarray(picture.convert("RGB"))
        return np.asarray(picture)


def _bits(picture: Pillow.Image, data: bytes) -> int:
    """Bits of a channel in the file, which Pillow's mode hides."""
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        return int(max(picture.tag_v2.get(258, (8,))))  # the tag BitsPerSample
    return data[24] if picture.format == "PNG" else 8  # the header IHDR comes first


def _read_fits(data: bytes) -> Part:
    from astropy.io import fits  # an extra: pip install deeplense-batch[fits]

    with fits.open(io.BytesIO(data), memmap=False) as parts:
        images = [
            (part.name or f"number {i}", part)
            for i, part in enumerate(parts)
            if part.is_image and part.shape and part.name.upper() not in _NO_LIGHT
        ]
        for _, part in images:
            size = int(np.prod(part.shape, dtype=object)) * abs(part.header["BITPIX"]) // 8
            check_expansion(size, len(data))
        named = [(name, part) for name, part in images if name.upper() in _LIGHT]
        light = named if len(named) == 1 else images
        if len(light) > 1:  # WHT_G and the like
            light = [(n, part) for n, part in light if not _NO_LIGHT & set(n.upper().split("_"))]
        if not light:
            tables = [part.columns.names for part in parts if hasattr(part, "columns")]
            columns = f", but a table of {', '.join(tables[0][:12])}" if tables else ""
            raise ImageError(f"holds no image{columns}")
        if len(light) == 1:
            return Part(np.asarray(light[0][1].data))
        filters = bands_of_names([name for name, _ in light])
        if filters is None:
            raise ImageError(
                f"holds {len(light)} images (extensions {', '.join(name for name, _ in light)}), "
                "a file should hold one, its bands in one array, channels first or last, or in "
                "extensions that are named for them"
            )
        bands = {filters[name]: Part(np.asarray(part.data)) for name, part in light}
    order = band_order(bands)
    return join_images([bands[band] for band in order], order)


def _image_and_mass(array: Array) -> tuple[Array, float]:
    """Take a DeepLenseSim axion file apart: an object array of an image and the mass in eV."""
    parts = array.ravel().tolist()
    if len(parts) == 2 and isinstance(parts[0], np.ndarray) and np.ndim(parts[1]) == 0:
        return parts[0], float(parts[1])
    raise ImageError("an object array, but not [image, axion mass]")


def channels_first(array: Array) -> Array:
    """An image as (C, H, W).

    Raises:
        ImageError: It has other axes, or no pixel.
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
