"""What a result must carry with it: versions, commit, memory."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

import deeplense_batch

__all__ = ["commit", "cores", "host_memory_gb", "versions"]


def versions() -> dict[str, str]:
    """Versions of everything that a number may depend on."""
    names = ("torch", "torchvision", "timm", "numpy", "scikit-learn", "h5py")
    found = {name: importlib.metadata.version(name) for name in names}
    return {
        "deeplense_batch": deeplense_batch.__version__,
        "python": platform.python_version(),
    } | found


def commit() -> str | None:
    """Commit of the code, with ``+dirty`` where it was edited; None where it is not in git."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=12", "--dirty=+dirty"]
    tracked = ["git", "-C", str(folder), "ls-files", "--error-unmatch", Path(__file__).name]
    try:
        if subprocess.run(tracked, capture_output=True, timeout=20).returncode:
            return None  # installed below somebody else's repository
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))  # what SLURM gave to this job, not the whole machine
    return os.cpu_count() or 1


def host_memory_gb() -> float:
    """Largest resident set of this process so far, GB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9
