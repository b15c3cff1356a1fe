"""The processes of one run, and the device each works on.

The launcher that started the processes has numbered them (`processes`); else a run is one process.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import platform
import re
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from deeplense_batch.core.processes import (
    is_main,
    local_rank,
    local_size,
    meeting_place,
    rank,
    world_size,
)

__all__ = [
    "DeviceError",
    "World",
    "device_of",
    "end_connected",
    "nvidia_smi",
    "open_world",
    "processor",
]

_TIMEOUT = timedelta(minutes=10)  # a rank that waits longer waits for one that is dead
_MIG = re.compile(r"MIG-[\w/-]+")
_GPU = re.compile(r"(\d+):.*?\(UUID: (GPU-[\w-]+)\)(.*)", re.DOTALL)  # of `nvidia-smi -L`
_LONGEST = timedelta(days=30)  # of any run


class DeviceError(RuntimeError):
    """This machine lacks the device that was asked for."""

    exit_code = 4


@dataclass(frozen=True)
class World:
    """This process among those of its run."""

    rank: int
    size: int
    device: torch.device

    @property
    def main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def wrap(self, model: nn.Module, *, sync_bn: bool = False) -> nn.Module:
        """Average gradients over the processes, where there are several.

        With `sync_bn` the statistics of batch norms are those of the global batch; GPUs only.
        """
        if self.size == 1:
            return model
        if sync_bn and self.device.type == "cuda":
            from timm.layers import convert_sync_batchnorm  # keeps the activations inside norms

            model = convert_sync_batchnorm(model)
        on = [self.device.index] if self.device.type == "cuda" else None
        # Buffers are shared where a network is evaluated; in each pass they would cost messages.
        return DistributedDataParallel(
            model, device_ids=on, broadcast_buffers=False, gradient_as_bucket_view=True
        )

    def all_reduce_max(self, value: int) -> int:
        """Agree on the largest of every process's value."""
        if self.size == 1:
            return value
        shared = torch.tensor(value, device=self.device)
        dist.all_reduce(shared, dist.ReduceOp.MAX)
        return int(shared)

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """Sum a tensor over the processes."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def barrier(self) -> None:
        """Wait for every process."""
        if self.size > 1:
            dist.barrier()

    def broadcast_buffers(self, model: nn.Module) -> None:
        """Give every process the buffers (batch-norm statistics) of the first."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def gather(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]] | None:
        """Put the rows of every process together on the first; None on the others."""
        if self.size == 1:
            return dict(arrays)
        parts: list[Any] | None = [None] * self.size if self.main else None
        dist.gather_object(dict(arrays), parts)
        if parts is None:
            return None
        return {name: np.concatenate([part[name] for part in parts]) for name in arrays}

    def broadcast(self, value: Any) -> Any:
        """Give every process the first one's value."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box)
        return box[0]

    def all_gather(self, value: Any) -> list[Any]:
        """Give every process the values of all, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def describe(self) -> dict[str, Any]:
        """Say what hardware a number was made on."""
        if self.device.type == "cuda":
            name = torch.cuda.get_device_name(self.device)
        else:
            threads = torch.get_num_threads()
            name = f"{processor()}, {threads} thread{'s' if threads > 1 else ''}"
        return {
            "name": name,
            "type": self.device.type,
            "count": self.size,
            "host": platform.node(),
        }


@contextlib.contextmanager
def open_world(*, gpus: int, device: str | None = None) -> Iterator[World]:
    """Join the processes of this run.

    Arguments:
        gpus: GPUs the job asks for; 0 is a run on the CPU.
        device: ``cpu`` or ``cuda``, in place of what the job asks for.

    Raises:
        DeviceError: A GPU was asked for, and this process, or another of the run, has none.
    """
    size = world_size()
    kind = device or ("cuda" if gpus else "cpu")
    if size == 1:
        yield World(0, 1, device_of(kind))
        return
    store = _meet(size)
    chosen = _agree_on_devices(store, kind, size)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)  # by which NCCL sends objects: else all are on the first
    dist.init_process_group(
        "nccl" if kind == "cuda" else "gloo",
        store=store, rank=rank(), world_size=size, timeout=_TIMEOUT,
        device_id=chosen if chosen.type == "cuda" else None,
    )  # fmt: skip
    try:
        yield World(rank(), size, chosen)
        if (
            not is_main()
        ):  # NCCL wants all to leave together, and the first works on alone for long
            with contextlib.suppress(dist.DistNetworkError):  # it has left, and the store with it
                store.wait(["over"], _LONGEST)
    finally:
        if is_main():
            store.set("over", "")
        # Of a process that failed NCCL would wait for the others, of which one may be dead.
        if sys.exc_info()[0] is None or chosen.type == "cpu":
            dist.destroy_process_group()


