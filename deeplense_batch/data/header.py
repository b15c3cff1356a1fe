"""The head of a shard: what it is, in a line of JSON, and the digest of every byte that follows.

HDF5 may crash, hang or read nonsense where a file is damaged. So a shard has a head of its own, in
the block before its content that HDF5 leaves to its users: a set can be described from the heads
without HDF5, and HDF5 opens no file before its bytes are known to be those that were written.

::

    deeplense_batch shard, format 2
    <sha256 of the next line, 64 hex digits>
    {"format": 2, "head": 4096, "size": 51200, "bytes": "<sha256>", "split": "train", ...}
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

__all__ = [
    "FORMAT",
    "Description",
    "Head",
    "InputsFields",
    "ShardError",
    "check_bytes",
    "head_room",
    "open_regular",
    "packing_of",
    "ratio_of",
    "read_head",
    "validated",
    "write_head",
]

FORMAT = 2

_MAGIC = b"deeplense_batch shard, format 2\n"
_HDF5 = b"\x89HDF\r\n\x1a\n"  # a file of format 1 begins with it
_LONGEST = 1 << 24  # bytes of the line
_LEAST_ROOM = 4096
_BLOCK = 1 << 20  # bytes hashed at a time
_SETTLED_NS = 2_000_000_000  # a file may change again within its clock's resolution

_LONG = ("simulation", "digests")  # attributes that are left to HDF5

_NUMBERS = r"^(u?int(8|16|32|64)|float(16|32|64))$"  # names of types

_checked: set[tuple[int, ...]] = set()  # states of files whose bytes this process has checked

Count = Annotated[int, Field(ge=0)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class ShardError(ValueError):
    """Shards, or the files they are made from, are not what was asked for."""

    exit_code = 3


class InputsFields(BaseModel):
    """What the head of a shard of pairs says of the images that a network is given."""

    model_config = ConfigDict(strict=True, frozen=True)

    shape: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=3, max_length=3)]
    stored: Literal["uint8", "uint16", "float16", "float32", "float64"]
    dtype: Annotated[str, Field(pattern=_NUMBERS)]
    mean: list[float]
    sd: list[float]


class Description(BaseModel):
    """The attributes of a shard and of its split; `shards` says what each means."""

    model_config = ConfigDict(strict=True, frozen=True)

    format: Literal[1, 2]
    split: str
    shard: Count
    shards: Count
    count: Count  # samples in this file
    samples: Count
    shape: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=3, max_length=3)]
    stored: Literal["uint8", "uint16", "float16", "float32", "float64"]
    dtype: str
    classes: list[str]
    class_counts: list[Count]
    mean: list[float]
    sd: list[float]
    pixel_scale: float | None  # None where unknown
    bands: list[str] = []  # of the channels; none where they are unknown
    group: str = ""  # column of the catalogue whose values name the groups; none
    inputs: InputsFields | None = None  # of pairs
    clean: bool = False  # whether images without noise are there
    source: str
    seed: Count
    digest: Digest
    packing: Digest  # of the digests of all files of the split
    content: Digest

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """Check what the types of the fields cannot."""
        if not re.fullmatch(_NUMBERS, self.dtype):
            raise ValueError(f"dtype is {self.dtype!r}, no type of numbers")
        if len(self.class_counts) != len(self.classes):
            raise ValueError(f"class_counts are {self.class_counts}, classes {self.classes}")
        if {len(self.mean), len(self.sd)} != {self.shape[0]}:
            raise ValueError(f"mean and sd are not of {self.shape[0]} channels")
        if self.bands and len(self.bands) != self.shape[0]:
            raise ValueError(f"bands are {self.bands}, of {self.shape[0]} channels")
        if self.inputs is not None:
            channels, *sides = self.inputs.shape
            if channels != self.shape[0] or ratio_of(self.shape[1:], sides) is None:
                raise ValueError(
                    f"inputs of shape {self.inputs.shape} beside images of {self.shape}; the "
                    "sides of images are a whole number of times those of inputs"
                )
            if {len(self.inputs.mean), len(self.inputs.sd)} != {channels}:
                raise ValueError(f"mean and sd of inputs are not of {channels} channels")
        return self


class Head(Description):
    """A description, and the extent and digest of the bytes of the file."""

    head: Count  # bytes before the content
    size: Count  # of the whole file
    bytes: Digest  # sha256 of the file from `head` on


def validated(path: Path, kind: type[Description], fields: Mapping[str, Any]) -> Any:
    """Check the fields of a file as a `kind` of description.

    Raises:
        ShardError: A field is missing, or has no such value.
    """
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            raise ShardError(
                f"{path}: has no attribute '{name}'; make these shards again"
            ) from None
        what = f"attribute '{name}' is {str(first['input'])[:60]!r}: " if name else ""
        raise ShardError(f"{path}: is damaged or no shard ({what}{first['msg']})") from None


def ratio_of(sides: Sequence[int], inputs: Sequence[int]) -> int | None:
    """How many pixels of an image lie along one of its input; None where no whole number does.

    Arguments:
        sides: H and W of images.
        inputs: h and w of their inputs.
    """
    ratio = sides[0] // inputs[0]
    return ratio if ratio and [n * ratio for n in inputs] == [*sides] else None


def packing_of(digests: Sequence[str]) -> str:
    """One digest of those of all files of a split."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def head_room(fields: Mapping[str, Any], channels: int) -> int:
    """Bytes to leave for a head of these fields and those known later; a size that HDF5 allows."""
    later = 1024 + 64 * channels + 32 * len(fields["classes"])
    if "inputs_dtype" in fields:
        later += 256 + 64 * channels
    needed = len(_line(fields)) + later
    return max(_LEAST_ROOM, 1 << (needed - 1).bit_length())


