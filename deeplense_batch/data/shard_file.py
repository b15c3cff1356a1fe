"""Open a shard, with everything in it checked; and give the shards of a set their names.

A file of format 2 is opened by HDF5 only if its bytes are those that were written. Of format 1,
which has no such digest, and of files of other programs, all that is read is checked: attributes,
and the type, shape and storage of arrays.

Shards get their final names one by one, and a process may be killed meanwhile. From the first name
until ``manifest.json`` is written, ``.naming.json`` beside them lists them: a folder that has it
and no manifest is not complete. Readers refuse it, the next packing starts over, and a simulation
goes on with it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from deeplense_batch.core import files
from deeplense_batch.data.header import (
    Description,
    ShardError,
    check_bytes,
    packing_of,
    read_head,
    validated,
)

__all__ = [
    "array_names",
    "check_room",
    "describe_file",
    "done_with",
    "fields_of",
    "half_named",
    "naming",
    "open_shard",
    "reading",
    "refuse_half_named",
    "writing",
]

_MOST_EXPANSION = 1100  # of zeros by gzip
_ROOM = 1 << 20  # bytes, for what HDF5 writes beside the values
_STORED = ("uint8", "uint16", "float16", "float32", "float64")
_AXES = {
    **{"images": 4, "targets": 1, "ids": 1, "scale": 2},
    **{"inputs": 4, "inputs_scale": 2, "clean": 4},
}
_SCALES = {"images": "scale", "inputs": "inputs_scale"}  # beside counts
_GROUPS = ("truth", "catalogue")  # each of any number of arrays
_MARK = ".naming.json"
_STARTED = time.time_ns()  # of this process, against numbers of processes that are used again


def describe_file(path: Path) -> Description:
    """Read the description of a shard; HDF5 is not needed for format 2.

    Raises:
        ShardError: It cannot be read, or is damaged or no shard.
    """
    if head := read_head(path):
        return head
    with open_shard(path) as file, reading(path):
        fields = fields_of(file)
    if fields.get("format") != 1:
        raise ShardError(f"{path}: shard format {fields.get('format')}, expected 1 or 2")
    digests = fields.get("digests")
    if not isinstance(digests, list) or not all(isinstance(digest, str) for digest in digests):
        raise ShardError(
            f"{path}: has no attribute 'digests', a list of texts; make these shards again"
        )
    description: Description = validated(
        path, Description, fields | {"packing": packing_of(digests)}
    )
    return description


def open_shard(path: Path) -> h5py.File:
    """Open one file to read.

    Raises:
        ShardError: It is not there, no shard, or damaged.
    """
    head = read_head(path)
    if head:
        check_bytes(path, head)
    with reading(path):
        file = h5py.File(path, "r", locking=False)
    try:
        with reading(path):
            _check_arrays(path, file)
            images = file["images"]
            form = (len(images), [*images.shape[1:]], str(images.dtype))
            if head and form != (head.count, head.shape, head.stored):
                raise ShardError(f"{path}: its head describes other images than it holds")
    except BaseException:
        file.close()
        raise
    return file


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn any error while a shard is read into one sentence about it: HDF5 raises many kinds.

    Raises:
        ShardError: Something went wrong.
    """
    try:
        yield
    except (ShardError, MemoryError):
        raise
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise ShardError(f"{path}: cannot be read as HDF5 ({text})") from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file in errors while it is written; HDF5's own messages are long and do not.

    Raises:
        OSError: The disk is full, or fails.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        match = re.search(r"errno = (\d+)", str(error))
        number = getattr(error, "errno", None) or (int(match[1]) if match else 0)
        if not number:
            raise
        text = f"{os.strerror(number)} while it was written; make room, or name another folder"
        raise OSError(number, text, str(path)) from error


def check_room(path: Path, size: int = 0) -> None:
    """Refuse to write a file where there is no room: HDF5 crashes where a disk fills up under it.

    Arguments:
        path: The file.
        size: Bytes that are to be written.

    Raises:
        OSError: There is no room.
    """
    if shutil.disk_usage(path.parent).free < size + _ROOM:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def fields_of(file: h5py.File) -> dict[str, Any]:
    """The fields of the `Description` of an open shard, in types of Python."""
    fields = {name: _plain(value) for name, value in file.attrs.items()}
    images, scale = file["images"], fields.get("pixel_scale")
    if isinstance(scale, float) and math.isnan(scale):
        fields["pixel_scale"] = None
    form = {"count": len(images), "shape": [*images.shape[1:]], "stored": str(images.dtype)}
    return fields | form | _paired(file, fields)


def _paired(file: h5py.File, fields: dict[str, Any]) -> dict[str, Any]:
    """What a shard of pairs says of its inputs, taken out of `fields`; nothing of others."""
    own = {name: fields.pop(f"inputs_{name}", None) for name in ("dtype", "mean", "sd")}
    if "inputs" not in file:
        return {}
    inputs = file["inputs"]
    form = {"shape": [*inputs.shape[1:]], "stored": str(inputs.dtype)}
    return {"inputs": own | form} | ({"clean": True} if "clean" in file else {})


def array_names(file: h5py.File) -> list[str]:
    """Names of all arrays of a shard."""
    single = [name for name in file if name not in _GROUPS]
    return single + [f"{group}/{name}" for group in _GROUPS for name in file.get(group, ())]


