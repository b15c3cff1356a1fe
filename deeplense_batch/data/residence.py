"""Where the stored images of a slice are kept: on the device, on the host, or in their files."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import torch

from deeplense_batch.processes import local_size

__all__ = ["choose", "free_memory"]

_SHARE = 0.6  # of the free memory that images may take; a network needs the rest
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
# Version 2 and 1 of control groups: folder, limit, use, and the part of it that is only cache.
_UNIFIED = ("", "memory.max", "memory.current", "file")
_LEGACY = ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache")


def choose(asked: str, size: int, device: torch.device) -> str:
    """Say where images are kept.

    Arguments:
        asked: ``device``, ``host``, ``off``, or ``auto`` for what there is room for.
        size: Of the stored images, bytes.
        device: Where batches are wanted.

    Returns:
        ``device``, ``host`` or ``off``.
    """
    if asked != "auto":
        return asked
    if size <= _SHARE * free_memory(device):
        return "device"
    if device.type != "cpu" and size <= _SHARE * free_memory(torch.device("cpu")):
        return "host"
    return "off"


def free_memory(device: torch.device) -> int:
    """Bytes that this process can still take: of a machine, its share among those of its run."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    rooms = [_meminfo("/proc/meminfo", "MemAvailable"), *_cgroup_rooms()]
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        rooms.append(limit - _meminfo("/proc/self/status", "VmSize"))
    return max(min(rooms), 0) // local_size()


def _meminfo(file: str, field: str) -> int:
    lines = dict(line.split(":", 1) for line in Path(file).read_text().splitlines())
    return int(lines[field].split()[0]) * 1024


def _cgroup_rooms() -> Iterator[int]:
    """What each control group around this process has left; SLURM sets its limits there."""
    for line in _OWN_CGROUPS.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, limit, use, cache = _LEGACY if controllers else _UNIFIED
        group = _CGROUPS / root / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(_CGROUPS) and (folder / limit).exists():
                most = (folder / limit).read_text().strip()
                lines = (folder / "memory.stat").read_text().splitlines()
                counts = dict(line.split() for line in lines)
                if most != "max":
                    yield int(most) - int((folder / use).read_text()) + int(counts[cache])
