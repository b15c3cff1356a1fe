"""What may befall a file: each way by its name, for the tests that damage things on purpose."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

__all__ = ["DAMAGES", "damage", "without_rights"]

_NOISE = np.random.default_rng(0).bytes(300)


def remove(path: Path) -> None:
    """Take away a file, a folder or whatever is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _cut(path: Path) -> None:
    content = path.read_bytes() if path.is_file() else b""
    remove(path)
    path.write_bytes(content[: max(len(content) // 2, 1)])


def _overwrite(path: Path) -> None:
    """Some bytes in the middle."""
    content = bytearray(path.read_bytes() if path.is_file() else b"")
    remove(path)
    middle = len(content) // 2
    content[middle : middle + 40] = _NOISE[:40]
    path.write_bytes(content)


def _replaced(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def befall(path: Path) -> None:
        remove(path)
        make(path)

    return befall


DAMAGES: dict[str, Callable[[Path], None]] = {
    "empty": _replaced(Path.touch),
    "cut": _cut,
    "overwritten": _overwrite,
    "noise": _replaced(lambda path: path.write_bytes(_NOISE)),
    "folder": _replaced(Path.mkdir),
    "pipe": _replaced(os.mkfifo),
    "dangling link": _replaced(lambda path: path.symlink_to("nowhere")),
    "removed": remove,
    "unreadable": lambda path: path.chmod(0),  # to whom has no rights: `without_rights`
}


def damage(path: Path, how: str) -> None:
    """Damage a file in one of the ways of `DAMAGES`."""
    DAMAGES[how](path)


@contextlib.contextmanager
def without_rights(root: Path) -> Iterator[None]:
    """Be an ordinary user, who owns all below a folder: root may read everything."""
    if os.geteuid() != 0:
        yield
        return
    nobody = 65534
    for path in (root, *root.rglob("*")):
        os.chown(path, nobody, nobody, follow_symlinks=False)
    os.setegid(nobody)
    os.seteuid(nobody)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
