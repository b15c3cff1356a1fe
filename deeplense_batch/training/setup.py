"""The task and the network of a job, for its data."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from deeplense_batch import models
from deeplense_batch.core.job import Job
from deeplense_batch.data.shards import SplitInfo
from deeplense_batch.tasks import build_task
from deeplense_batch.tasks.task import Frame, Task

__all__ = ["frame_of", "gflops_of", "model_of", "task_of"]


def frame_of(job: Job, info: SplitInfo) -> Frame:
    """The images of a job as its network sees them."""
    kept = job.data.crop or info.shape[1]
    size = job.data.size or kept
    return Frame(info.shape[0], size, info.pixel_scale * kept / size)


def task_of(job: Job, info: SplitInfo) -> Task:
    """What a job learns.

    Raises:
        ValueError: The task cannot be had with those options or data.
    """
    return build_task(
        job.task.name, classes=info.classes, frame=frame_of(job, info), **job.task.options
    )


def model_of(
    job: Job, info: SplitInfo, task: Task, *, pretrained: bool | None = None
) -> nn.Module:
    """The network of a job, on the CPU, with the weights it starts from.

    Arguments:
        job: Names it.
        info: The data.
        task: What it learns.
        pretrained: In place of what the job says.

    Raises:
        ModelError: Unknown name or option, or a size the model cannot take.
        WeightsError: Pretrained weights were asked for and cannot be had.
    """
    frame = frame_of(job, info)
    return models.build(
        job.model.name,
        channels=frame.channels,
        classes=task.spec.num_outputs,
        size=frame.size,
        pretrained=job.model.pretrained if pretrained is None else pretrained,
        adapt=job.model.adapt,
        **job.model.options,
    )


def gflops_of(model: nn.Module, frame: Frame) -> float:
    """Count the floating-point operations of a forward pass of one image, in 1e9.

    A multiplication and an addition are two; only products of matrices and convolutions count.
    """
    device, training = next(model.parameters()).device, model.training
    model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, frame.channels, frame.size, frame.size, device=device))
    model.train(training)
    return counter.get_total_flops() / 1e9
