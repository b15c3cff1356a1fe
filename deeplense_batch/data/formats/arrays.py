"""Arrays in .npy and .npz files, read without unpickling unless asked for."""

from __future__ import annotations

import functools
import io
import zipfile
from collections import Counter
from collections.abc import Container, Sequence
from typing import IO

import numpy as np

from deeplense_batch.data.encoding import Array
from deeplense_batch.data.formats.parts import Part
from deeplense_batch.data.formats.untrusted import ImageError, read_member

__all__ = ["array_header", "array_names", "read_arrays", "read_npy", "read_npz"]


def read_npy(data: bytes, *, allow_pickle: bool = False) -> Part:
    """The image of an .npy file.

    Raises:
        ImageError: It is none, cut short, or an object array while `allow_pickle` is off.
    """
    return _of_array(_array(data, allow_pickle))


def read_npz(data: bytes, *, allow_pickle: bool = False) -> Part:
    """The image of an .npz file, its only array.

    Raises:
        ImageError: It holds several arrays, or one that `read_npy` would refuse.
    """
    return _of_array(_only_array(read_arrays(io.BytesIO(data), allow_pickle=allow_pickle)))


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
                arrays[name] = _array(read_member(archive, member), allow_pickle)
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


def _of_array(array: Array) -> Part:
    if array.dtype.hasobject:
        image, mass = _image_and_mass(array)
        return Part(image, axion_mass_ev=mass)
    return Part(array)


def _array(data: bytes, allow_pickle: bool) -> Array:
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
    return array_header(io.BytesIO(header))


def array_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
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


def _image_and_mass(array: Array) -> tuple[Array, float]:
    """Take a DeepLenseSim axion file apart: an object array of an image and the mass in eV."""
    parts = array.ravel().tolist()
    if len(parts) == 2 and isinstance(parts[0], np.ndarray) and np.ndim(parts[1]) == 0:
        return parts[0], float(parts[1])
    raise ImageError("an object array, but not [image, axion mass]")
