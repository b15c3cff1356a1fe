"""From shards to batches: the stored arrays live on the device, and batches are made there.

A whole set of lens images is small beside a modern memory, so its stored form (uint16 counts where
it can be) is loaded once; a batch is gathered, decoded, cropped, stretched, normalised, resized
and augmented where it is used. The order of samples is a function of (seed, epoch).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from deeplense_batch.data.augment import apply
from deeplense_batch.data.shards import ShardError, Split
from deeplense_batch.job import Augment

__all__ = ["Loader", "Transform", "order", "share_of"]

_STATISTICS_IMAGES = 2048  # slices are stratified, so the first images stand for all
_ASINH_SOFTENING = 0.05  # of the range [0, 1]: where asinh and log turn from linear
_EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Transform:
    """What happens to every image alike: crop, stretch, normalise, resize."""

    crop: int | None
    size: int | None
    stretch: str
    mean: tuple[float, ...] = ()
    sd: tuple[float, ...] = ()

    def __call__(self, images: Tensor) -> Tensor:
        """Turn values as packed, (B, C, H, W) float32, into what a network sees."""
        images = _stretch(images, self.stretch)
        if self.mean:
            mean, sd = (torch.tensor(v, device=images.device) for v in (self.mean, self.sd))
            images = (images - mean[:, None, None]) / sd[:, None, None]
        if self.size is not None and images.shape[-2:] != (self.size, self.size):
            images = F.interpolate(images, (self.size, self.size), mode="bilinear", antialias=True)
        return images


class Loader:
    """Batches of one slice, from arrays held on the device."""

    def __init__(self, split: Split, *, transform: Transform, device: torch.device) -> None:
        crop = transform.crop
        height, width = split.info.shape[1:]
        if crop is not None and crop > min(height, width):
            raise ShardError(f"data.crop: {crop} pixels asked, the images have {height} x {width}")
        self.split = split
        self.device = device
        self.ids = np.asarray(split.ids())
        self.targets = torch.from_numpy(split.targets()).to(device)
        stored, scale = split.stored()
        self._stored = torch.from_numpy(_signed(_cropped(stored, crop))).to(device)
        self._scale = None if scale is None else torch.from_numpy(scale).float().to(device)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.split)

    def measured(self) -> Transform:
        """The transform with mean and sd, (C,), measured on the first images of this slice."""
        index = torch.arange(min(len(self), _STATISTICS_IMAGES), device=self.device)
        images = _stretch(self._decode(index), self.transform.stretch).double()
        mean, sd = images.mean((0, 2, 3)), images.std((0, 2, 3), correction=0)
        if not bool((sd > 0).all()):
            raise ShardError(f"{self.split.info.name}: a channel of the images is constant")
        old = self.transform
        return Transform(old.crop, old.size, old.stretch, tuple(mean.tolist()), tuple(sd.tolist()))

    def batch(self, index: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Gather samples: images (B, C, H, W) float32, targets (B,) int64, index (B,) int64."""
        place = torch.from_numpy(index).to(self.device)
        return self.transform(self._decode(place)), self.targets[place], place

    def augmented(
        self, index: NDArray[np.int64], augment: Augment, *, seed: int, epoch: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gather samples as `batch` does, and change them at random."""
        images, targets, place = self.batch(index)
        return apply(images, augment, seed=seed, epoch=epoch, index=place), targets, place

    def in_order(self, *, rank: int, world: int) -> Iterator[NDArray[np.int64]]:
        """Every world-th sample from `rank` on, once, in batches; nothing is padded."""
        mine = np.arange(rank, len(self), world)
        for first in range(0, len(mine), _EVALUATION_BATCH):
            yield mine[first : first + _EVALUATION_BATCH]

    def _decode(self, place: Tensor) -> Tensor:
        images = self._stored[place]
        if self._scale is None:
            return images.to(torch.float32)
        counts = (images.to(torch.int32) & 0xFFFF).to(torch.float32)
        return counts / self._scale[place, :, None, None]


def order(samples: int, batch_size: int, *, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """Shuffle an epoch and cut it into batches that differ by one sample at most.

    Arguments:
        samples: Samples of the slice.
        batch_size: Largest batch.
        seed: Seed of the run.
        epoch: Number of the epoch.

    Returns:
        The places of each batch's samples; every sample stands in one.
    """
    shuffled = np.random.default_rng((seed, epoch)).permutation(samples)
    return np.array_split(shuffled, math.ceil(samples / batch_size))


def share_of(batch: NDArray[np.int64], *, rank: int, world: int) -> NDArray[np.int64]:
    """The part of a global batch that one process computes."""
    return batch[rank::world]


def _cropped(stored: NDArray, crop: int | None) -> NDArray:
    if crop is None:
        return stored
    top, left = ((n - crop) // 2 for n in stored.shape[-2:])
    return np.ascontiguousarray(stored[..., top : top + crop, left : left + crop])


def _signed(stored: NDArray) -> NDArray:
    """Counts as the int16 of the same bits, since torch has few functions of uint16."""
    return stored.view(np.int16) if stored.dtype == np.uint16 else stored


def _stretch(images: Tensor, name: str) -> Tensor:
    """Lift the faint: asinh(x / s) / asinh(1 / s) or log(1 + x / s) / log(1 + 1 / s)."""
    if name == "asinh":
        return torch.asinh(images / _ASINH_SOFTENING) / math.asinh(1 / _ASINH_SOFTENING)
    if name == "log":
        return torch.log1p(images.clamp(min=0) / _ASINH_SOFTENING) / math.log1p(
            1 / _ASINH_SOFTENING
        )
    return images
