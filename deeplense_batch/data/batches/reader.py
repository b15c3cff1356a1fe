"""Stored images by index: where they are kept, and how they are read from their files.

They are kept on the device, on the host, or in their files. From there, a contiguous data set is
read by `preadv` at its offset in the file: no page of it is mapped, so what a process holds does
not grow with the set. A compressed one is read through HDF5. A thread reads one batch ahead.
"""

from __future__ import annotations

import os
import platform
import resource
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, pairwise
from math import prod
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from deeplense_batch.core.processes import local_size
from deeplense_batch.data.augment import central
from deeplense_batch.data.encoding import Array
from deeplense_batch.data.shards import ShardError, Split, open_shard

__all__ = ["Indices", "Reader", "Rows", "ahead", "choose", "free_memory"]

Indices = NDArray[np.int64]  # of samples in their slice
T = TypeVar("T")
R = TypeVar("R")
_MOST_OPEN = 256  # files at once; a process may often have 1024
_SHARE = 0.6  # of the free memory that images may take; a network needs the rest
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
# Version 2 and 1 of control groups: folder, limit, use, and the part of it that is only cache.
_UNIFIED = ("", "memory.max", "memory.current", "file")
_LEGACY = ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache")


def ahead(work: Callable[[T], R], tasks: Iterable[T]) -> Generator[R, None, None]:
    """Give ``work(task)`` in order; one thread does the next while the last is made use of.

    The thread ends with the generator.

    Raises:
        ChildProcessError: No thread could be started. What `work` raises is raised here.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="reader") as thread:
        waiting = iter(tasks)
        try:
            begun = deque(thread.submit(work, task) for task in islice(waiting, 1))
        except RuntimeError as error:
            raise ChildProcessError(
                f"{platform.node()}: the thread that reads images could not be started ({error}): "
                "more memory or processes (ulimit -u) may do"
            ) from error
        while begun:
            done = begun.popleft().result()
            begun.extend(thread.submit(work, task) for task in islice(waiting, 1))
            yield done


class Rows:
    """Where the stored images of a slice lie, and what is kept of them."""

    def __init__(self, split: Split, crop: int | None) -> None:
        channels, height, width = split.info.shape
        if crop is not None and crop > min(height, width):
            raise ShardError(f"data.crop: {crop} pixels asked, the images have {height} x {width}")
        self.dtype, self.array = split.info.stored, split.info.array
        choice = split.info.choice
        kept = (height, width) if crop is None else (crop, crop)
        self.shape = (channels if choice is None else len(choice.places), *kept)
        self.window = central(height, kept[0]), central(width, kept[1])
        self.row_bytes = prod(self.shape) * self.dtype.itemsize
        self._picked = split.picked
        self._pieces: list[_Piece] = []
        self._starts: list[int] = []
        start = 0
        for path, first, last in split.parts():
            with open_shard(path) as file:
                self._pieces.append(_Piece(path, first, file[self.array].id.get_offset()))
                stored = file[self.array].shape[1]
            self._starts.append(start)
            start += last - first
        self.whole = (stored, height, width)  # as stored
        #: Stored channels that are kept; None: all, in their order.
        self.places = None if choice is None or choice.keeps_order(stored) else [*choice.places]

    def runs(self, indices: Indices) -> Iterator[tuple[_Piece, int, slice]]:
        """Cut indices into runs that lie one after another in one file.

        Yields:
            The file, the number in it of the run's first sample, and the run's slice of `indices`.
        """
        if self._picked is not None:
            indices = self._picked[indices]
        piece = np.searchsorted(self._starts, indices, side="right") - 1
        cuts = np.flatnonzero((np.diff(indices) != 1) | (np.diff(piece) != 0)) + 1
        bounds = [0, *cuts.tolist(), len(indices)]
        for start, stop in pairwise(bounds):
            if start < stop:
                p = int(piece[start])
                first = int(indices[start]) - self._starts[p] + self._pieces[p].first
                yield self._pieces[p], first, slice(start, stop)


class Reader:
    """Reads some `Rows`, in one thread; a context manager, which closes the files it opened."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._files: dict[Path, _Contiguous | _Compressed] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._files:
            self._files.popitem()[1].close()

    def expect(self, indices: Indices) -> None:
        """Have the system fetch, all at once, the images that `read` will want."""
        for piece, first, run in self._rows.runs(indices):
            self._file(piece).expect(first, run.stop - run.start)

    def read(self, indices: Indices, out: Array) -> None:
        """Read images.

        Arguments:
            indices: Of the samples in the slice, (B,) int64, in any order.
            out: What is filled: (B, C, H, W) of the chosen channels, after cropping, of the
                stored type.

        Raises:
            ShardError: A file cannot be read, or has become shorter.
        """
        rows = self._rows
        for piece, first, run in rows.runs(indices):
            part = out[run]
            if rows.shape == rows.whole and rows.places is None:
                self._file(piece).read(first, part)
            else:
                whole = np.empty((len(part), *rows.whole), rows.dtype)
                self._file(piece).read(first, whole)
                cropped = whole[:, :, *rows.window]
                part[...] = cropped if rows.places is None else cropped[:, rows.places]

    def _file(self, piece: _Piece) -> _Contiguous | _Compressed:
        if piece.path not in self._files:
            if len(self._files) == _MOST_OPEN:
                self._files.pop(next(iter(self._files))).close()
            if piece.offset is None:
                self._files[piece.path] = _Compressed(piece.path, self._rows.array)
            else:
                row_bytes = prod(self._rows.whole) * self._rows.dtype.itemsize
                self._files[piece.path] = _Contiguous(piece.path, piece.offset, row_bytes)
        return self._files[piece.path]


