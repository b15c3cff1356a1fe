"""New images from a finished run of the task generation, as ordinary shards.

An image is a function of the seed and its index, never of who makes it, so that processes and
array elements share a set, and one that was cut off goes on (`data.generate`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeplense_batch.core.distributed import device_of
from deeplense_batch.core.job import nearest
from deeplense_batch.data.batches.room import Room
from deeplense_batch.data.generate import GeneratedBatch, GenerateReport, generate_dataset
from deeplense_batch.data.shards import ShardError
from deeplense_batch.inference.generation.drawer import Drawer
from deeplense_batch.inference.generation.samplers import SAMPLERS, denoise, too_few
from deeplense_batch.inference.trained import Trained, TrainedError, open_trained
from deeplense_batch.tasks.generation import Generation
from deeplense_batch.tasks.task import Unit
from deeplense_batch.training.precision import Precision, scored_in

__all__ = ["sample"]

_log = logging.getLogger(__name__)

_SPLIT = "train"


def sample(
    run: Path | str | Trained,
    out: Path | str,
    *,
    images: int,
    class_: str = "",
    sampler: str = "dpmpp",
    steps: int = 25,
    guidance: float = 1.0,
    seed: int = 0,
    amp: str = "off",
    device: str | torch.device | None = None,
    shard_size: int = 256,
    part: int = 0,
    parts: int = 1,
    on_batch: Callable[[], None] = lambda: None,
) -> GenerateReport:
    """Draw images into a folder of shards, split ``train``; go on with it if it was cut off.

    There are equally many images of each class; without classes they are unlabelled. A network
    that takes Einstein radii gets those of its training set, and they are kept as truth.

    Arguments:
        run: A finished run, or its directory.
        out: Folder of the shards.
        images: How many.
        class_: Of this class alone.
        sampler: One of `samplers.SAMPLERS`.
        steps: Of the sampler.
        guidance: How far to go from what the network draws without its conditions to what it
            draws with them: 1 is with them, more is clearer and less varied (Ho and Salimans
            2022, arXiv:2207.12598).
        seed: Of all noise.
        amp: ``off`` for float32, or ``bf16``, ``fp16`` or ``auto`` as of a training: faster on a
            GPU, and other images.
        device: ``cpu`` or ``cuda``; by default a GPU where there is one.
        shard_size: Images in a shard.
        part: Which part of the shards to make, from 0.
        parts: Into how many parts they are divided.
        on_batch: Called after every batch; what it raises ends the sampling, to go on later.

    Raises:
        TrainedError: The run is not finished, generates no images, or knows no such class.
        ShardError: An argument is not one of those possible, or `out` holds other shards.
        DeviceError: A GPU was asked for and there is none.
        PrecisionError: The device has no such arithmetic.
    """
    trained = run if isinstance(run, Trained) else open_trained(run)
    device = device if isinstance(device, torch.device) else device_of(device)
    task = trained.task
    if not isinstance(task, Generation):
        raise TrainedError(
            f"{trained.run.path}: its task, {trained.job.task.name}, generates no images"
        )
    if task.restoration is not None:
        raise TrainedError(
            f"{trained.run.path}: draws images of inputs, and of none without; 'predict' and "
            "'evaluate' do that with pairs"
        )
    classes = trained.classes if "class" in task.conditions else ()
    _check(trained, classes, images=images, class_=class_, sampler=sampler, steps=steps)
    if warning := too_few(sampler, steps):
        _log.warning("sample: %s", warning)
    precision = Precision(amp, device, setting="--amp")
    generator = _Sampler(
        trained=trained, task=task, classes=classes, only=class_, sampler=sampler, steps=steps,
        guidance=guidance, device=device, precision=precision, room=Room(),
    )  # fmt: skip
    return generate_dataset(
        "sample", generator, "sample", generator.counts(images), Path(out), seed=seed,
        shard_size=shard_size, part=part, parts=parts, on_batch=on_batch,
    )  # fmt: skip


def _check(
    trained: Trained,
    classes: Sequence[str],
    *,
    images: int,
    class_: str,
    sampler: str,
    steps: int,
) -> None:
    """Refuse what cannot be drawn by a network that knows these classes."""
    if class_ and class_ not in classes:
        known = nearest(class_, classes) if classes else "the network takes no classes"
        raise TrainedError(f"--class: there is no class '{class_}'; {known}")
    if sampler not in SAMPLERS:
        raise ShardError(f"sample: sampler: got '{sampler}'; allowed: {', '.join(SAMPLERS)}")
    least = 1 if class_ else max(len(classes), 1)
    if images < least or steps < 1:
        raise ShardError(
            f"sample: images and steps: expected {least} images and 1 step or more; "
            f"got {images} and {steps}"
        )
    if cause := trained.job.data.cannot_undo:
        raise ShardError(f"{trained.run.path}: its images cannot be given back: {cause}")


@dataclass(frozen=True, kw_only=True)
class _Sampler(Drawer):
    """Draws the images of a set (`ImageGenerator`) with the network of a run."""

    classes: tuple[str, ...]
    only: str  # the one class that is drawn; all of them if empty
    guidance: float
    precision: Precision
    room: Room

    folders: ClassVar[str] = "{split}/{name}"

    def counts(self, images: int) -> dict[str, dict[str, int]]:
        """Images of each class: equally many, or of one alone."""
        if self.only:
            return {_SPLIT: {name: images * (name == self.only) for name in self.classes}}
        names = self.classes or ("",)
        whole, rest = divmod(images, len(names))
        return {_SPLIT: {name: whole + (k < rest) for k, name in enumerate(names)}}

    def described(self) -> dict[str, Any]:
        """The run and how it is asked, as JSON."""
        amp = {} if self.precision.name == "off" else {"amp": self.precision.name}
        return amp | {
            "run": self.trained.metrics["identity"],
            "weights": self.trained.weights,
            "trained_on": self.trained.digest,
            "sampler": self.sampler,
            "steps": self.steps,
            "guidance": self.guidance,
        }

    def make(self, split: str, indices: Sequence[int], *, seed: int) -> GeneratedBatch:
        """Draw the images of some indices, a few at a time where memory lacks."""
        parts = self.room.pieces(len(indices), lambda part: self._drawn(indices[part], seed))
        images, truths = zip(*parts, strict=True)
        truth = {name: np.concatenate([t[name] for t in truths]) for name in truths[0]}
        return GeneratedBatch(np.concatenate(images), None, truth)

    def _drawn(
        self, indices: Sequence[int], seed: int
    ) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float64]]]:
        """Images, (B, C, H, W), and their truth, (B,) by name."""
        generators = [_generator(seed, index) for index in indices]
        noise = torch.stack([torch.randn(self.shape, generator=g) for g in generators])
        labels = torch.tensor([i % max(len(self.classes), 1) for i in indices])
        radii = self._radii(generators)
        truth = {"index": np.asarray(indices, np.float64)}
        if radii is not None:
            truth["theta_e"] = radii.double().numpy()
        restore = partial(
            self._restore,
            labels=labels.to(self.device) if self.classes else None,
            radii=None if radii is None else radii.log().to(self.device),
        )
        with torch.inference_mode(), scored_in(self.precision):
            images = denoise(
                restore, noise.to(self.device), sampler=self.sampler, steps=self.steps,
                generators=generators,
            )  # fmt: skip
        return self._values(images), truth

    def _radii(self, generators: Sequence[torch.Generator]) -> Tensor | None:
        """Einstein radii drawn from those of the training set, arcsec, (B,)."""
        if not self.task.radii:
            return None
        quantiles = np.asarray(self.task.radii)
        drawn = [float(torch.rand((), generator=g)) for g in generators]
        radii = np.interp(drawn, np.linspace(0, 1, len(quantiles)), quantiles)
        return torch.from_numpy(radii.astype(np.float32))

    def _restore(
        self, x: Tensor, sigma: float, *, labels: Tensor | None, radii: Tensor | None
    ) -> Tensor:
        """The image in a noisy one, guided."""
        task, model = self.task, self.trained.model
        conditional = task.restored(model, x, sigma, (labels, radii))
        if self.guidance == 1 or not task.conditions:
            return conditional
        unconditional = task.restored(model, x, sigma)
        return unconditional + self.guidance * (conditional - unconditional)

    def _values(self, images: Tensor) -> NDArray[np.float32]:
        """Values as they were packed, (B, C, H, W): the normalisation is undone."""
        transform = self.trained.transform
        return Unit(transform.mean, transform.sd).undone(images).float().cpu().numpy()


def _generator(seed: int, index: int) -> torch.Generator:
    """The random numbers of one image."""
    state = np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]) >> 1)
