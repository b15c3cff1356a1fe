"""What a recipe leaves to the machine, and what the machine made of it.

The number of processes, smaller micro-batches after an out-of-memory, the precision that `auto`
became, the kind of device, compilation and CUDA graphs are not part of a run's identity, though
they may change its result. `metrics.json` records them under ``resolved``; where they change a
result by more than rounding, a note says so beside the score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import nn

from deeplense_batch.core.distributed import World
from deeplense_batch.core.job import Job
from deeplense_batch.training.step import Stepper

__all__ = ["of_pieces", "resolved"]


def resolved(job: Job, world: World, stepper: Stepper, attempts: Sequence[int]) -> dict[str, Any]:
    """What this machine made of the recipe.

    Arguments:
        job: The recipe.
        world: The processes.
        stepper: As it was when the training ended.
        attempts: Processes of each attempt at the run.
    """
    whole, _ = _at_once(job, stepper.micro_batch, world.size)
    return {
        "processes": sorted({*attempts, world.size}),
        "batch_at_once": whole,  # images that go through the network together on a process
        "synced_batch_norm": _synced(job, world),
        "amp": stepper.precision.name,
        "device": world.device.type,
        "compile": stepper.compiled,
        "graph": stepper.graph,
    }


def of_pieces(job: Job, world: World, stepper: Stepper) -> str | None:
    """Say where the result depends on how a batch was split, which the run's name does not show.

    None where every image goes through the network alone, or where the recipe by itself, on one
    process, makes the same pieces.
    """
    at_once, pieces = _at_once(job, stepper.micro_batch, world.size)
    asked, asked_pieces = _at_once(job, job.train.micro_batch, 1)
    parts = _dependent(stepper.model, job)
    whole = pieces == asked_pieces == 1 or at_once * world.size == asked
    if _synced(job, world) and "batch norm" in parts and whole:
        parts.remove("batch norm")
    if at_once == asked or not parts:
        return None
    cause = f"{world.size} processes" if world.size > 1 else "micro-batches halved"
    remedy = (
        ""
        if "batch norm" not in parts
        else "; on GPUs train.sync_bn: true makes it work on the whole batch"
    )
    return (
        f"{' and '.join(parts)} worked on {at_once} images of a batch at a time instead of "
        f"{asked} ({cause}), which changes the weights and is not part of the run's name{remedy}"
    )


def _at_once(job: Job, micro_batch: int | None, processes: int) -> tuple[int, int]:
    """Images of a piece of a full batch, and the pieces of a process's share (`step`)."""
    share = math.ceil(job.train.batch_size / processes)
    pieces = math.ceil(share / (micro_batch or share))
    return math.ceil(share / pieces), pieces


def _synced(job: Job, world: World) -> bool:
    return job.train.sync_bn and world.device.type == "cuda" and world.size > 1


def _dependent(model: nn.Module, job: Job) -> list[str]:
    """What depends on the pieces of a batch: it works on a piece as a whole, or draws for each."""
    parts = []
    trained = [module for module in model.modules() if _is_trained(module)]
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in trained):
        parts.append("batch norm")
    drawn = [getattr(m, "p", None) or getattr(m, "drop_prob", None) or 0.0 for m in trained]
    if any(isinstance(rate, float) and rate > 0 for rate in drawn):
        parts.append("dropout")
    if job.task.name == "generation":
        parts.append("the noise of diffusion")
    if (adaptation := job.task.adaptation) is not None and adaptation.by != "dann":
        parts.append(f"the {adaptation.by} of adaptation")
    return parts


def _is_trained(module: nn.Module) -> bool:
    """Whether a module's own parameters learn; those of frozen parts keep their statistics."""
    own = list(module.parameters(recurse=False))
    return not own or any(parameter.requires_grad for parameter in own)
