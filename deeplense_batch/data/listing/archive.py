"""Files by name, in a folder or in a zip or tar, which is never unpacked.

Names are cleaned: ``data\\no\\1.npy`` of an old Windows zip, ``./data//no/1.npy`` and
``/data/no/1.npy`` are all ``data/no/1.npy``. A zip that holds two files of one name is refused.
"""

from __future__ import annotations

import errno
import io
import os
import unicodedata
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from deeplense_batch.data.formats.counted import counted
from deeplense_batch.data.formats.untrusted import (
    ImageError,
    check_archive,
    open_plain,
    read_member,
    read_plain,
)
from deeplense_batch.data.listing.tars import Tar, is_tar, open_tar
from deeplense_batch.data.shards import ShardError

__all__ = ["Tree", "alike", "open_tree", "path_parts", "stem"]

_ZIP_MAGIC = b"PK\x03\x04"
_DAMAGED = "is a damaged or incomplete zip; copy or download it again, all parts as one file"
_SINGLE = (
    ".npz",
    ".npy",
    ".h5",
    ".hdf5",
    ".hdf",
    ".he5",
    ".fits",
    ".fit",
)  # files that hold many images
_METHODS = {
    6: "Implode",
    9: "Deflate64, as Windows' Explorer does with files above 2 GB",
    93: "Zstandard",
    95: "XZ",
    98: "PPMd",
}

T = TypeVar("T")


class Tree(Protocol):
    """Files by name; names are relative, with '/', and leave hidden files and folders out."""

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def folders(self) -> tuple[str, ...]: ...

    @property
    def hidden(self) -> tuple[str, ...]:
        """Names of the files left out, which are hidden or in a hidden folder."""

    @property
    def repeated(self) -> tuple[str, ...]:
        """Folders left out, since they are links to others of the tree."""

    def read(self, name: str) -> bytes: ...

    def open(self, name: str) -> IO[bytes]: ...

    def path(self, name: str) -> Path:
        """The file on disk that holds it."""

    def check(self, names: Collection[str]) -> None:
        """Refuse files that cannot be read by what holds them.

        Raises:
            ShardError: Some are compressed in a way that this Python does not know.
        """


@contextmanager
def open_tree(root: Path) -> Iterator[Tree]:
    """Open a folder, a zip or tar, or a single file of many images as a tree of one.

    Raises:
        ShardError: It does not exist, is a file of another kind, or has names that cannot be kept.
    """
    if root.is_dir():
        paths, folders, repeated = _walk(root)
        files, hidden = _cleaned(root, ((path, path) for path in paths))
        yield _Folder(files, _folders(root, folders), hidden, _folders(root, repeated), root)
    elif root.name.lower().endswith(_SINGLE) and root.is_file():
        yield _Folder({root.name: root.name}, (), (), (), root.parent)
    elif root.exists() and not root.is_file():
        raise ShardError(f"{root}: {_why_no_source(root)}")
    elif zipfile.is_zipfile(root):
        with root.open("rb") as file, _archive(root, file) as archive:
            members = [(info.filename.replace("\\", "/"), info) for info in archive.infolist()]
            plain = [(name, info) for name, info in members if not name.endswith("/")]
            if any(info.flag_bits & 1 for _, info in plain):
                raise ShardError(f"{root}: is encrypted; decrypt it first")
            folders = [name for name, _ in members if name.endswith("/")]
            infos, hidden = _cleaned(root, plain)
            yield _Archive(infos, _folders(root, folders), hidden, (), root, archive)
    elif is_tar(root):
        with open_tar(root) as (places, inner):
            found, hidden = _cleaned(root, places.items())
            yield Tar(found, _folders(root, inner), hidden, root)
    elif root.exists():
        raise ShardError(f"{root}: {_why_no_source(root)}")
    else:
        raise ShardError(f"{root}: no such folder or file")


def path_parts(name: str) -> tuple[str, ...]:
    """Folders and file name; as those of PurePosixPath, which is slow for many thousand names."""
    return tuple(part for part in name.split("/") if part not in ("", "."))


def stem(id_: str) -> str:
    """A name without its ending, .fits.gz and .fits.fz too."""
    *folders, file = path_parts(id_)
    name, dot, ending = file.rpartition(".")
    if ending.lower() == "gz" or (ending.lower() == "fz" and "." in name):
        name, dot, ending = name.rpartition(".")
    return "/".join([*folders, name if dot else ending])


@dataclass(frozen=True)
class _Folder:
    files: Mapping[str, str]  # path below the root, by name
    folders: tuple[str, ...]
    hidden: tuple[str, ...]
    repeated: tuple[str, ...]
    root: Path

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.files)

    def read(self, name: str) -> bytes:
        return read_plain(f"{self.root}/{self.files[name]}")

    def open(self, name: str) -> IO[bytes]:
        return open_plain(self.path(name))

    def path(self, name: str) -> Path:
        return self.root / self.files[name]

    def check(self, names: Collection[str]) -> None:
        pass  # files of a folder are not compressed by it