def write_head(path: Path, room: int, fields: Mapping[str, Any]) -> None:
    """Write the head of a file whose content is complete.

    Arguments:
        path: A file with `room` bytes before its content.
        room: As of `head_room`.
        fields: Of the `Description`.
    """
    with path.open("r+b") as file:
        own = {"head": room, "size": path.stat().st_size, "bytes": _digest(file, room)}
        line = _line(dict(fields) | own)
        text = _MAGIC + hashlib.sha256(line).hexdigest().encode() + b"\n" + line + b"\n"
        assert len(text) <= room
        file.seek(0)
        file.write(text.ljust(room, b"\0"))


def read_head(path: Path) -> Head | None:
    """Read and check the head of a shard; None for a file of format 1, which has none.

    Raises:
        ShardError: It cannot be read, is no shard, or its head is damaged or of another length.
    """
    try:
        with open_regular(path) as file:
            magic = file.read(len(_MAGIC))
            if magic.startswith(_HDF5):
                return None
            if magic != _MAGIC:
                raise ShardError(f"{path}: is no shard, or its head is damaged")
            digest, line = file.readline(65).strip(), file.readline(_LONGEST).rstrip(b"\n")
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise ShardError(f"{path}: cannot be read ({error.strerror})") from error
    if hashlib.sha256(line).hexdigest().encode() != digest:
        raise ShardError(f"{path}: its head is damaged")
    head: Head = validated(path, Head, json.loads(line))
    if head.size != size:
        raise ShardError(f"{path}: has {size} bytes of {head.size} written; copy it again")
    return head


def open_regular(path: Path) -> IO[bytes]:
    """Open a regular file to read its bytes; opening a pipe would wait for its other end.

    Raises:
        ShardError: It is no regular file.
        OSError: It cannot be opened.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ShardError(f"{path}: is not a regular file but a folder, pipe, socket or device")
    return path.open("rb")


def check_bytes(path: Path, head: Head) -> None:
    """Make sure that a file holds the bytes that were written.

    They are hashed once in a process, and again only if the file has changed since.

    Raises:
        ShardError: It does not.
    """
    try:
        with open_regular(path) as file:
            stat_ = os.fstat(file.fileno())
            times = stat_.st_mtime_ns, stat_.st_ctime_ns
            state = (stat_.st_dev, stat_.st_ino, stat_.st_size, *times)
            if state in _checked:
                return
            digest = _digest(file, head.head)
    except OSError as error:
        raise ShardError(f"{path}: cannot be read ({error.strerror})") from error
    if digest != head.bytes:
        raise ShardError(
            f"{path}: is damaged or was changed after it was packed (bytes {digest[:12]}, "
            f"packed as {head.bytes[:12]}); pack it again"
        )
    if time.time_ns() - max(times) > _SETTLED_NS:
        _checked.add(state)


def _line(fields: Mapping[str, Any]) -> bytes:
    kept = {name: value for name, value in fields.items() if name not in _LONG}
    return json.dumps(kept, ensure_ascii=False).encode()


def _digest(file: IO[bytes], start: int) -> str:
    """sha256 of the rest of a file."""
    file.seek(start)
    running = hashlib.sha256()
    while block := file.read(_BLOCK):
        running.update(block)
    return running.hexdigest()
