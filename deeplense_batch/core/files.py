"""Files that are whole or not there, on whatever file system they lie.

Buckets mounted by FUSE, NFS, SMB and FAT lack some of what a local disk has: hard links, syncing
of a folder, renaming of a folder. What is used instead keeps the promise: a file that only one
process may make is made by one, and nobody ever reads half a file.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = [
    "create",
    "digest",
    "exclusively",
    "is_gone",
    "link",
    "move_folder",
    "no_file",
    "replace",
    "sweep",
    "sweep_beside",
    "sync",
    "sync_folder",
    "temporary_name",
    "unsupported",
]

_STALE_SECONDS = 60.0  # a lock is held for a moment: the holder of an older one was killed
_POLL_SECONDS = 0.02
_UNSUPPORTED = {
    getattr(errno, name)
    for name in ("ENOSYS", "ENOTSUP", "EOPNOTSUPP", "EINVAL", "EPERM", "EACCES", "EBADF", "ENOTTY")
}


def unsupported(error: OSError) -> bool:
    """Whether an error says that a file system cannot do a thing at all, not that it failed."""
    return error.errno in _UNSUPPORTED


def no_file(path: Path) -> str:
    """Say what is at a path instead of a file; empty for a file, and where there is nothing.

    Ask before opening: to open a pipe would take for ever.

    Raises:
        OSError: The disk does not say.
    """
    try:
        return "" if stat.S_ISREG(path.stat().st_mode) else "is no file"
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ELOOP):
            raise
        return "is a link to nothing" if path.is_symlink() else ""


def is_gone(pid: int) -> bool:
    """Whether no process of this host has a number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        return False
    return False


def temporary_name(path: Path) -> Path:
    """A name beside a file that no other process uses: two containers may have one pid.

    What processes that were killed left under such a name is removed.
    """
    sweep_beside(path)
    return path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")


def replace(path: Path, text: str) -> None:
    """Write a text file, whole or not at all, in place of what is there.

    Raises:
        OSError: It cannot be written; what was there is still there.
    """
    while True:
        temporary = _written(path, text)
        try:
            temporary.replace(path)
            return
        except FileNotFoundError:  # whoever owns the folder has swept it meanwhile
            if not path.parent.is_dir():
                raise
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def create(path: Path, text: str) -> bool:
    """Make a text file that must not exist; it appears whole, and for one process only.

    Returns:
        Whether this process made it.
    """
    while True:
        temporary = _written(path, text)
        try:
            return link(temporary, path)
        except FileNotFoundError:  # whoever owns the folder has swept it meanwhile
            if not path.parent.is_dir():
                raise
        finally:
            temporary.unlink(missing_ok=True)


def link(temporary: Path, path: Path) -> bool:
    """Give a complete file its name, unless there is a file of that name.

    A hard link does that in one go. Without hard links the file is renamed by whoever holds a lock
    beside it, which only one process can make.

    Returns:
        Whether it has the name now.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        return temporary.stat().st_nlink > 1  # NFS asks twice if an answer is lost: it was ours
    except OSError as error:
        if not unsupported(error):
            raise
        with exclusively(path.with_name(f".{path.name}.lock")):
            if os.path.lexists(path):
                return False
            temporary.replace(path)
    return True


@contextlib.contextmanager
def exclusively(lock: Path) -> Iterator[None]:
    """Hold a lock for a moment; others wait.

    The lock of a process that was killed is broken by who has seen it unchanged for a minute, by
    its own clock: that of a file server may be another.
    """
    mine = f"{socket.gethostname()} {os.getpid()} {time.time_ns()}"
    seen, since = "", time.monotonic()
    while not _made(lock, mine):
        holder = _content(lock)
        if holder != seen:
            seen, since = holder, time.monotonic()
        elif time.monotonic() - since > _STALE_SECONDS:
            lock.unlink(missing_ok=True)
        time.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        if _content(lock) == mine:
            lock.unlink(missing_ok=True)


def sweep(folder: Path, *, below: bool = False) -> None:
    """Remove what writers that were killed left in a folder.

    Arguments:
        folder: Where nobody else writes.
        below: Also in the folders in it, which are then the caller's alone too.
    """
    for path in [*(folder.rglob if below else folder.glob)(".*.tmp*")]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def sweep_beside(path: Path) -> None:
    """Remove what killed processes of this host left of a file under temporary names."""
    start = f".{path.name}.{socket.gethostname()}."
    with contextlib.suppress(OSError):
        for left in path.parent.iterdir():
            pid = left.name.removeprefix(start).removesuffix(".tmp")
            if left.name == f"{start}{pid}.tmp" and pid.isdecimal() and is_gone(int(pid)):
                left.unlink(missing_ok=True)


def sync(descriptor: int) -> None:
    """Have the disk hold a file, where the file system can promise that."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not unsupported(error):
            raise


def sync_folder(folder: Path) -> None:
    """Have the disk hold the names in a folder, where the file system can promise that."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        if unsupported(error) or error.errno == errno.EISDIR:
            return
        raise
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def move_folder(folder: Path, to: Path) -> None:
    """Rename a folder; where that cannot be, as in a bucket, its files are copied and removed."""
    try:
        folder.rename(to)
    except OSError as error:
        if not (unsupported(error) or error.errno in (errno.EXDEV, errno.EMFILE, errno.EIO)):
            raise
        shutil.copytree(folder, to, symlinks=True)
        shutil.rmtree(folder)


def _written(path: Path, text: str) -> Path:
    temporary = temporary_name(path)
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            sync(file.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _made(lock: Path, mine: str) -> bool:
    try:
        descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as file:
        file.write(mine)
    return True


def _content(lock: Path) -> str:
    try:
        return lock.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


@functools.lru_cache(maxsize=64)
def digest(path: Path, *unchanged: int) -> str:
    """The sha256 of a file, read once for each value of `unchanged`, such as its time and size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
