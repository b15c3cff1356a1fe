"""What a result must carry with it: versions, commit, memory."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import deeplense_batch

__all__ = ["SHARED", "Energy", "commit", "host_memory_gb", "versions"]

SHARED = "DEEPLENSE_SHARED_GPU"  # set where runs share a GPU: its energy is nobody's own


def versions() -> dict[str, str]:
    """Versions of everything that a number may depend on."""
    names = ("torch", "torchvision", "timm", "numpy", "scikit-learn", "h5py")
    known = {name: importlib.metadata.version(name) for name in names}
    torch = sys.modules.get("torch")  # where it is not loaded, nothing ran on a GPU
    if torch is not None and torch.cuda.is_available():
        known |= {"cuda": torch.version.cuda, "cudnn": str(torch.backends.cudnn.version())}
        if nvml := _nvml():
            known["driver"] = str(nvml.nvmlSystemGetDriverVersion())
    return {
        "deeplense_batch": deeplense_batch.__version__,
        "python": platform.python_version(),
    } | known


def commit() -> str | None:
    """Commit of the code, with ``+dirty`` where it was edited; None where it is unknown.

    Code that is not in git, as in a container, has the one that it was built from.
    """
    built = os.environ.get("DEEPLENSE_COMMIT") or None
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=12", "--dirty=+dirty"]
    tracked = ["git", "-C", str(folder), "ls-files", "--error-unmatch", Path(__file__).name]
    try:
        if subprocess.run(tracked, capture_output=True, timeout=20).returncode:
            return built  # installed below another repository
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return built
    return done.stdout.strip()


class Energy:
    """Energy that this process's GPU has used since this was made, where NVML tells it."""

    def __init__(self, index: int | None) -> None:
        shared = os.environ.get(SHARED)
        self._nvml = None if index is None or shared else _nvml()
        if self._nvml:
            import torch

            # NVML numbers all GPUs of the machine, torch those it may see; the UUID is shared.
            self._uuid = f"GPU-{torch.cuda.get_device_properties(index).uuid}"
        self._before = self._total()

    def joules(self) -> float | None:
        """Joules so far; None without a GPU that tells, or nvidia-ml-py (extra ``gpu``)."""
        now = self._total()
        return None if now is None or self._before is None else now - self._before

    def _total(self) -> float | None:
        if not self._nvml:
            return None
        try:  # GPUs before Volta do not tell, nor do parts of one
            handle = self._nvml.nvmlDeviceGetHandleByUUID(self._uuid)
            return self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
        except self._nvml.NVMLError:
            return None


def _nvml() -> Any:
    """NVML, started; None where its package or the driver is missing."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # ModuleNotFoundError, or an error of NVML's own
        return None
    return pynvml


def host_memory_gb() -> float:
    """Largest resident set of this process so far, GB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9