@dataclass(frozen=True)
class _Archive:
    files: Mapping[str, zipfile.ZipInfo]
    folders: tuple[str, ...]
    hidden: tuple[str, ...]
    repeated: tuple[str, ...]
    root: Path
    archive: zipfile.ZipFile

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.files)

    def read(self, name: str) -> bytes:
        return read_member(self.archive, self.files[name])

    def open(self, name: str) -> IO[bytes]:
        return io.BytesIO(self.read(name))  # to seek in a compressed member is slow

    def path(self, name: str) -> Path:
        return self.root

    def check(self, names: Collection[str]) -> None:
        methods = {self.files[name].compress_type: name for name in names}
        for method, name in methods.items():
            try:
                self.archive.open(self.files[name]).close()
            except (NotImplementedError, RuntimeError) as error:
                how = f"method {method}"
                how = f"{_METHODS[method]} ({how})" if method in _METHODS else how
                raise ShardError(
                    f"{self.root}: holds files compressed by {how}, such as {name}, which Python "
                    "cannot read; unpack it (7z x, unzip) and pack the folder"
                ) from error
            except (zipfile.BadZipFile, EOFError):
                continue  # one damaged member: a bad image among others


class _Positioned(io.RawIOBase):
    """A file with an offset of its own in every process: forks share that of a descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._offset = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._offset

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._offset, os.SEEK_END: self._size()}[whence]
        if start + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._offset = start + offset
        return self._offset

    def readinto(self, buffer: Any) -> int:
        count = os.preadv(self._descriptor, [buffer], self._offset)
        self._offset += count
        return count

    def _size(self) -> int:
        return os.fstat(self._descriptor).st_size


def _archive(root: Path, file: IO[bytes]) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(_Positioned(file.fileno()))
        check_archive(archive, root.stat().st_size)
        if any(info.header_offset < 0 for info in archive.infolist()):
            raise ShardError(_DAMAGED)  # its files begin in another part
    except ImageError as error:
        raise ShardError(f"{root}: {error}") from error
    except Exception as error:  # a broken file makes its reader raise anything at all
        raise ShardError(f"{root}: {_DAMAGED}") from error
    return archive


def _why_no_source(root: Path) -> str:
    """Why a file is no source, and what to do about it."""
    suffix = root.suffix.lower()
    if not root.is_file():
        return "is a pipe, socket or device; name the folder or the zip that holds the images"
    with root.open("rb") as file:
        if root.stat().st_size == 0:
            return "is an empty file"
        if suffix == ".zip" or file.read(4) == _ZIP_MAGIC:
            return _DAMAGED
    return "is neither a folder, a zip, a tar nor a file of many images; name one that is"


def _walk(root: Path) -> tuple[list[str], list[str], list[str]]:
    """All files and folders, behind links too; and folders already entered by another name."""
    names: list[str] = []
    below_root: list[str] = []
    repeated: list[str] = []
    entered = set()

    def refuse(error: OSError) -> None:
        below = Path(error.filename).relative_to(root)
        if below == Path() or not _is_hidden(below.as_posix()):
            raise ShardError(
                f"{error.filename}: cannot be read ({error.strerror}); let it be read, or move it "
                "away"
            ) from error

    for folder, folders, files in os.walk(root, followlinks=True, onerror=refuse):
        real = Path(folder).resolve()
        below = Path(folder).relative_to(root).as_posix()
        if real in entered:
            folders.clear()
            repeated.append(below)
            continue
        entered.add(real)
        folders[:] = _links_last(folder, folders)
        names += files if below == "." else [f"{below}/{name}" for name in files]
        below_root += [] if below == "." else [below]
    return names, below_root, repeated


def _links_last(folder: str, names: list[str]) -> list[str]:
    """An order that is the same on every machine; a folder comes before a link to it."""
    return sorted(names, key=lambda name: (Path(folder, name).is_symlink(), name))


def _cleaned(root: Path, files: Iterable[tuple[str, T]]) -> tuple[dict[str, T], tuple[str, ...]]:
    """Files by their cleaned names, without hidden ones; and the names of these.

    Raises:
        ShardError: Two files have the same name, or a name is not UTF-8.
    """
    kept: dict[str, T] = {}
    hidden, twice = [], []
    for given, file in files:
        name = _clean(given)
        if _is_hidden(name):
            hidden.append(name)
            continue
        _check_text(root, name)
        if name in kept:
            twice.append(name)
        kept[name] = file
    if twice:
        raise ShardError(
            f"{root}: {counted(len(twice), 'of its files has', 'of its files have')} the name of "
            f"another, such as {twice[0]}; which one is meant? Make it again with every name once"
        )
    return kept, tuple(hidden)


def _folders(root: Path, names: Iterable[str]) -> tuple[str, ...]:
    cleaned = dict.fromkeys(map(_clean, names))
    for name in cleaned:
        _check_text(root, name)
    return tuple(name for name in cleaned if name and not _is_hidden(name))


def _clean(name: str) -> str:
    """A name with '/' between its parts, relative, and without '.', '..' and empty parts."""
    parts: list[str] = []
    for part in name.replace("\\", "/").split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    cleaned = "/".join(parts)
    return name if cleaned == name else cleaned  # one text of each name, of which there are many


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _check_text(root: Path, name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ShardError(f"{root}: the file name {name!r} is not UTF-8; rename it") from error
    if not name.isprintable() and any(unicodedata.category(letter) == "Cc" for letter in name):
        raise ShardError(
            f"{root}: the file name {name!r} has a line break or another control character; "
            "rename it"
        )


def alike(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of names that look the same: but for case, spaces, accents or widths of letters."""
    first: dict[str, str] = {}
    pairs = []
    for name in names:
        seen = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        other = first.setdefault(seen, name)
        if other != name:
            pairs.append((other, name))
    return pairs
