"""From shards to batches: the stored arrays live on the device, and batches are made there.

A whole set of lens images is small beside a modern memory, so its stored form (uint8 or uint16
where it can be) is loaded once; a batch is gathered, decoded, stretched, normalised, augmented and
resized where it is used. What does not fit is gathered from the memory of the host or from the
files by a thread, a batch ahead. Wherever the images are kept, the batches are the same.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeplense_batch.core.job import Augment
from deeplense_batch.data.augment import apply, central_crop
from deeplense_batch.data.batches.reader import Indices, Reader, Rows, ahead, choose
from deeplense_batch.data.batches.sampling import each_once
from deeplense_batch.data.encoding import COUNTS
from deeplense_batch.data.pairs.registration import Registration
from deeplense_batch.data.pixels.moved import moved
from deeplense_batch.data.pixels.transform import Transform, measure
from deeplense_batch.data.shards import Split
from deeplense_batch.data.slices.representative import representative

__all__ = ["Loader", "side_stream"]

_BLOCK_BYTES = 32 << 20  # read at once while everything is loaded
_CACHED = 8  # samples a thread
_TOGETHER, _TOGETHER_BYTES = 16, 128 << 20  # batches, and what they take, made at once on a GPU
_NOTHING = Augment()


class Loader:
    """Batches of one slice.

    Arguments:
        split: The slice.
        transform: What happens to every image.
        device: Where batches are made.
        resident: Where the stored images are kept: ``device``, ``host``, ``off`` (in their
            files), or ``auto`` for the first that has room.
        truths: Truth arrays that go with the images; those that the data lack are left out.
        companions: Of pairs, loaders of what goes with the images (`paired`).
        registration: Of pairs, shifts by which images are moved to where their inputs are.
    """

    def __init__(
        self,
        split: Split,
        *,
        transform: Transform,
        device: torch.device,
        resident: str = "auto",
        truths: Collection[str] = (),
        companions: Mapping[str, Loader] | None = None,
        registration: Registration | None = None,
    ) -> None:
        self.split, self.info = split, split.info
        self.registration = registration
        self._shifts: Tensor | None = None
        if registration is not None:
            pixels = torch.from_numpy(registration.shifts * split.info.ratio)
            self._shifts = pixels.float().to(device)
        self.companions = dict(companions or {})
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
        # What is moved is cropped after it, so that what comes in is sky.
        self._rows = Rows(split, transform.crop if registration is None else None)
        # Counts as the int16 of the same bits: torch has few functions of uint16.
        counts = self._rows.dtype == COUNTS
        self._dtype = torch.from_numpy(np.empty(0, np.int16 if counts else self._rows.dtype)).dtype
        self.resident = choose(resident, len(split) * self._rows.row_bytes, device)
        self._side = side_stream(device)
        self._stored = None if self.resident == "off" else self._load()

    def __len__(self) -> int:
        return len(self.split)

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

    @cached_property
    def ids(self) -> NDArray[np.str_]:
        """Names of the samples, (N,)."""
        return np.asarray(self.split.ids())

    def measured(self) -> Transform:
        """The transform with what it needs to know of this slice, the one that is trained on.

        Raises:
            ShardError: The images are constant, or their sky is where its noise is needed.
        """
        return measure(self.transform, self)

    def representative(self, most: int, together: int) -> list[Indices]:
        """Batches of about so many images, `most` in all, that stand for the slice."""
        chosen = representative(len(self), most, in_groups=bool(self.info.group))
        return np.array_split(chosen, math.ceil(len(chosen) / together))

    def decoded(self, batches: Sequence[Indices]) -> Generator[Tensor, None, None]:
        """Values as packed, and cropped, of each batch: (B, C, H, W) float32, on the device."""
        for stored, index in self._gathered(batches):
            yield self._decode(stored, index)

    def flat(self) -> NDArray[np.int64]:
        """Indices of the images that are constant, so that none of their own can normalise them.

        None where images are not normalised each by its own mean and sd.
        """
        if self.transform.per != "image":
            return np.empty(0, np.int64)
        batches = list(self.in_order(rank=0, world=1))
        values = (self.transform.normalised(packed) for packed in self.decoded(batches))
        is_flat = [image[:, 0, 0, 0].isnan().cpu().numpy() for image in values]
        return np.flatnonzero(np.concatenate(is_flat))

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
        with contextlib.closing(self._gathered(joined)) as gathered:
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
        return each_once(len(self), rank=rank, world=world)

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
        images = self.transform.normalised(self._decode(stored, index))
        size = self.transform.size
        return apply(images, augment, seed=seed, epoch=epoch, index=key, size=size)

    def _decode(self, stored: Tensor, index: Tensor) -> Tensor:
        choice = self.info.choice
        values = self._values(stored, index)
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


@lru_cache(maxsize=16)
def side_stream(device: torch.device) -> torch.cuda.Stream | None:
    """The stream by which images come to a GPU; None of a CPU.

    One for all: each would keep memory of its own.
    """
    return torch.cuda.Stream(device) if device.type == "cuda" else None
