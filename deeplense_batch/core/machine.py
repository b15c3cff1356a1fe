"""What a process finds on its machine: cores, memory, and the environment that it inherits."""

from __future__ import annotations

import atexit
import ctypes
import os
import shutil
import tempfile
from pathlib import Path

__all__ = ["cores", "keep_freed_memory", "prepare_environment", "private_caches"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # numbers of M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
_MOST_MMAP = 32 << 20  # the greatest that glibc takes
_MOST_KEPT = 256 << 20
_CACHES = {  # of compiled code and of fonts, by the variable that names the folder
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "NUMBA_CACHE_DIR": "numba",
    "MPLCONFIGDIR": "matplotlib",
}


def cores() -> int:
    """How many processor cores this process may use: what SLURM gave it, not what there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_freed_memory() -> bool:
    """Let this process keep up to 256 MB of what it frees, in blocks of less than 32 MB.

    Glibc's malloc gives every large block back to the system when it is freed, and the system
    hands it out again page by page, each cleared: fields of a MB that live for a millisecond cost
    more in that way than by what is computed on them.

    Returns:
        Whether it does; only glibc is known to need it.

    References:
        mallopt(3).
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library, another system
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _MOST_MMAP) and mallopt(_TRIM_THRESHOLD, _MOST_KEPT))


def prepare_environment() -> None:
    """Draw without a screen or a notebook, and keep compiled code where nobody else can write.

    A notebook hands its programs MPLBACKEND, the name of a module that they may not have; figures
    here are files. What is compiled is run again later: a folder of a known name below /tmp could
    belong to another user. A folder that the user has named is left to him.
    """
    os.environ["MPLBACKEND"] = "agg"
    wanted = {name: folder for name, folder in _CACHES.items() if not os.environ.get(name)}
    if not wanted:
        return
    root = private_caches()
    for name, folder in wanted.items():
        os.environ[name] = str(root / folder)


def private_caches() -> Path:
    """A folder that is this user's alone; where the home cannot be written, one for this process.

    Returns:
        ``deeplense_batch`` in ``$XDG_CACHE_HOME`` or ``~/.cache``, or a new folder of a random
        name, which is removed when the process ends. Its mode is 0700.
    """
    home = os.environ.get("XDG_CACHE_HOME")
    try:
        root = (Path(home) if home else Path.home() / ".cache") / "deeplense_batch"
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if root.stat().st_uid == os.geteuid():
            root.chmod(0o700)
            private = root.stat().st_mode & 0o777 == 0o700  # not on a file system without modes
            with tempfile.TemporaryFile(dir=root):
                pass
            if private:
                return root
    except (OSError, RuntimeError):  # no home, or one that cannot be written
        pass
    own = tempfile.mkdtemp(prefix="deeplense_batch-")
    atexit.register(_remove, own, os.getpid())
    return Path(own)


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # not a fork of it
        shutil.rmtree(folder, ignore_errors=True)
