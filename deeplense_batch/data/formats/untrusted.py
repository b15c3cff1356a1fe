"""Read files of unknown origin, without waiting for a pipe or unpacking a bomb.

A bomb is a small file that says it is huge: compressed zeros, or a hole in a file. What takes up
more than 100 times its own size (`expansion`), and more than any small image, is refused before it
is unpacked.
"""

from __future__ import annotations

import errno
import gzip
import io
import os
import stat
import threading
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import IO

__all__ = [
    "ImageError", "check_archive", "check_expansion", "expansion", "gunzip", "open_plain",
    "read_member", "read_plain", "unwarned",
]  # fmt: skip

_most: ContextVar[float] = ContextVar("most_expansion", default=100.0)

_SMALL = 64 << 20  # bytes that any image may take: 4096 x 4096 pixels of float32
_SMALL_SET = 1 << 30  # and all images of an archive
_KINDS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a pipe (FIFO)",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}

_NO_TARGET = {
    errno.ENOENT: "which is not there",
    errno.ENOTDIR: "which is not there",
    errno.ELOOP: "which leads back to it",
}


class ImageError(ValueError):
    """A file holds no image that can be packed; the text is the reason alone."""

    exit_code = 1  # always caught: its reader names the file


@contextmanager
def expansion(most: float) -> Iterator[None]:
    """Within it, files may take up to `most` times their size; forked processes know it too."""
    before = _most.set(most)
    try:
        yield
    finally:
        _most.reset(before)


def check_expansion(size: int, packed: int, *, small: int | None = None) -> None:
    """Refuse what takes far more room than its own file.

    Arguments:
        size: Bytes it will take.
        packed: Bytes it takes as it is.
        small: Bytes that are always allowed, by default those of one image.

    Raises:
        ImageError: It is a bomb.
    """
    most = _most.get()
    if size > max(_SMALL if small is None else small, most * packed):
        raise ImageError(
            f"{packed / 1e6:.3g} MB that unpack to {size / 1e6:.3g} MB, over {most:g} times as "
            f"much: a bomb? pack --max_expansion={-(-size // max(packed, 1))} reads it"
        )


class _Unwarned:
    """Warnings are left out while any thread is in here.

    `warnings.catch_warnings` is made for one thread: of two that leave in another order than they
    came, the last would leave them out for good.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._stack = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._stack.enter_context(warnings.catch_warnings(action="ignore"))

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._stack.close()


unwarned = _Unwarned()


def open_plain(path: Path) -> IO[bytes]:
    """Open a file to read, as `read_plain` does."""
    _check_plain(path)
    return path.open("rb")


def read_plain(path: str) -> bytes:
    """Read a file; pipes, sockets and devices are never opened.

    Raises:
        ImageError: It is no plain file, a link to nothing, or mostly a hole.
        OSError: It cannot be opened.
    """
    _check_plain(path)
    with io.FileIO(path) as file:  # half the cost of Path.read_bytes
        return file.readall()


def read_member(archive: zipfile.ZipFile, member: str | zipfile.ZipInfo) -> bytes:
    """Unpack one file of a zip.

    Raises:
        ImageError: It is a bomb.
        Exception: A damaged one makes its reader raise anything at all.
    """
    info = member if isinstance(member, zipfile.ZipInfo) else archive.getinfo(member)
    check_expansion(info.file_size, info.compress_size)
    return archive.read(info)


def check_archive(archive: zipfile.ZipFile, size: int) -> None:
    """Refuse a zip of `size` bytes whose files together are a bomb; they may share their bytes.

    Raises:
        ImageError: They are.
    """
    check_expansion(sum(i.file_size for i in archive.infolist()), size, small=_SMALL_SET)


def gunzip(data: bytes) -> bytes:
    """Unpack what gzip packed.

    Raises:
        ImageError: It is a bomb.
        Exception: It is damaged.
    """
    most = int(max(_SMALL, _most.get() * len(data)))
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        unpacked = file.read(most + 1)
    declared = int.from_bytes(data[-4:], "little")  # size of the last part, modulo 2^32
    check_expansion(max(len(unpacked), declared if len(unpacked) > most else 0), len(data))
    return unpacked


def _check_plain(path: Path | str) -> None:
    try:
        state = os.stat(path)  # noqa: PTH116, a Path for each image costs as much as its reading
    except OSError as error:
        if error.errno in _NO_TARGET and Path(path).is_symlink():
            why = _NO_TARGET[error.errno]
            raise ImageError(f"is a link to {Path(path).readlink()}, {why}") from error
        raise
    if not stat.S_ISREG(state.st_mode):
        kind = next((name for is_, name in _KINDS.items() if is_(state.st_mode)), "no file")
        raise ImageError(f"is {kind}, not a file of bytes")
    check_expansion(state.st_size, state.st_blocks * 512)
