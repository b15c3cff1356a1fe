"""From shards to batches: the stored arrays live on the device, and batches are made there.

A whole set of lens images is small beside a modern memory, so its stored form (uint16 counts where
it can be) is loaded once; a batch is gathered, decoded, stretched, normalised, augmented and
resized where it is used. What does not fit is gathered from the memory of the host or from the
files by a thread, a batch ahead. Wherever the images are kept, the batches are the same.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeplense_batch.core.job import Augment
from deeplense_batch.data.augment import apply, resize
from deeplense_batch.data.encoding import COUNTS
from deeplense_batch.data.reader import Indices, Reader, Rows, ahead, choose
from deeplense_batch.data.shards import ShardError, Split

__all__ = ["Loader", "Transform", "side_stream"]

_STATISTICS_IMAGES = 2048  # slices are stratified, so the first images represent all
_ASINH_SOFTENING = 0.05  # of the range [0, 1]: where asinh and log turn from linear
_EVALUATION_BATCH = 256
_STATISTICS_BATCH = 16
_BLOCK_BYTES = 32 << 20  # read at once while everything is loaded
_CACHED = 8  # samples a thread
_TOGETHER, _TOGETHER_BYTES = 16, 128 << 20  # batches, and what they take, made at once on a GPU
_LEAST_CONTRAST = 1e-9  # sd over mean of an image that is not constant but for rounding
_NOTHING = Augment()


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
        return resize(self.normalised(images), self.size)

    def normalised(self, images: Tensor) -> Tensor:
        """Values as packed, (B, C, H, W) float32, stretched, of mean 0 and sd 1."""
        images = _stretch(images, self.stretch)
        if self.mean:
            mean, sd = (_per_channel(v, images.device) for v in (self.mean, self.sd))
            images = (images - mean).div_(sd)
        return images


class Loader:
    """Batches of one slice.

    Arguments:
        split: The slice.
        transform: What happens to every image.
        device: Where batches are made.
        resident: Where the stored images are kept: ``device``, ``host``, ``off`` (in their
            files), or ``auto`` for the first that has room.
        truths: Truth arrays that go with the images; those that the data lack are left out.
    """

    def __init__(
        self,
        split: Split,
        *,
        transform: Transform,
        device: torch.device,
        resident: str = "auto",
        truths: Collection[str] = (),
    ) -> None:
        self.split = split
        self.transform = transform
        self.device = device
        self.targets = torch.from_numpy(split.targets()).to(device)
        there = split.truths() if truths else ()
        self.truth = {name: split.truth(name) for name in truths if name in there}
        self._truth = {
            name: torch.from_numpy(values).float().to(device)
            for name, values in self.truth.items()
        }
        scale = split.scale()
        self._scale = None if scale is None else torch.from_numpy(scale).float().to(device)
        self._rows = Rows(split, transform.crop)
        # Counts as the int16 of the same bits: torch has few functions of uint16.
        counts = self._rows.dtype == COUNTS
        self._dtype = torch.from_numpy(np.empty(0, np.int16 if counts else self._rows.dtype)).dtype
        self.resident = choose(resident, len(split) * self._rows.row_bytes, device)
        self._side = side_stream(device)
        self._stored = None if self.resident == "off" else self._load()

    def __len__(self) -> int:
        return len(self.split)

    @cached_property
    def ids(self) -> NDArray[np.str_]:
        """Names of the samples, (N,)."""
        return np.asarray(self.split.ids())

    def measured(self) -> Transform:
        """The transform with mean and sd, (C,), measured on the first images of this slice."""
        samples = min(len(self), _STATISTICS_IMAGES)
        blocks = np.array_split(np.arange(samples), math.ceil(samples / _STATISTICS_BATCH))
        shape, device = (len(blocks), self.split.info.shape[0]), self.device
        # Taken before the loop: small tensors that outlive large ones keep glibc from using the
        # memory of those again.
        means, variances = torch.empty(2, *shape, dtype=torch.float64, device=device)
        for i, gathered in enumerate(self._gathered(blocks)):
            values = _stretch(self._decode(*gathered), self.transform.stretch).double()
            torch.mean(values, (0, 2, 3), out=means[i])
            torch.var(values, (0, 2, 3), correction=0, out=variances[i])
        sizes = torch.tensor([[len(block)] for block in blocks], device=device)
        mean = (sizes * means).sum(0) / samples
        sd = ((sizes * (variances + (means - mean) ** 2)).sum(0) / samples).sqrt()
        if not bool((sd > _LEAST_CONTRAST * mean.abs()).all()):
            raise ShardError(f"{self.split.info.name}: a channel of the images is constant")
        return replace(self.transform, mean=tuple(mean.tolist()), sd=tuple(sd.tolist()))

    def batches(
        self,
        batches: Iterable[Indices],
        augment: Augment = _NOTHING,
        *,
        seed: int = 0,
        epoch: int = 0,
    ) -> Generator[tuple[Tensor, Tensor, Tensor], None, None]:
        """Make batches; what has to be fetched for the next one is, while this one is used.

        Arguments:
            batches: Indices of the samples of each batch, (B,) int64.
            augment: Random changes, a function of (seed, epoch, sample).
            seed: Seed of the run.
            epoch: Number of the epoch.

        Yields:
            Images (B, C, H, W) float32, targets (B,) int64, and their indices (B,) int64.

        Raises:
            ShardError: A file cannot be read.
        """
        groups = self._groups(list(batches))
        change = partial(self._made, augment=augment, seed=seed, epoch=epoch)
        with contextlib.closing(self._gathered([np.concatenate(g) for g in groups])) as gathered:
            for group, (stored, index) in zip(groups, gathered, strict=True):
                if self.device.type == "cpu":  # a few at a time stay in its cache: half the time
                    few = _CACHED * torch.get_num_threads()
                    parts = zip(stored.split(few), index.split(few), strict=True)
                    images = torch.cat([change(*part) for part in parts])
                else:
                    images = change(stored, index)
                sizes = [len(batch) for batch in group]
                made = (images, self.targets.index_select(0, index), index)
                yield from zip(*(values.split(sizes) for values in made), strict=True)

    def _groups(self, batches: list[Indices]) -> list[list[Indices]]:
        """Batches that are made at once: a GPU starts many small kernels for each.

        A processor has no use for it. What a sample becomes does not depend on its group.
        """
        if self.device.type == "cpu" or not batches:
            return [[batch] for batch in batches]
        channels, height, width = self._rows.shape
        edge = max(height, width, self.transform.size or 0)
        room = _TOGETHER_BYTES // (max(map(len, batches)) * channels * edge**2 * 4)
        count = min(max(room, 1), _TOGETHER)
        return [batches[first : first + count] for first in range(0, len(batches), count)]

    def truth_of(self, index: Tensor) -> dict[str, Tensor]:
        """Truth of some samples, (B, ...) float32 by name, on the device."""
        return {name: values.index_select(0, index) for name, values in self._truth.items()}

    def in_order(self, *, rank: int, world: int) -> Iterator[Indices]:
        """Every world-th sample from `rank` on, once, in batches; nothing is padded."""
        mine = np.arange(rank, len(self), world)
        for first in range(0, len(mine), _EVALUATION_BATCH):
            yield mine[first : first + _EVALUATION_BATCH]

    def _gathered(
        self, batches: Sequence[Indices]
    ) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Stored images, (B, C, H, W), and their indices, (B,) int64, on the device."""
        if not batches:
            return
        # All at once, since the host waits for the device whenever it sends it something.
        joined = torch.from_numpy(np.concatenate(batches)).to(self.device)
        indices = joined.split([len(batch) for batch in batches])
        if self.resident == "device":
            assert self._stored is not None
            for index in indices:
                yield self._stored.index_select(0, index), index
            return
        with Reader(self._rows) as reader:
            fetch = partial(self._fetch, batches, reader)
            with contextlib.closing(ahead(fetch, range(len(batches)))) as fetched:
                for stored, index in zip(fetched, indices, strict=True):
                    if self._side is not None:  # its memory is not free before this stream is done
                        stored.record_stream(torch.cuda.current_stream(self.device))
                    yield stored, index

    def _fetch(self, batches: Sequence[Indices], reader: Reader, batch: int) -> Tensor:
        """Bring the stored images of one batch to the device, beside what is computed there."""
        side = self._side
        with contextlib.nullcontext() if side is None else torch.cuda.stream(side):
            shape = (len(batches[batch]), *self._rows.shape)
            images = torch.empty(shape, dtype=self._dtype, pin_memory=side is not None)
            if self._stored is None:
                for soon in batches[batch : batch + 2]:
                    reader.expect(soon)
                reader.read(batches[batch], images.numpy().view(self._rows.dtype))
            else:
                torch.index_select(self._stored, 0, torch.from_numpy(batches[batch]), out=images)
            images = images.to(self.device, non_blocking=True)
            if side is not None:
                side.synchronize()
            return images

    def _load(self) -> Tensor:
        """Read all stored images, (N, C, H, W), into memory that is taken once."""
        device = self.device if self.resident == "device" else torch.device("cpu")
        shape = (len(self), *self._rows.shape)
        stored = torch.empty(shape, dtype=self._dtype, device=device)
        remaining = np.arange(len(self))
        with Reader(self._rows) as reader:
            for part in stored.split(max(_BLOCK_BYTES // self._rows.row_bytes, 1)):
                block = part if part.is_cpu else torch.empty(part.shape, dtype=self._dtype)
                indices, remaining = remaining[: len(part)], remaining[len(part) :]
                reader.read(indices, block.numpy().view(self._rows.dtype))
                if block is not part:
                    part.copy_(block)
        return stored

    def _made(
        self, stored: Tensor, index: Tensor, augment: Augment, *, seed: int, epoch: int
    ) -> Tensor:
        """What a network sees, (B, C, H, W) float32, of stored images."""
        images = self.transform.normalised(self._decode(stored, index))
        size = self.transform.size
        return apply(images, augment, seed=seed, epoch=epoch, index=index, size=size)

    def _decode(self, stored: Tensor, index: Tensor) -> Tensor:
        if self._scale is None:
            return stored.to(torch.float32)
        counts = stored.to(torch.int32).bitwise_and_(0xFFFF).to(torch.float32)
        return counts.div_(self._scale.index_select(0, index)[:, :, None, None])


@lru_cache(maxsize=16)
def side_stream(device: torch.device) -> torch.cuda.Stream | None:
    """The stream by which images come to a GPU; None of a CPU.

    One for all: each would keep memory of its own.
    """
    return torch.cuda.Stream(device) if device.type == "cuda" else None


@lru_cache(maxsize=16)
def _per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Numbers of the channels, (C, 1, 1), kept: to send them makes the host wait for a device."""
    with torch.inference_mode(False):  # also good where there are gradients
        return torch.tensor(values, device=device)[:, None, None]


def _stretch(images: Tensor, name: str) -> Tensor:
    """Lift the faint: asinh(x / s) / asinh(1 / s) or log(1 + x / s) / log(1 + 1 / s)."""
    if name == "asinh":
        return torch.asinh(images / _ASINH_SOFTENING) / math.asinh(1 / _ASINH_SOFTENING)
    if name == "log":
        return torch.log1p(images.clamp(min=0) / _ASINH_SOFTENING) / math.log1p(
            1 / _ASINH_SOFTENING
        )
    return images
