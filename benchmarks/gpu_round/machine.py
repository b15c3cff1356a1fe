"""The first part: which card and which versions, and what one card cannot tell."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import torch

from benchmarks.gpu_round.record import NotTested, Round
from deeplense_batch.core import provenance
from deeplense_batch.core.machine import cores
from deeplense_batch.runs.preflight import examine

__all__ = ["machine"]

_ONE_CARD_CANNOT_TELL = (
    "values and speed of several GPUs",
    "hangs of NCCL when a process dies",
    "slices of a GPU (MIG)",
    "cards without bf16",
)


def machine(round_: Round) -> None:
    """Tell what everything else was measured on."""
    round_.tell(
        "machine",
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        card=torch.cuda.get_device_name(0) if round_.cuda else "none",
        processor=platform.processor() or platform.machine(),
        cores=cores(),
        commit=provenance.commit(),
        versions=provenance.versions(),
        small=round_.small,
        tf32_override=os.environ.get("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"),
    )
    if round_.cuda:
        _card(round_)
    for finding in examine(Path.cwd()):
        round_.tell("doctor", name=finding.what, found=finding.state, fit=finding.fit)
    for what in _ONE_CARD_CANNOT_TELL:
        round_.check(what, _not_on_one_card)


def _card(round_: Round) -> None:
    """Clocks and limits before any work; memory; libraries of the card."""
    properties = torch.cuda.get_device_properties(0)
    round_.number("memory of the card", properties.total_memory / 1e9, "GB")
    round_.tell("library", name="NCCL", version=".".join(map(str, torch.cuda.nccl.version())))
    asked = "clocks.sm,clocks.mem,power.draw,power.limit,temperature.gpu"
    answer = subprocess.run(
        ["nvidia-smi", f"--query-gpu={asked}", "--format=csv"], capture_output=True, text=True
    )
    round_.tell("nvidia-smi", lines=answer.stdout.strip().splitlines())


def _not_on_one_card() -> None:
    raise NotTested("not to be had on one GPU")
