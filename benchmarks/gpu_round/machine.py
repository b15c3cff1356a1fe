"""What a launch costs the host, what the card is doing, and what one card cannot tell."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import torch

from benchmarks.gpu_round.record import NotTested, Round
from deeplense_batch.runs.preflight import examine

__all__ = ["doctor", "machine"]

_ONE_CARD_CANNOT_TELL = (
    "values and speed of several GPUs",
    "hangs of NCCL when a process dies",
    "slices of a GPU (MIG)",
    "cards without bf16",
)
_LAUNCHES = 500  # fewer than a GPU's queue holds, so that the host never waits


def machine(round_: Round) -> None:
    """Tell what everything else was measured on."""
    launches = [_launch_seconds(round_.torch_device) * 1e6 for _ in range(round_.sized(7, 2))]
    round_.number("host's time for a launch", launches, "us")
    if round_.cuda:
        _card(round_)
    for what in _ONE_CARD_CANNOT_TELL:
        round_.check(what, _not_on_one_card)


def _launch_seconds(device: torch.device) -> float:
    """Seconds in which the host starts the smallest work; it does not wait for its end."""
    value = torch.zeros(1, device=device)
    for _ in range(20):
        value.add_(1)
    value.item()  # until the queue is empty
    started = time.perf_counter()
    for _ in range(_LAUNCHES):
        value.add_(1)
    seconds = (time.perf_counter() - started) / _LAUNCHES
    value.item()
    return seconds


def _card(round_: Round) -> None:
    """Clocks and limits before any work; memory; libraries of the card."""
    properties = torch.cuda.get_device_properties(0)
    round_.number("memory of the card", properties.total_memory / 1e9, "GB")
    asked = "clocks.sm,clocks.mem,power.draw,power.limit,temperature.gpu"
    answer = subprocess.run(
        ["nvidia-smi", f"--query-gpu={asked}", "--format=csv"], capture_output=True, text=True
    )
    round_.tell("nvidia-smi", lines=answer.stdout.strip().splitlines())
    round_.tell("library", name="NCCL", version=".".join(map(str, torch.cuda.nccl.version())))


def _not_on_one_card() -> None:
    raise NotTested("not to be had on one GPU")


def doctor(round_: Round) -> None:
    """What `doctor` finds."""
    for finding in examine(Path.cwd()):
        round_.tell("doctor", name=finding.what, found=finding.state, fit=finding.fit)
