"""What a finished run has learnt: its network with the best weights, and how images reach it.

The data it was trained on need not be there any more.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from deeplense_batch.core.job import Evaluation, Job, JobError, nearest
from deeplense_batch.core.recipe import load_jobs
from deeplense_batch.core.result import Metrics, read_metrics
from deeplense_batch.core.rundir import RunDir
from deeplense_batch.data.pixels.transform import Transform
from deeplense_batch.data.shards import ShardError, Split, SplitInfo, data_digest, open_split
from deeplense_batch.models import WeightsError, checkpoint
from deeplense_batch.tasks.classification import logits_of
from deeplense_batch.tasks.task import Task
from deeplense_batch.training.setup import model_of, task_of
from deeplense_batch.training.trainer import BEST

__all__ = ["Logits", "Trained", "TrainedError", "open_trained"]


class TrainedError(JobError):
    """A run cannot be used for this."""


@dataclass(frozen=True)
class Trained:
    """A finished run."""

    run: RunDir
    job: Job
    task: Task
    model: nn.Module  # with the best weights, on the CPU, for evaluation
    transform: Transform
    shape: tuple[int, int, int]  # C, H, W of the images that it takes, before cropping
    pixel_scale: float  # arcsec, NaN where unknown
    epoch: int  # of the best weights
    metrics: Metrics
    bands: tuple[str, ...] = ()  # of the channels; none where they are unknown

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the network's outputs."""
        return self.task.classes

    @property
    def classifies(self) -> bool:
        """Whether it tells classes apart."""
        return self.task.spec.classifies

    @property
    def about_channels(self) -> str:
        """Which bands the channels are, as the end of a sentence; empty where it is unknown."""
        if len(self.bands) == 1:
            return f", whose channel is the band {self.bands[0]}"
        return f", whose channels are the bands {', '.join(self.bands)}" if self.bands else ""

    def check_class(self, name: str) -> None:
        """Make sure that the run tells classes apart and, where one is named, knows it.

        Raises:
            TrainedError: It does not.
        """
        if not self.classifies:
            raise TrainedError(
                f"{self.run.path}: its task, {self.job.task.name}, tells no classes apart"
            )
        if name and name not in self.classes:
            raise TrainedError(f"--of: there is no class '{name}'; {nearest(name, self.classes)}")

    @property
    def digest(self) -> str:
        """Of the data it was trained on."""
        return str(self.metrics["data"]["digest"])

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """C, H, W of what the network itself sees."""
        channels, height, width = self.shape
        if size := self.job.data.size or self.job.data.crop:
            return channels, size, size
        return channels, height, width

    @property
    def field(self) -> int:
        """Width of what the network sees, in pixels of the data."""
        return self.job.data.crop or self.shape[1]

    @property
    def input_pixel_scale(self) -> float:
        """Width of a pixel of what the network itself sees, arcsec; NaN where unknown."""
        return self.pixel_scale * self.field / self.input_shape[1]

    @cached_property
    def weights(self) -> str:
        """Names the best weights: 16 hex digits."""
        return hashlib.sha256((self.run.path / BEST).read_bytes()).hexdigest()[:16]

    def slice(self, use: str) -> Split:
        """Open the slice ``train``, ``valid`` or ``test`` of the run's own data.

        Raises:
            ShardError: They are gone, or other data are in their place.
        """
        root = self.job.data.root
        if data_digest(root) != self.digest:
            raise ShardError(f"{root}: holds other data than those of {self.run.name}")
        return open_split(root, getattr(self.job.data, use))


class Logits(nn.Module):
    """A network's logits alone, (B, K), though it may give other fields beside them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images (B, C, H, W)."""
        return logits_of(self.network(images))


def open_trained(path: Path | str) -> Trained:
    """Open a run directory to use what it has learnt.

    Raises:
        TrainedError: It is no run directory, not of a training, not done, or lacks its weights.
        RunDirError, CheckpointError: A file of it is damaged.
    """
    run = RunDir(Path(path))
    if not os.path.lexists(run.path / "job.yaml"):
        raise TrainedError(f"{path}: is no run directory, it has no job.yaml")
    (job,) = load_jobs(run.path / "job.yaml")
    if isinstance(job, Evaluation):
        of = job.evaluate.run
        raise TrainedError(f"{path}: is an evaluation, whose network is that of {of}")
    if not isinstance(job, Job):
        raise TrainedError(f"{path}: simulated images; there is no network in it")
    status = run.status()
    if status.state != "done":
        why = f" ({status.message})" if status.message else ""
        raise TrainedError(
            f"{path}: is {status.state}{why}, not done; 'run {path}' carries it out"
        )
    if not os.path.lexists(run.path / BEST):
        raise TrainedError(f"{path}: has no {BEST}, the weights of its best epoch")
    best, metrics = checkpoint.load(run.path / BEST), read_metrics(run)
    try:
        info = _info(job, best, tuple(metrics["data"]["classes"]), path)
        task = task_of(job, info)
        task.load_state_dict(best["task"])
        model = model_of(job, info, task, pretrained=False)
        model.load_state_dict(best["model"])
        transform = Transform.of(job.data, best)
    except WeightsError:  # of the hub: what network it is was not fetched here
        raise
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise TrainedError(
            f"{path}: {BEST} and metrics.json are not those of its job ({reason})"
        ) from error
    return Trained(
        run, job, task, model.eval(), transform, info.shape, info.pixel_scale, best["epoch"],
        metrics, tuple(best.get("bands", ())),
    )  # fmt: skip


def _info(
    job: Job, best: Mapping[str, Any], classes: tuple[str, ...], path: Path | str
) -> SplitInfo:
    """The training data as far as network and task depend on them; no file of theirs is read."""
    if "shape" not in best:  # weights of an earlier version
        try:
            return open_split(job.data.root, job.data.train).info
        except ShardError as error:
            raise TrainedError(
                f"{path}: its weights do not say what images they are for, and its data cannot "
                f"be read ({error})"
            ) from error
    channels, height, width = best["shape"]
    return SplitInfo(
        name=job.data.train.partition("[")[0],
        files=(), counts=(), shape=(channels, height, width),
        stored=np.dtype(np.float32), dtype=np.dtype(np.float32),
        classes=classes, class_counts=(), mean=(), sd=(),
        pixel_scale=best["pixel_scale"],
        source="", seed=0, digests=(), content="",
    )  # fmt: skip
