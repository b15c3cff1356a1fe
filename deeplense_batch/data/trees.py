"""Files by name, in a folder or in a zip, which is never unpacked."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from deeplense_batch.data.shards import ShardError
from deeplense_batch.data.untrusted import (
    ImageError,
    check_archive,
    open_plain,
    read_member,
    read_plain,
)

__all__ = ["Tree", "open_tree", "path_parts"]

_ZIP_MAGIC = b"PK\x03\x04"
_DAMAGED = "is a damaged or incomplete zip; copy or download it again"


class Tree(Protocol):
    """Files by name; names are relative, with '/', and leave hidden files and folders out."""

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def folders(self) -> tuple[str, ...]: ...

    def read(self, name: str) -> bytes: ...

    def open(self, name: str) -> IO[bytes]: ...


@contextmanager
def open_tree(root: Path) -> Iterator[Tree]:
    """Open a folder, a zip, or a single .npz file as a tree of one.

    Raises:
        ShardError: There is no such thing, it is another file, or its names cannot be kept.
    """
    if root.is_dir():
        files, folders = _walk(root)
        yield _Folder(root, _checked(root, files), _checked(root, folders))
    elif root.suffix.lower() == ".npz" and root.is_file():
        yield _Folder(root.parent, (root.name,), ())
    elif root.exists() and not root.is_file():
        raise ShardError(f"{root}: {_what(root)}")
    elif zipfile.is_zipfile(root):
        with root.open("rb") as file, _archive(root, file) as archive:
            files = [name for name in archive.NameToInfo if not name.endswith("/")]
            if any(archive.NameToInfo[name].flag_bits & 1 for name in files):
                raise ShardError(f"{root}: is encrypted; decrypt it first")
            folders = [name.rstrip("/") for name in archive.NameToInfo if name.endswith("/")]
            yield _Archive(archive, _checked(root, files), _checked(root, folders))
    elif root.exists():
        raise ShardError(f"{root}: {_what(root)}")
    else:
        raise ShardError(f"{root}: no such folder or file")


def path_parts(name: str) -> tuple[str, ...]:
    """Folders and file name; as those of PurePosixPath, which is slow for many thousand names."""
    return tuple(part for part in name.split("/") if part not in ("", "."))


@dataclass(frozen=True)
class _Folder:
    root: Path
    names: tuple[str, ...]
    folders: tuple[str, ...]

    def read(self, name: str) -> bytes:
        return read_plain(f"{self.root}/{name}")

    def open(self, name: str) -> IO[bytes]:
        return open_plain(self.root / name)


@dataclass(frozen=True)
class _Archive:
    archive: zipfile.ZipFile
    names: tuple[str, ...]
    folders: tuple[str, ...]

    def read(self, name: str) -> bytes:
        return read_member(self.archive, name)

    def open(self, name: str) -> IO[bytes]:
        return io.BytesIO(self.read(name))  # to seek in a compressed member is slow


class _Positioned(io.RawIOBase):
    """A file with a place of its own in every process: forks share that of a descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size()}[whence]
        self._place = start + offset
        return self._place

    def readinto(self, buffer: Any) -> int:
        count = os.preadv(self._descriptor, [buffer], self._place)
        self._place += count
        return count

    def _size(self) -> int:
        return os.fstat(self._descriptor).st_size


def _archive(root: Path, file: IO[bytes]) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(_Positioned(file.fileno()))
        check_archive(archive, root.stat().st_size)
    except ImageError as error:
        raise ShardError(f"{root}: {error}") from error
    except Exception as error:  # a broken file makes its reader raise anything at all
        raise ShardError(f"{root}: {_DAMAGED}") from error
    return archive


def _what(root: Path) -> str:
    """Why a file is no source, and what to do about it."""
    suffix = root.suffix.lower()
    if suffix == ".npy":
        return (
            "is a single .npy file; put images (N, H, W) or (N, C, H, W) and their class numbers "
            "(N,) into an .npz, np.savez('train.npz', images=..., labels=...), and pack that"
        )
    if not root.is_file():
        return "is a pipe, socket or device; name the folder or the zip that holds the images"
    with root.open("rb") as file:
        if suffix == ".zip" or file.read(4) == _ZIP_MAGIC:
            return _DAMAGED
    return "is neither a folder, a zip nor an .npz file; name the folder that holds the images"


def _walk(root: Path) -> tuple[list[str], list[str]]:
    """All files and folders, also behind links; one that links lead back to is entered once."""
    names: list[str] = []
    below_root: list[str] = []
    entered = set()

    def refuse(error: OSError) -> None:
        if not _hidden(Path(error.filename).relative_to(root).as_posix()):
            raise ShardError(
                f"{error.filename}: cannot be read ({error.strerror}); let it be read, or move it "
                "away"
            ) from error

    for folder, folders, files in os.walk(root, followlinks=True, onerror=refuse):
        real = Path(folder).resolve()
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        below = Path(folder).relative_to(root).as_posix()
        names += files if below == "." else [f"{below}/{name}" for name in files]
        below_root += [] if below == "." else [below]
    return names, below_root


def _checked(root: Path, names: list[str]) -> tuple[str, ...]:
    kept = []
    for name in names:
        if _hidden(name):
            continue
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise ShardError(f"{root}: the file name {name!r} is not UTF-8; rename it") from error
        kept.append(name)
    return tuple(kept)


def _hidden(name: str) -> bool:
    """Whether a name or a folder above it is hidden, or is what a Mac leaves in a zip."""
    parts = path_parts(name)
    return any((part.startswith(".") and part != "..") or part == "__MACOSX" for part in parts)
