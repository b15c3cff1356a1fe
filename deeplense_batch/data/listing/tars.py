"""The files of a tar, read in place by their offsets.

Nothing is unpacked, so that names are only names. A compressed tar has no offsets: a file in it is
found by unpacking all before it.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from deeplense_batch.data.formats.counted import counted
from deeplense_batch.data.formats.images import SUFFIXES
from deeplense_batch.data.formats.untrusted import ImageError, open_plain
from deeplense_batch.data.shards import ShardError

__all__ = ["Place", "Tar", "is_tar", "open_tar"]

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"(\xb5": "Zstandard"}
_NAMES = (".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")


class Place(NamedTuple):
    """Where a file lies in a tar."""

    offset: int
    size: int


@dataclass(frozen=True)
class Tar:
    """The files of a tar as a `Tree`."""

    files: Mapping[str, Place]
    folders: tuple[str, ...]
    hidden: tuple[str, ...]
    root: Path
    repeated: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the files."""
        return tuple(self.files)

    def read(self, name: str) -> bytes:
        """Content of a file.

        Raises:
            ImageError: The tar ends before it.
        """
        place = self.files[name]
        with open_plain(self.root) as file:
            file.seek(place.offset)
            data = file.read(place.size)
        if len(data) < place.size:
            raise ImageError(f"cut short: {len(data)} of {place.size} bytes")
        return data

    def open(self, name: str) -> IO[bytes]:
        """A file in memory."""
        return io.BytesIO(self.read(name))

    def path(self, name: str) -> Path:
        """The tar."""
        return self.root

    def check(self, names: Collection[str]) -> None:
        """Every file can be read: none is compressed."""


def is_tar(root: Path) -> bool:
    """Whether a file is a tar, by its name."""
    return root.is_file() and root.name.lower().endswith(_NAMES)


@contextmanager
def open_tar(root: Path) -> Iterator[tuple[dict[str, Place], list[str]]]:
    """The places of the files of a tar by name, and the names of its folders.

    Raises:
        ShardError: It is compressed or damaged, or images in it are links or have holes.
    """
    with root.open("rb") as file:
        if kind := _COMPRESSED.get(file.read(2)):
            raise ShardError(
                f"{root}: is a tar compressed by {kind}, in which no file can be found without "
                "unpacking all before it; unpack it (tar xf) and pack the folder, or a plain .tar"
            )
        file.seek(0)
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                members = archive.getmembers()
        except (tarfile.TarError, OSError, ValueError, EOFError) as error:
            raise ShardError(
                f"{root}: is a damaged or incomplete tar ({error}); copy or download it again"
            ) from error
    odd = [m.name for m in members if not (m.isdir() or (m.isreg() and not m.issparse()))]
    if lost := [name for name in odd if name.lower().endswith(SUFFIXES)]:
        raise ShardError(
            f"{root}: {counted(len(lost), 'image in it is', 'images in it are')} links, devices "
            f"or files with holes, such as {lost[0]}, which are not followed; make the tar again "
            "(tar chf)"
        )
    plain = [m for m in members if m.isreg() and not m.issparse()]
    twice = len(plain) - len({m.name for m in plain})
    if twice:
        raise ShardError(
            f"{root}: {counted(twice, 'of its files has', 'of its files have')} the name of "
            "another; make it again with every name once"
        )
    yield (
        {m.name: Place(m.offset_data, m.size) for m in plain},
        [m.name for m in members if m.isdir()],
    )