@contextlib.contextmanager
def naming(root: Path, names: Sequence[str]) -> Iterator[None]:
    """Within it, shards of a folder get their names and the manifest is written.

    Arguments:
        root: The folder, which this process owns.
        names: Of all shards.
    """
    (root / "manifest.json").unlink(missing_ok=True)  # of a set that is no longer there
    files.replace(root / _MARK, json.dumps({"shards": list(names), "by": _this_process()}))
    yield
    done_with(root)


def done_with(root: Path) -> None:
    """Remove the mark of a set that is not complete, once its manifest is there."""
    (root / _MARK).unlink(missing_ok=True)


def half_named(root: Path) -> list[str] | None:
    """The shards that another process is giving names, or was when killed; None if none is."""
    mark = root / _MARK
    if not mark.is_file() or (root / "manifest.json").exists():
        return None
    try:
        content = json.loads(mark.read_text(encoding="utf-8"))
        return (
            None if content["by"] == _this_process() else [str(name) for name in content["shards"]]
        )
    except (ValueError, KeyError, TypeError):
        raise ShardError(f"{mark}: is damaged; remove it, and shards without a manifest") from None


def refuse_half_named(root: Path) -> None:
    """Refuse a set of which some shards may be missing still.

    Raises:
        ShardError: Some may.
    """
    if half_named(root) is not None:
        raise ShardError(
            f"{root}: these shards are not complete: what made them was killed, or is not done; "
            "pack or simulate them again"
        )


def _check_arrays(path: Path, file: h5py.File) -> None:
    for group in _GROUPS:
        if group in file and not isinstance(_own_part(path, file, group), h5py.Group):
            raise ShardError(f"{path}: '{group}' is not a group of arrays")
    for name in ("images", "targets", "ids"):
        if name not in file:
            raise ShardError(f"{path}: has no '{name}'")
    arrays = {name: _own_part(path, file, name) for name in array_names(file)}
    count, images = len(arrays["targets"]), arrays["images"]
    for what, scale in _SCALES.items():
        counts = what in arrays and arrays[what].dtype == np.uint16
        if (scale in arrays) != counts:
            kind = arrays[what].dtype if what in arrays else "missing"
            raise ShardError(
                f"{path}: '{scale}' goes with uint16 {what} and no others; these are {kind}"
            )
    for name, array in arrays.items():
        form = 1 if name.startswith("catalogue/") else _AXES.get(name, array.ndim)
        if array.ndim != form or array.shape[:1] != (count,) or not _typed(name, array):
            raise ShardError(
                f"{path}: '{name}' is {array.dtype} {array.shape}, for {count} samples"
            )
        _check_storage(path, name, array)
        if name in _SCALES.values() and array.shape != images.shape[:2]:
            raise ShardError(
                f"{path}: '{name}' has the shape {array.shape}, expected {images.shape[:2]}"
            )
    if "clean" in arrays and ("inputs" not in arrays or arrays["clean"].shape != images.shape):
        raise ShardError(
            f"{path}: 'clean' has the shape {arrays['clean'].shape}, expected {images.shape}, "
            "beside 'inputs'"
        )


def _own_part(path: Path, file: h5py.File, name: str) -> Any:
    """A part of a file; refused if it is a link to another file."""
    for parent in (name.rpartition("/")[0], name):
        link = file.get(parent, getlink=True) if parent else None
        if isinstance(link, h5py.SoftLink | h5py.ExternalLink):
            raise ShardError(f"{path}: '{parent}' is a link; all parts of a shard are in its file")
    part = file[name]
    if name not in _GROUPS and not isinstance(part, h5py.Dataset):
        raise ShardError(f"{path}: '{name}' is not an array")
    return part


def _typed(name: str, array: h5py.Dataset) -> bool:
    """Whether an array holds what one of its name should."""
    is_text = h5py.check_string_dtype(array.dtype) is not None
    if name == "ids":
        return is_text
    if name.startswith("catalogue/"):
        return is_text or array.dtype in (np.int64, np.float64)
    if name in ("images", "inputs"):
        return array.dtype.name in _STORED
    if name == "clean":
        return array.dtype == np.float32
    return array.dtype == (np.int64 if name == "targets" else np.float64)


def _check_storage(path: Path, name: str, array: h5py.Dataset) -> None:
    """Refuse values in other files, of an unknown filter, or more than the file stores."""
    if array.is_virtual or array.external:
        raise ShardError(f"{path}: the values of '{name}' are in other files")
    plan = array.id.get_create_plist()
    filters = [plan.get_filter(i)[0] for i in range(plan.get_nfilters())]
    if missing := [code for code in filters if not h5py.h5z.filter_avail(code)]:
        raise ShardError(
            f"{path}: '{name}' is compressed by HDF5 filter {missing[0]}, which is not installed"
        )
    stored = array.id.get_storage_size()
    if array.nbytes > stored * (_MOST_EXPANSION if filters else 1):
        raise ShardError(f"{path}: '{name}' is {array.nbytes} bytes, of which {stored} are stored")


def _plain(value: Any) -> Any:
    """The value of an attribute in types of Python."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.decode() if isinstance(value, bytes) else value


def _this_process() -> str:
    return f"{socket.gethostname()} {os.getpid()} {_STARTED}"
