"""What a process inherits of its surroundings, put right before the libraries look at it."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

__all__ = ["private_caches", "settle"]

_CACHES = {  # of compiled code and of fonts, by the variable that names the folder
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "NUMBA_CACHE_DIR": "numba",
    "MPLCONFIGDIR": "matplotlib",
}


def settle() -> None:
    """Draw without a screen or a notebook, and keep compiled code where nobody else can write.

    A notebook hands its programs MPLBACKEND, the name of a module that they may not have; figures
    here are files. What is compiled is run again later: a folder of a known name below /tmp could
    be somebody else's. A folder that the user has named is left to him.
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
