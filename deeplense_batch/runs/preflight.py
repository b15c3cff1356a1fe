"""Whether this machine can carry out a run: a quick look before each, and `doctor` in detail.

What is wrong here may be right on another node, so that a run that ends so is worth another try
(exit 4); the message names the node, to be excluded.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from deeplense_batch.core import files
from deeplense_batch.core.distributed import World, nvidia_smi
from deeplense_batch.core.job import Job
from deeplense_batch.core.machine import cores
from deeplense_batch.data.job_slices import open_slices
from deeplense_batch.data.mixed_sets import open_curriculum, open_training_sets
from deeplense_batch.data.shards import ShardError, read_splits

__all__ = ["Finding", "UnfitError", "cannot_compile", "check_room", "examine", "preflight"]

_CHECKPOINTS = 3  # the newest, the one before, and the one that is being written
_LEAST_FREE_GB = 5.0


class UnfitError(RuntimeError):
    """This node cannot carry out the run; another may."""

    exit_code = 4


def preflight(directory: Path, job: Job, world: World) -> None:
    """Look at device, run directory and shards on every process, and let the processes meet.

    Arguments:
        directory: Of the run.
        job: Names the data.
        world: The processes of the run.

    Raises:
        UnfitError: On every process; it names each node that is unfit.
    """
    node = platform.node()
    lacking = _device(world.device) or _directory(directory) or _shards(job)
    if job.engine.compile and not lacking:
        lacking = cannot_compile(world.device)
    try:
        whole = int(world.all_reduce_sum(torch.ones((), device=world.device))) == world.size
        faults = world.all_gather(f"{node}: {lacking}" if lacking else "")
    except RuntimeError as error:
        raise UnfitError(f"{node}: the processes do not reach each other ({error})") from error
    if not whole:
        raise UnfitError(f"{node}: a sum over {world.size} processes is wrong")
    if unfit := sorted(set(faults) - {""}):
        raise UnfitError("; ".join(unfit))


def cannot_compile(device: torch.device) -> str:
    """Why torch.compile does not work on a device; nothing where it does. It takes seconds."""
    torch.compiler.reset()
    try:
        torch.compile(lambda x: (x.sin() * 2 + 1).sum())(torch.ones(64, device=device))
    except Exception as error:  # of the compiler, of triton, of the linker
        reason = " ".join(str(error).split()) or type(error).__name__
        return (
            f"engine.compile: torch.compile does not work on {device} here ({reason[:160]}); a "
            "C++ compiler has to be in PATH, or leave engine.compile out"
        )
    return ""


def check_room(directory: Path, model: nn.Module, *, averaged: bool) -> None:
    """Make sure that the checkpoints of a model will have room in its run directory.

    Arguments:
        directory: Of the run.
        model: The network.
        averaged: Whether an average of its weights is kept beside them (`train.ema`).

    Raises:
        UnfitError: They will not.
    """
    weights = sum(value.nbytes for value in model.state_dict().values())
    # A checkpoint has the weights, two moments of them, and their average; `best.pt` the weights.
    copies = _CHECKPOINTS * (3 + averaged) + 1
    held = sum(path.stat().st_size for path in directory.glob("*.pt") if path.is_file())
    free = shutil.disk_usage(directory).free
    if free + held < copies * weights:
        raise UnfitError(
            f"{platform.node()}: {directory}: {free / 1e9:.2f} GB are free, the checkpoints may "
            f"take {(copies * weights - held) / 1e9:.2f}"
        )


@dataclass(frozen=True)
class Finding:
    """What `examine` saw of one thing."""

    what: str
    state: str
    fit: bool = True

    def __str__(self) -> str:
        return f"{'ok  ' if self.fit else 'UNFIT'} {self.what}: {self.state}"


def examine(runs: Path, data: Path | None = None) -> list[Finding]:
    """Look at processor, memory, disk, GPUs, libraries and the batch system.

    Arguments:
        runs: Folder of the run directories; it, or the nearest folder above, must be writable.
        data: A folder of shards to open, if any.
    """
    looks: list[Callable[[], Finding]] = [
        _processor,
        _gpus,
        _arithmetic,
        _compiling,
        lambda: _disk(runs),
        _libraries,
        _batch_system,
    ]
    if data is not None:
        looks.append(lambda: _data(data))
    return [look() for look in looks]


def _device(device: torch.device) -> str:
    try:
        a = torch.eye(256, device=device)
        return "" if torch.equal(a @ a, a) else f"{device}: a product of matrices is wrong"
    except RuntimeError as error:
        return f"{device}: cannot be used ({str(error).splitlines()[0]})"


def _directory(directory: Path) -> str:
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"x")
    except OSError as error:
        return f"{directory}: cannot be written ({error.strerror})"
    return ""


def _shards(job: Job) -> str:
    try:
        slices = open_slices(job)
        open_training_sets(job, slices)
        open_curriculum(job, slices)
    except ShardError as error:
        return str(error)
    return ""


def _processor() -> Finding:
    memory = _memory_gb()
    node = f"{cores()} cores of {platform.node()} ({platform.machine()})"
    return Finding("processor", f"{node}, {memory:.1f} GB of memory free", memory > 1)


def _memory_gb() -> float:
    for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024 / 1e9
    return 0.0


def _gpus() -> Finding:
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if names:
        return Finding("GPUs", f"{len(names)}: {', '.join(names)}")
    listed = nvidia_smi()
    if listed.startswith("GPU "):  # the driver has one: a broken installation, a wrong variable
        return Finding("GPUs", f"torch sees none, nvidia-smi lists {listed}", False)
    return Finding("GPUs", "none; runs with resources.gpus: 0 or --device cpu work")


def _arithmetic() -> Finding:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    started = time.perf_counter()
    a = torch.eye(512, device=device)
    right = bool(torch.equal(a @ a, a))
    took = f"512 x 512 product on {device} in {(time.perf_counter() - started) * 1e3:.0f} ms"
    return Finding("arithmetic", took if right else f"a wrong product on {device}", right)


def _disk(runs: Path) -> Finding:
    folder = next(p for p in (runs.absolute(), *runs.absolute().parents) if p.is_dir())
    free = shutil.disk_usage(folder).free / 1e9
    try:
        with tempfile.TemporaryDirectory(dir=folder) as made:
            lacks = _lacking(Path(made))
    except OSError as error:
        return Finding("disk", f"{folder} cannot be written ({error.strerror})", False)
    state = f"{free:.0f} GB free in {folder}"
    if lacks:
        state += f"; it has no {', no '.join(lacks)}: runs work, claims are made without"
    return Finding("disk", state, free > _LEAST_FREE_GB)


def _lacking(folder: Path) -> list[str]:
    """What the file system of a folder cannot do."""
    file, other = folder / "a", folder / "b"
    file.write_text("x")
    tries: dict[str, Callable[[], object]] = {
        "hard links": lambda: os.link(file, other),
        "times of files": lambda: os.utime(file),
        "syncing of folders": lambda: _synced(folder),
        "locks": lambda: _locked(file),
    }
    lacks = []
    for name, attempt in tries.items():
        try:
            attempt()
        except OSError:
            lacks.append(name)
    if not files.create(folder / "c", "x") or files.create(folder / "c", "y"):
        raise OSError(None, "two processes could claim one run there")
    return lacks


def _synced(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _locked(file: Path) -> None:
    with file.open() as opened:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _compiling() -> Finding:
    """Never unfit: only a job with engine.compile needs it."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    fault = cannot_compile(device)
    return Finding("compiling", fault or f"engine.compile works on {device}")


def _libraries() -> Finding:
    names = ("torch", "torchvision", "timm", "submitit", "h5py")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in names]
    return Finding("libraries", ", ".join([f"Python {platform.python_version()}", *versions]))


def _batch_system() -> Finding:
    if not shutil.which("sbatch"):
        return Finding("SLURM", "no sbatch here; --cluster local works")
    done = subprocess.run(["sbatch", "--version"], capture_output=True, text=True, timeout=20)
    return Finding("SLURM", done.stdout.strip() or "sbatch gives no version")


def _data(data: Path) -> Finding:
    try:
        splits = read_splits(data)
    except ShardError as error:
        return Finding("data", str(error), False)
    counts = [f"{name} {len(info)}" for name, info in splits.items()]
    return Finding("data", f"{data}: {', '.join(counts)} samples")
