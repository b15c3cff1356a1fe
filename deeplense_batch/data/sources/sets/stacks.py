"""Arrays of many images, mapped from their file, so that one image is read and not all.

Bytes that lie in a file as they are, as in an .npy, an .npz that is not compressed or an HDF5
dataset without chunks, are mapped where they are. Others are unpacked once, block by block, into a
temporary file without a name, which is mapped: images are read in a shuffled order.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from math import prod
from typing import IO, Any, Protocol

import h5py
import numpy as np

from deeplense_batch.data.encoding import Array
from deeplense_batch.data.formats.arrays import array_header, array_names, read_arrays
from deeplense_batch.data.formats.images import needs_fits
from deeplense_batch.data.formats.untrusted import ImageError, check_expansion, unwarned

__all__ = ["HDF5", "Stack", "open_stack"]

HDF5 = (".h5", ".hdf5", ".hdf", ".he5")
_BLOCK = 1 << 24  # bytes

Form = tuple[tuple[int, ...], np.dtype]  # shape and type of an array


class Stack(Protocol):
    """The arrays of a file."""

    @property
    def forms(self) -> Mapping[str, Form]:
        """Shape and type of each."""

    @property
    def paths(self) -> Mapping[str, str]:
        """Where arrays lie that are in groups and known by the last part of that."""

    def read(self, name: str) -> Array:
        """One in memory; texts are of type object or str."""

    def mapped(self, name: str) -> Array:
        """One of numbers, of which only what is used gets into memory.

        Raises:
            ImageError: It is damaged, cut short, pickled, or a bomb.
        """


@contextmanager
def open_stack(name: str, file: IO[bytes]) -> Iterator[Stack]:
    """Open an .npy, .npz, HDF5 or FITS file by its name; what is mapped stays so afterwards.

    Raises:
        ImageError: It is none.
        Exception: A broken file makes its reader raise anything at all.
    """
    if name.lower().endswith(HDF5):
        try:
            opened = h5py.File(file, "r")
        except OSError as error:
            raise ImageError("is a damaged or incomplete HDF5 file, or none") from error
        with opened:
            yield _Hdf5(file, opened)
    elif name.lower().endswith(".npz"):
        array_names(file)
        with zipfile.ZipFile(file) as archive:
            yield _Npz(file, archive)
    elif needs_fits(name):
        from astropy.io import fits  # an extra: pip install deeplense-batch[fits]

        with unwarned, fits.open(file, memmap=not isinstance(file, io.BytesIO)) as units:
            yield _FitsTable(units)
    else:
        yield _Npy(file)


class _Npy:
    paths: Mapping[str, str] = {}

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        try:
            shape, self._fortran, dtype = array_header(file)
        except ValueError as error:
            raise ImageError("not a .npy file") from error
        self._start = file.tell()
        self.forms = {"images": (shape, dtype)}

    def read(self, name: str) -> Array:
        return self.mapped(name)

    def mapped(self, name: str) -> Array:
        form = self.forms[name]
        _check_length(form, self._file.seek(0, io.SEEK_END) - self._start)
        return _map(self._file, form, self._start, fortran=self._fortran)


class _Npz:
    paths: Mapping[str, str] = {}

    def __init__(self, file: IO[bytes], archive: zipfile.ZipFile) -> None:
        self._file, self._archive = file, archive
        self.forms = {}
        for member in archive.namelist():
            if member.endswith(".npy"):
                with archive.open(member) as stream:
                    shape, _, dtype = array_header(stream)
                self.forms[member.removesuffix(".npy")] = (shape, dtype)

    def read(self, name: str) -> Array:
        return read_arrays(self._file, only={name})[name]

    def mapped(self, name: str) -> Array:
        info = self._archive.getinfo(f"{name}.npy")
        check_expansion(info.file_size, info.compress_size)
        with self._archive.open(info) as stream:
            shape, fortran, dtype = array_header(stream)
            start = stream.tell()
            _check_length((shape, dtype), info.file_size - start)
            blocks = iter(lambda: stream.read(_BLOCK), b"")  # to its end, where its sum is checked
            if info.compress_type != zipfile.ZIP_STORED:
                return _unpack(blocks, (shape, dtype), fortran=fortran)
            for _ in blocks:
                pass
        self._file.seek(info.header_offset + 26)  # lengths of the name and of what is extra
        lengths = np.frombuffer(self._file.read(4), "<u2").sum()
        first = info.header_offset + 30 + int(lengths) + start
        return _map(self._file, (shape, dtype), first, fortran=fortran)


class _Hdf5:
    """Arrays in groups are known by the last part of their path, where no other has it."""

    def __init__(self, file: IO[bytes], opened: h5py.File) -> None:
        self._file, self._opened = file, opened
        found: dict[str, Form] = {}
        opened.visititems(partial(_note, found))  # follows no link to another file
        last = {path: path.rpartition("/")[2] for path in found}
        times = Counter(last.values())
        self.paths = {
            name: path for path, name in last.items() if name != path and times[name] == 1
        }
        names = {path: name for name, path in self.paths.items()}
        self.forms = {names.get(path, path): form for path, form in found.items()}

    def read(self, name: str) -> Array:
        data = self._opened[self.paths.get(name, name)]
        check_expansion(data.size * data.dtype.itemsize, data.id.get_storage_size())
        return np.asarray(data.asstr()[()] if h5py.check_string_dtype(data.dtype) else data[()])

    def mapped(self, name: str) -> Array:
        data = self._opened[self.paths.get(name, name)]
        offset = data.id.get_offset()
        size = data.size * data.dtype.itemsize
        check_expansion(size, data.id.get_storage_size())
        if offset is not None and data.id.get_storage_size() == size:
            return _map(self._file, self.forms[name], offset)
        rows = max(1, _BLOCK // max(1, size // max(1, len(data))))
        if data.chunks:
            rows = -(-rows // data.chunks[0]) * data.chunks[0]
        blocks = (data[first : first + rows].tobytes() for first in range(0, len(data), rows))
        return _unpack(blocks, self.forms[name])


def _note(forms: dict[str, Form], path: str, one: Any) -> None:
    """Note an array of an HDF5 file."""
    if isinstance(one, h5py.Dataset) and one.shape is not None:
        if one.external or one.is_virtual:
            raise ImageError(f"'{path}' lies in other files, which are not read")
        forms[path] = (one.shape, one.dtype)


class _FitsTable:
    """The columns of the first table of a FITS file without an image."""

    paths: Mapping[str, str] = {}

    def __init__(self, units: Any) -> None:
        if any(unit.is_image and unit.shape for unit in units):
            raise ImageError("holds an image")
        tables = [unit for unit in units if hasattr(unit, "columns")]
        if not tables:
            raise ImageError("holds no table")
        self._table = tables[0]
        rows, types = self._table.header["NAXIS2"], self._table.columns.dtype
        self.forms = {n: ((rows, *types[n].shape), types[n].base) for n in types.names}

    def read(self, name: str) -> Array:
        return np.array(self._table.data[name])

    def mapped(self, name: str) -> Array:
        return np.asarray(self._table.data[name])  # of the mapped file, unless it is scaled


def _check_length(form: Form, available: int) -> None:
    """Refuse an array that claims more or fewer bytes than there are."""
    shape, dtype = form
    if dtype.hasobject:
        raise ImageError("a pickled object, which may run code")
    if min(shape, default=0) < 0 or prod(shape) * dtype.itemsize > available:
        raise ImageError(f"of shape {shape} and {dtype} are cut short, or none")
    if prod(shape) * dtype.itemsize < available:
        raise ImageError(f"{available - prod(shape) * dtype.itemsize} bytes after their array")


def _map(file: IO[bytes], form: Form, offset: int, *, fortran: bool = False) -> Array:
    """An array in the bytes of a file from an offset on."""
    shape, dtype = form
    order: Any = "F" if fortran else "C"
    if isinstance(file, io.BytesIO):
        values = np.frombuffer(file.getvalue(), dtype, prod(shape), offset)
        return values.reshape(shape, order=order)
    if not prod(shape):
        return np.empty(shape, dtype)
    return np.memmap(file, dtype, "r", offset, shape, order)


def _unpack(blocks: Iterable[bytes], form: Form, *, fortran: bool = False) -> Array:
    """An array whose bytes come in blocks, in a temporary file that ends with the array."""
    with tempfile.TemporaryFile() as file:
        for block in blocks:
            file.write(block)
        file.flush()
        return _map(file, form, 0, fortran=fortran)
