"""Samples of the images that inputs may be of, drawn by diffusion, as shards of their own.

A sample is a function of the seed, the id of its image and its number, never of the batch, the
slice or the process, so that processes share the work, and one that was cut off goes on
(`data.generate`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.batches.paired import paired_loader
from deeplense_batch.data.batches.room import Room
from deeplense_batch.data.generate import GeneratedBatch, generate_dataset
from deeplense_batch.data.pixels.transform import Transform
from deeplense_batch.data.shards import Split, data_digest, open_split
from deeplense_batch.inference.generation.drawer import Drawer
from deeplense_batch.inference.generation.samplers import denoise
from deeplense_batch.inference.trained import Trained, TrainedError
from deeplense_batch.tasks.generation import Conditions, Generation
from deeplense_batch.tasks.task import Unit
from deeplense_batch.training.evaluation import batches_of
from deeplense_batch.training.precision import scored_in

__all__ = ["SavedSamples", "draw_samples", "samples_of"]

_SPLIT = "drawn"
_SHARD = 128  # images of a file; the processes of a run share the files


def draw_samples(
    trained: Trained,
    pairs: Split,
    out: Path,
    *,
    samples: int,
    sampler: str,
    steps: int,
    seed: int,
    device: torch.device,
    rank: int = 0,
    ranks: int = 1,
    on_batch: Callable[[], None] = lambda: None,
) -> SavedSamples:
    """Draw samples of every image of a slice, or go on with it; all are there in the end.

    Arguments:
        trained: A run of the task generation whose condition is the input.
        pairs: The slice, as the run sees it.
        out: Folder of the shards.
        samples: Of each image.
        sampler: One of `samplers.SAMPLERS`.
        steps: Of the sampler.
        seed: Of all noise.
        device: Draws them.
        rank, ranks: This process among those that share the work.
        on_batch: Called after every batch; what it raises ends the work, to go on later.

    Raises:
        TrainedError: The run takes no inputs, or a sample is not finite.
        ShardError: `out` holds other shards, or the pairs cannot be read.
    """
    task = trained.task
    if not isinstance(task, Generation) or task.restoration is None:
        raise TrainedError(f"{trained.run.path}: draws no images of inputs")
    loader = paired_loader(
        pairs, transform=trained.transform, device=device, truths=task.spec.truth_keys
    )
    drawer = _Drawer(
        trained=trained, task=task, loader=loader, samples=samples,
        sampler=sampler, steps=steps, device=device,
    )  # fmt: skip
    make = partial(
        generate_dataset, "evaluate", drawer, "samples of pairs", drawer.counts(len(pairs)), out,
        seed=seed, shard_size=_SHARD, on_batch=on_batch,
    )  # fmt: skip
    parts = min(ranks, -(-len(pairs) * samples // _SHARD))
    if rank < parts:
        make(part=rank, parts=parts)
    if ranks > 1:  # then what the others have not drawn yet, so that none has to wait
        make(part=0, parts=1)
    return SavedSamples(out, samples, trained.transform, device)


def samples_of(
    trained: Trained,
    task: Generation,
    numbered: Sequence[tuple[str, int]],
    conditions: Conditions,
    *,
    sampler: str,
    steps: int,
    seed: int,
) -> Tensor:
    """Draw a sample of each of some images, (B, C, H, W), in the units of the set.

    Arguments:
        trained: The run, whose network is on the device.
        task: Its task.
        numbered: Id of the image and number of the sample, B.
        conditions: As of `Generation.conditions_of`, the input among them.
        sampler, steps, seed: As of `draw_samples`.
    """
    generators = [_generator(seed, id_, number) for id_, number in numbered]
    noise = torch.stack([torch.randn(trained.input_shape, generator=g) for g in generators])
    device = next(trained.model.parameters()).device
    made = denoise(
        lambda x, sigma: task.restored(trained.model, x, sigma, conditions),
        noise.to(device), sampler=sampler, steps=steps, generators=generators,
    )  # fmt: skip
    unit = Unit(trained.transform.mean, trained.transform.sd)
    return unit.undone(task.image_of(made, conditions)).float()


class SavedSamples(nn.Module):
    """Samples that were drawn, in place of a network.

    Arguments:
        folder: What `draw_samples` made.
        samples: Of each image.
        transform: Of the run that drew them.
        device: Where they are given.
    """

    def __init__(
        self, folder: Path, samples: int, transform: Transform, device: torch.device
    ) -> None:
        super().__init__()
        seen = replace(transform, crop=None, size=None)
        split = open_split(folder, _SPLIT)
        self._loader = Loader(split, transform=seen, device=device, truths=("index",))
        self._places = np.argsort(self._loader.truth["index"])
        self._samples = samples

    def forward(self, index: Tensor) -> Tensor:
        """Samples, (B, S, C, H, W), normalised, of images by their places in the slice, (B,)."""
        numbers = _numbers(index.cpu().numpy(), self._samples)
        ((images, _, _),) = self._loader.batches([self._places[numbers]])
        return images.unflatten(0, (-1, self._samples))


@dataclass(frozen=True, kw_only=True)
class _Drawer(Drawer):
    """Draws the samples of a slice (`ImageGenerator`) with the network of a run."""

    loader: Loader
    samples: int
    room: Room = field(default_factory=Room)

    classes: ClassVar[tuple[str, ...]] = ()
    folders: ClassVar[str] = "{split}"

    def counts(self, images: int) -> dict[str, dict[str, int]]:
        """Samples of so many images."""
        return {_SPLIT: {"": images * self.samples}}

    def described(self) -> dict[str, Any]:
        """The run, the images and how it is asked, as JSON."""
        ids = "\n".join(self.loader.ids.tolist())
        return {
            "run": self.trained.metrics["identity"],
            "weights": self.trained.weights,
            "pairs": data_digest(self.loader.info.files[0].parent),
            "ids": hashlib.sha256(ids.encode()).hexdigest()[:16],
            "samples": self.samples,
            "sampler": self.sampler,
            "steps": self.steps,
        }

    def make(self, split: str, indices: Sequence[int], *, seed: int) -> GeneratedBatch:
        """Draw some samples, a few at a time where memory lacks."""
        parts = self.room.pieces(len(indices), lambda part: self._drawn(indices[part], seed))
        images = np.concatenate([*parts])
        if broken := int((~np.isfinite(images)).any((1, 2, 3)).sum()):
            raise TrainedError(f"{self.trained.run.path}: {broken} drawn images are not finite")
        ids = [f"{self._id(index)}#{index % self.samples}" for index in indices]
        return GeneratedBatch(images, None, {"index": np.asarray(indices, np.float64)}, ids=ids)

    def _id(self, index: int) -> str:
        """The id of the image of which this is a sample."""
        return str(self.loader.ids[index // self.samples])

    def _drawn(self, indices: Sequence[int], seed: int) -> NDArray[np.float32]:
        """Samples, (B, C, H, W), in the units of the set."""
        numbered = [(self._id(index), index % self.samples) for index in indices]
        places, which = np.unique(np.asarray(indices) // self.samples, return_inverse=True)
        (batch,) = batches_of(self.loader, [places])
        row = torch.from_numpy(which).to(self.device)
        with torch.inference_mode(), scored_in(None):
            conditions = tuple(
                None if values is None else values.index_select(0, row)
                for values in self.task.conditions_of(batch)
            )
            made = samples_of(
                self.trained, self.task, numbered, conditions, sampler=self.sampler,
                steps=self.steps, seed=seed,
            )  # fmt: skip
        return made.cpu().numpy()


def _numbers(places: NDArray[np.int64], samples: int) -> NDArray[np.int64]:
    """The numbers of all samples of some images, one image after another."""
    return (places[:, None] * samples + np.arange(samples)).ravel()


def _generator(seed: int, id_: str, sample: int) -> torch.Generator:
    """The random numbers of one sample of an image."""
    named = int.from_bytes(hashlib.sha256(id_.encode()).digest()[:8])
    state = np.random.SeedSequence((seed, named, sample)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]) >> 1)
