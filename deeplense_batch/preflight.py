"""Whether the node that a run has landed on can carry it out: looked at in well under a second.

What is wrong here may be right on another node, so that a run that ends so is worth another try
(exit 4); the message names the node, to be excluded.
"""

from __future__ import annotations

import platform
import shutil
import tempfile
from pathlib import Path

import torch
from torch import nn

from deeplense_batch.checks import open_slices
from deeplense_batch.data.shards import ShardError
from deeplense_batch.distributed import World
from deeplense_batch.job import Job

__all__ = ["UnfitError", "cannot_compile", "check_room", "preflight"]

# Of the weights: three checkpoints of weights and two moments (the newest, the one before and the
# one being written), and the best weights.
_COPIES = 10


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
        whole = int(world.total(torch.ones((), device=world.device))) == world.size
        told = world.everyone(f"{node}: {lacking}" if lacking else "")
    except RuntimeError as error:
        raise UnfitError(f"{node}: the processes do not reach each other ({error})") from error
    if not whole:
        raise UnfitError(f"{node}: a sum over {world.size} processes is wrong")
    if unfit := sorted(set(told) - {""}):
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


def check_room(directory: Path, model: nn.Module) -> None:
    """Make sure that the checkpoints of a model will have room in its run directory.

    Raises:
        UnfitError: They will not.
    """
    weights = sum(value.nbytes for value in model.state_dict().values())
    held = sum(path.stat().st_size for path in directory.glob("*.pt") if path.is_file())
    free = shutil.disk_usage(directory).free
    if free + held < _COPIES * weights:
        raise UnfitError(
            f"{platform.node()}: {directory}: {free / 1e9:.2f} GB are free, the checkpoints may "
            f"take {(_COPIES * weights - held) / 1e9:.2f}"
        )


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
        open_slices(job)
    except ShardError as error:
        return str(error)
    return ""