def end_connected(code: int, bug: Exception | None = None) -> None:
    """End this process at once where NCCL still connects it to others, since it has failed.

    At the end of Python NCCL would wait for them. What was written is kept.

    Arguments:
        code: The exit code.
        bug: What to print with its traceback.
    """
    if dist.is_available() and dist.is_initialized() and dist.get_backend() == "nccl":
        if bug is not None:
            traceback.print_exception(bug)
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _meet(size: int) -> dist.Store:
    """The store by which the processes of a run find each other.

    Raises:
        DeviceError: The first process is not reached.
    """
    host, port = meeting_place()
    agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # torchrun has one open
    tries = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    try:
        is_master = is_main() and not agent
        store = dist.TCPStore(host, port, size, is_master=is_master, timeout=_TIMEOUT)
    except (RuntimeError, ValueError) as error:  # a port that is taken, a host that is not found
        reason = " ".join(str(error).split("\n")[0].split())
        raise DeviceError(
            f"{platform.node()}: process {rank()} of {size} cannot meet the others at "
            f"MASTER_ADDR={host}, MASTER_PORT={port} ({reason})"
        ) from error
    return dist.PrefixStore(f"try {tries}", store)


def _agree_on_devices(store: dist.Store, kind: str, size: int) -> torch.device:
    """The device of this process, once every process has one.

    All end alike where one has none: the others would wait for it until they are killed.

    Raises:
        DeviceError: This process, or another, has none.
    """
    device, fault = None, ""
    try:
        device = device_of(kind)
    except DeviceError as error:
        fault = str(error)
    _end_alike(store, "lacking", fault, size)
    assert device is not None
    if device.type == "cuda":
        name = _unique_name(device)
        store.set(f"device/{rank()}", name)
        others = [store.get(f"device/{i}").decode() for i in range(rank())]
        if name in others:
            both = f"processes {others.index(name)} and {rank()} of {size}"
            fault = f"{name}: {both} have this one GPU; ask for no more resources.gpus than exist"
        _end_alike(store, "shared", fault, size)
    return device


def _end_alike(store: dist.Store, question: str, fault: str, size: int) -> None:
    """End every process where one has a fault, each with all that are found.

    Raises:
        DeviceError: One has.
    """
    store.set(f"{question}/{rank()}", fault)
    faults = [store.get(f"{question}/{i}").decode() for i in range(size)]
    if not any(faults):
        return
    store.set(f"left/{rank()}", "")  # the first one holds the store: it leaves last
    if is_main():
        store.wait([f"left/{i}" for i in range(size)], _TIMEOUT)
    raise DeviceError("; ".join(sorted({text for text in faults if text})))


def device_of(kind: str | None) -> torch.device:
    """The device of this process.

    Arguments:
        kind: ``cpu`` or ``cuda``; by default a GPU where torch sees one.

    Raises:
        DeviceError: There is no GPU, or another kind was asked for.
    """
    if kind == "cpu" or (kind is None and not torch.cuda.is_available()):
        return torch.device("cpu")
    if kind not in ("cuda", None):
        raise DeviceError(f"device: expected cpu or cuda; got {kind!r}")
    mine = local_rank()
    _choose_slice(mine)
    visible = torch.cuda.device_count()
    if not torch.cuda.is_available() or not visible:
        raise DeviceError(
            f"{platform.node()}: a GPU is asked for and torch sees none "
            f"(CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', 'unset')}, "
            f"nvidia-smi -L: {nvidia_smi()}); resources.gpus: 0 or --device cpu run on the CPU"
        )
    # Slurm shows a task either every GPU of the node or its own alone.
    return torch.device("cuda", mine if mine < visible else 0)


def _choose_slice(number: int) -> None:
    """Where GPUs are cut into slices (MIG), have CUDA see the one of this process.

    CUDA shows a process one slice alone, the first, and each has to be named by its UUID.

    Raises:
        DeviceError: There are fewer slices than processes.
    """
    asked = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if local_size() == 1 or torch.cuda.is_initialized():
        return
    named = _MIG.findall(asked)
    if len(named) == 1:  # as Slurm shows a task its own alone
        return
    slices = named or _slices_of(asked)
    if not slices:
        return
    if number >= len(slices):
        raise DeviceError(
            f"{platform.node()}: process {number} of this node has no GPU: there are "
            f"{len(slices)} slices (MIG) for {local_size()} processes"
        )
    os.environ["CUDA_VISIBLE_DEVICES"] = slices[number]


def _slices_of(visible: str) -> list[str]:
    """UUIDs of the slices of the visible GPUs, by their numbers or UUIDs; none if one is whole."""
    listed = [_GPU.match(part) for part in nvidia_smi().split("GPU ")]
    names = [name for name in visible.split(",") if name]
    mine = [gpu for gpu in listed if gpu and (not names or {gpu[1], gpu[2]} & {*names})]
    cut = [_MIG.findall(gpu[3]) for gpu in mine]
    return [*itertools.chain(*cut)] if all(cut) else []


def _unique_name(device: torch.device) -> str:
    """Node and UUID of a GPU, or of its slice."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    slice_ = _MIG.findall(visible)
    uuid = slice_[0] if slice_ else f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    return f"{platform.node()}: {uuid}"


def nvidia_smi() -> str:
    """The GPUs that the driver lists, in a line; or why it lists none."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"cannot be run ({type(error).__name__})"
    return " ".join((done.stdout or done.stderr).split()) or "says nothing"


def processor() -> str:
    """Name of the processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
