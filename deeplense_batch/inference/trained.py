"""What a finished run has learnt: its network with the best weights, and how images reach it.

The data it was trained on need not be there any more.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deeplense_batch.core.job import Evaluation, Job, JobError, nearest
from deeplense_batch.core.recipe import load_jobs
from deeplense_batch.core.result import Metrics, read_metrics
from deeplense_batch.core.rundir import RunDir
from deeplense_batch.core.sections.data import Channels
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.batches.mixture import Mixture
from deeplense_batch.data.job_slices import open_slices
from deeplense_batch.data.mixed_sets import mixed_info, open_training_sets
from deeplense_batch.data.pixels.channels import MEAN, Choice, choose
from deeplense_batch.data.pixels.transform import Transform
from deeplense_batch.data.shards import ShardError, Split, SplitInfo, data_digest, open_split
from deeplense_batch.data.split import Inputs
from deeplense_batch.models import WeightsError, checkpoint
from deeplense_batch.tasks.classification import logits_of
from deeplense_batch.tasks.task import Task
from deeplense_batch.training.images.loaders import task_of
from deeplense_batch.training.setup import model_of
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
    shape: tuple[int, int, int]  # C, H, W of the images that it takes, before cropping; C chosen
    pixel_scale: float  # arcsec, NaN where unknown
    epoch: int  # of the best weights
    metrics: Metrics
    bands: tuple[str, ...] = ()  # of the channels; none where they are unknown
    choice: Choice | None = None  # of the channels of `data.root`; None: all of them
    stored_channels: int | None = None  # of those, where some are chosen
    ratio: int = 1  # of pairs: pixels of an image that it makes along one of its input

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
        if self.bands == (MEAN,):
            return ", whose channel is the mean of the bands"
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
        """C, H, W of images as the network itself sees them, or makes them of its inputs."""
        channels, height, width = self.shape
        if size := self.job.data.size or self.job.data.crop:
            return channels, size, size
        return channels, height, width

    @property
    def given_shape(self) -> tuple[int, int, int]:
        """C, H, W of what the network is given: of a run that restores images, of its inputs."""
        channels, height, width = self.input_shape
        ratio = self.ratio if self.task.spec.given_inputs else 1
        return channels, height // ratio, width // ratio

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
        """Open the slice ``valid`` or ``test``, or ``train`` of a run on one set, as it is seen.

        Raises:
            ShardError: They are gone, or other data are in their place.
            TrainedError: A slice ``train`` of a run that was trained on several sets.
        """
        if use == "train" and self.job.data.roots:
            raise TrainedError(
                f"{self.run.path}: has no slice train, as it was trained on several sets "
                "(data.roots); expected valid or test"
            )
        root = self.job.data.root
        if data_digest(root) != self.digest:
            raise ShardError(f"{root}: holds other data than those of {self.run.name}")
        return open_slices(self.job)[use]

    def training_images(self, transform: Transform, device: torch.device) -> Loader | Mixture:
        """The images that it was trained on, of one set or several.

        Arguments:
            transform: In place of its own.
            device: Where batches are made.

        Raises:
            ShardError: They are gone, or other data are in their place.
        """
        for each in self.job.data.roots:
            if data_digest(each.root) != each.digest:
                raise ShardError(f"{each.root}: holds other data than those of {self.run.name}")
        if not self.job.data.roots:
            return Loader(self.slice("train"), transform=transform, device=device)
        slices = open_slices(self.job)
        sets = open_training_sets(self.job, slices)
        loaders = [Loader(split, transform=transform, device=device) for split in sets]
        return Mixture(loaders, (), mixed_info(self.job.data, sets, slices.values()))

    def fits(self, shape: tuple[int, int, int]) -> bool:
        """Whether the network takes images of a shape (C, H, W), of the channels that it sees.

        Images of another height and width do where they are cropped, or where it has learnt from
        sets of several sizes and all are resized.
        """
        data, sides = self.job.data, shape[1:]
        if shape[0] != self.shape[0]:
            return False
        if data.crop is not None:
            # Truth of pixels is measured from the middle, which a crop must not shift by half one.
            parts = 2 if self.task.spec.fixed_geometry else 1
            return all(side >= data.crop and (side - data.crop) % parts == 0 for side in sides)
        return sides == self.shape[1:] or (data.size is not None and bool(data.roots))

    def choose(self, root: Path | str, stored: int, bands: Sequence[str]) -> Choice | None:
        """Which channels of images it sees: those that the recipe names, by name or number.

        Images whose bands have no names are taken to have those of its own data, if they have as
        many. A set that it was trained on may have channels of its own (`data.roots`).

        Arguments:
            root: Of the images.
            stored: Channels that they have.
            bands: Their names; none where they are unknown.

        Raises:
            ShardError: A channel is not there.
        """
        channels = self._channels_of(root)
        by_name = isinstance(channels, tuple) and any(isinstance(c, str) for c in channels)
        if by_name and not bands and stored == self.stored_channels:
            return self.choice
        try:
            return choose(channels, stored, bands)
        except ShardError as error:
            raise ShardError(f"{root}: {error}") from error

    def as_seen(self, split: Split) -> Split:
        """A slice with the class names of the recipe and the channels that the network sees.

        Raises:
            ShardError: A channel is not there.
        """
        info, root = split.info, split.info.files[0].parent
        choice = self.choose(root, info.shape[0], info.bands)
        seen = info.renamed(self.job.data.classes).with_choice(choice)
        seen = dataclasses.replace(seen, bands=self.stand_for(root, seen.bands))
        return dataclasses.replace(split, info=seen)

    def stand_for(self, root: Path | str, bands: tuple[str, ...]) -> tuple[str, ...]:
        """The bands that it takes the channels of images for.

        A set that was trained on with channels of its own (`data.roots`) stands for the bands of
        the others, whatever its own are called; any other has the bands that it says.

        Arguments:
            root: Of the images.
            bands: Names of the channels that it sees of them; none where they are unknown.
        """
        return bands if self._own_channels(root) is None else self.bands

    def _channels_of(self, root: Path | str) -> Channels:
        own = self._own_channels(root)
        return self.job.data.channels if own is None else own

    def _own_channels(self, root: Path | str) -> Channels:
        """Those that the recipe names for one of the sets alone; None of any other images."""
        own = [each for each in self.job.data.roots if each.channels is not None]
        if own:
            with contextlib.suppress(ShardError):  # images in files are none of these
                digest = data_digest(root)
                return next((each.channels for each in own if each.digest == digest), None)
        return None


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
        metrics, tuple(best.get("bands", ())), *Choice.of(best), info.ratio,
    )  # fmt: skip


def _info(
    job: Job, best: Mapping[str, Any], classes: tuple[str, ...], path: Path | str
) -> SplitInfo:
    """The training data as far as network and task depend on them; no file of theirs is read."""
    if "shape" not in best:  # weights of an earlier version
        try:
            return open_split(job.data.root, job.data.train).info  # before there were roots
        except ShardError as error:
            raise TrainedError(
                f"{path}: its weights do not say what images they are for, and its data cannot "
                f"be read ({error})"
            ) from error
    channels, height, width = best["shape"]
    number = np.dtype(np.float32)
    inputs = None
    if (ratio := best.get("ratio")) is not None:  # of pairs
        given = (channels, height // ratio, width // ratio)
        inputs = Inputs(given, stored=number, dtype=number, mean=(), sd=())
    return SplitInfo(
        name=job.data.train.partition("[")[0],
        files=(), counts=(), shape=(channels, height, width),
        stored=number, dtype=number, inputs=inputs,
        classes=classes, class_counts=(), mean=(), sd=(),
        pixel_scale=best["pixel_scale"],
        source="", seed=0, digests=(), content="",
    )  # fmt: skip