def choose(asked: str, size: int, device: torch.device) -> str:
    """Say where images are kept.

    Arguments:
        asked: ``device``, ``host``, ``off``, or ``auto`` for what there is room for.
        size: Of the stored images, bytes.
        device: Where batches are wanted.

    Returns:
        ``device``, ``host`` or ``off``.
    """
    if asked != "auto":
        return asked
    if size <= _SHARE * free_memory(device):
        return "device"
    if device.type != "cpu" and size <= _SHARE * free_memory(torch.device("cpu")):
        return "host"
    return "off"


def free_memory(device: torch.device) -> int:
    """Bytes that this process can still take: of a machine, its share among those of its run."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    rooms = [_meminfo("/proc/meminfo", "MemAvailable"), *_cgroup_rooms()]
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        rooms.append(limit - _meminfo("/proc/self/status", "VmSize"))
    return max(min(rooms), 0) // local_size()


@dataclass(frozen=True)
class _Piece:
    """The part of a slice in one file."""

    path: Path
    first: int  # its first sample in the file
    offset: int | None  # of the images in the file, bytes; None where they are compressed


class _Contiguous:
    """Images one after another in a file."""

    def __init__(self, path: Path, offset: int, row_bytes: int) -> None:
        self._path, self._offset, self._row_bytes = path, offset, row_bytes
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise ShardError(f"{path}: cannot be read ({error.strerror})") from error

    def expect(self, first: int, count: int) -> None:
        start = self._offset + first * self._row_bytes
        size = count * self._row_bytes
        os.posix_fadvise(self._file.fileno(), start, size, os.POSIX_FADV_WILLNEED)

    def read(self, first: int, out: Array) -> None:
        left = out.reshape(-1).view(np.uint8).data
        at = self._offset + first * self._row_bytes
        while left:
            try:
                count = os.preadv(self._file.fileno(), [left], at)
            except OSError as error:
                raise ShardError(f"{self._path}: cannot be read ({error.strerror})") from error
            if not count:
                raise ShardError(f"{self._path}: ends before its images do")
            left, at = left[count:], at + count

    def close(self) -> None:
        self._file.close()


class _Compressed:
    """Images that HDF5 has to unpack. Opened by the thread that reads, never before a fork."""

    def __init__(self, path: Path, array: str) -> None:
        self._path, self._array = path, array
        self._file = open_shard(path)

    def expect(self, first: int, count: int) -> None:
        """Nothing: HDF5 knows where they are, and does not tell."""

    def read(self, first: int, out: Array) -> None:
        try:
            self._file[self._array].read_direct(out, np.s_[first : first + len(out)])
        except OSError as error:
            raise ShardError(f"{self._path}: cannot be read ({error})") from error

    def close(self) -> None:
        self._file.close()


def _meminfo(file: str, field: str) -> int:
    lines = dict(line.split(":", 1) for line in Path(file).read_text().splitlines())
    return int(lines[field].split()[0]) * 1024


def _cgroup_rooms() -> Iterator[int]:
    """What each control group around this process has left; SLURM sets its limits there."""
    for line in _OWN_CGROUPS.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, limit, use, cache = _LEGACY if controllers else _UNIFIED
        group = _CGROUPS / root / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(_CGROUPS) and (folder / limit).exists():
                most = (folder / limit).read_text().strip()
                lines = (folder / "memory.stat").read_text().splitlines()
                counts = dict(line.split() for line in lines)
                if most != "max":
                    yield int(most) - int((folder / use).read_text()) + int(counts[cache])
