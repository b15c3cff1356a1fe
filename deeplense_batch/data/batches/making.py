"""From stored arrays to what a network sees, whatever the arrays come from.

A batch is decoded, stretched, normalised, augmented and resized on the device. What becomes of a
sample is a function of (seed, epoch, draw) and of its own pixels; how batches are grouped, and how
many samples are worked on at once, changes nothing.

Where the transform draws photons, expected counts are observed before all else, as whole frames:
for training anew, a function of (seed, epoch, sample); otherwise once, a function of the id of the
sample, so that scores of two runs are of the same images.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from deeplense_batch.core.job import Augment
from deeplense_batch.data.augment import apply, central_crop
from deeplense_batch.data.batches.reader import Indices
from deeplense_batch.data.pixels.moved import moved
from deeplense_batch.data.pixels.photons import observed
from deeplense_batch.data.pixels.transform import Transform
from deeplense_batch.data.shards import SplitInfo

__all__ = ["Batches"]

_CACHED = 8  # samples a thread
_TOGETHER, _TOGETHER_BYTES = 16, 128 << 20  # batches, and what they take, made at once on a GPU
_NOTHING = Augment()


class Batches(ABC):
    """Batches of the images of one set.

    Arguments:
        info: What the images are.
        transform: What happens to every image.
        device: Where batches are made.
        targets: Class numbers of the samples, (N,) int64, on the device; -1 without a label.
        companions: Of pairs, what goes with the images (`paired`).
    """

    #: Whether the images of every epoch are others.
    is_new: ClassVar[bool] = False

    companions: Mapping[str, Batches]  # of pairs, by what they are

    def __init__(
        self,
        info: SplitInfo,
        transform: Transform,
        device: torch.device,
        targets: Tensor,
        companions: Mapping[str, Batches],
    ) -> None:
        self.info, self.device, self.targets = info, device, targets
        self.companions = dict(companions)
        self.transform = transform
        # Mean counts of the sky, of expected counts that are to be observed.
        self._sky = info.sky if transform.photons else None
        self._shape = info.shape  # of what is stored of an image
        self._scale: Tensor | None = None  # counts of value 1, (N, C) float32, beside counts
        self._truth: dict[str, Tensor] = {}  # (N, ...) float32
        self._shifts: Tensor | None = None  # of registered pairs, (N, 2) float32, pixels

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def name(self) -> str:
        """What a log calls the images."""
        return self.info.files[0].parent.name

    @property
    def transform(self) -> Transform:
        """What happens to every image."""
        return self._transform

    @transform.setter
    def transform(self, transform: Transform) -> None:
        """Of companions it is the same, but for the crop, which they were made with."""
        self._transform = transform
        for companion in self.companions.values():
            companion.transform = replace(transform, crop=companion.transform.crop)

    def batches(
        self,
        batches: Iterable[Indices],
        augment: Augment = _NOTHING,
        *,
        seed: int = 0,
        epoch: int = 0,
        keys: Sequence[Indices] | None = None,
    ) -> Generator[tuple[Tensor, Tensor, Tensor], None, None]:
        """Make batches; what has to be fetched for the next one is, while this one is used.

        Arguments:
            batches: Indices of the samples of each batch, (B,) int64.
            augment: Random changes, a function of (seed, epoch, sample).
            seed: Seed of the run.
            epoch: Number of the epoch.
            keys: Numbers of which random changes are a function in place of the sample, as many
                as each batch has; None: the samples.

        Yields:
            Images (B, C, H, W) float32, targets (B,) int64, and their indices (B,) int64.

        Raises:
            ShardError: A file cannot be read.
        """
        groups = self._groups(list(batches))
        if not groups:
            return
        joined = [np.concatenate(group) for group in groups]
        # All at once, since the host waits for the device whenever it sends it something.
        sent = None if keys is None else torch.from_numpy(np.concatenate(keys)).to(self.device)
        own = None if sent is None else sent.split([len(index) for index in joined])
        change = partial(self._made, augment=augment, seed=seed, epoch=epoch)
        with contextlib.closing(self._gathered(joined, epoch)) as gathered:
            for place, (group, (stored, index)) in enumerate(zip(groups, gathered, strict=True)):
                key = index if own is None else own[place]
                if self.device.type == "cpu":  # a few at a time stay in its cache: half the time
                    few = _CACHED * torch.get_num_threads()
                    parts = zip(*(v.split(few) for v in (stored, index, key)), strict=True)
                    images = torch.cat([change(*part) for part in parts])
                else:
                    images = change(stored, index, key)
                sizes = [len(batch) for batch in group]
                made = (images, self.targets.index_select(0, index), index)
                yield from zip(*(values.split(sizes) for values in made), strict=True)

    def _groups(self, batches: list[Indices]) -> list[list[Indices]]:
        """Batches that are made at once: a GPU starts many small kernels for each.

        A processor has no use for it. What a sample becomes does not depend on its group.
        """
        if self.device.type == "cpu" or not batches:
            return [[batch] for batch in batches]
        channels, height, width = self._shape
        edge = max(height, width, self.transform.size or 0)
        room = _TOGETHER_BYTES // (max(map(len, batches)) * channels * edge**2 * 4)
        count = min(max(room, 1), _TOGETHER)
        return [batches[first : first + count] for first in range(0, len(batches), count)]

    def truth_of(self, index: Tensor) -> dict[str, Tensor]:
        """Truth of some samples, (B, ...) float32 by name, on the device."""
        return {name: values.index_select(0, index) for name, values in self._truth.items()}

    def close(self) -> None:  # noqa: B027
        """Give up what only further batches would use."""

    @abstractmethod
    def _gathered(
        self, batches: Sequence[Indices], epoch: int = 0
    ) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Stored images, (B, C, H, W), and their indices, (B,) int64, on the device.

        Arguments:
            batches: Indices of the samples of each batch, (B,) int64.
            epoch: Number of the epoch, on which images that are new in each depend.
        """

    def _made(
        self,
        stored: Tensor,
        index: Tensor,
        key: Tensor,
        augment: Augment,
        *,
        seed: int,
        epoch: int,
    ) -> Tensor:
        """What a network sees, (B, C, H, W) float32, of stored images."""
        noise = {"seed": seed, "epoch": epoch, "index": key} if augment.photon_noise else None
        images = self.transform.normalised(self._decode(stored, index, noise))
        size = self.transform.size
        return apply(images, augment, seed=seed, epoch=epoch, index=key, size=size)

    def _decode(
        self, stored: Tensor, index: Tensor, noise: Mapping[str, Any] | None = None
    ) -> Tensor:
        """Values as packed, and cropped; of expected counts observations, by `noise`."""
        choice = self.info.choice
        values = self._values(stored, index)
        if self._sky is not None:
            assert noise is not None, "only a slice has noise that is drawn once"
            values = central_crop(observed(values, self._sky, **noise), self.transform.crop)
        values = values if choice is None else choice.joined(values)
        if self._shifts is None:
            return values
        values = moved(values, self._shifts.index_select(0, index))
        return central_crop(values, self.transform.crop).contiguous()

    def _values(self, stored: Tensor, index: Tensor) -> Tensor:
        if self._scale is None:
            return stored.to(torch.float32)
        counts = stored.to(torch.int32).bitwise_and_(0xFFFF).to(torch.float32)
        return counts.div_(self._scale.index_select(0, index)[:, :, None, None])
