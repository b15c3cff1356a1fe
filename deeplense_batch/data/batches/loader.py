"""Batches of a slice of shards, whose stored arrays live on the device.

A whole set of lens images is small beside a modern memory, so its stored form (uint8 or uint16
where it can be) is loaded once. What does not fit is gathered from the memory of the host or from
the files by a thread, a batch ahead. Wherever the images are kept, the batches are the same.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeplense_batch.data.batches.making import Batches
from deeplense_batch.data.batches.reader import Indices, Reader, Rows, ahead, choose
from deeplense_batch.data.batches.sampling import each_once
from deeplense_batch.data.encoding import COUNTS
from deeplense_batch.data.pairs.registration import Registration
from deeplense_batch.data.pixels.photons import number_of
from deeplense_batch.data.pixels.transform import Transform, measure
from deeplense_batch.data.shards import Split
from deeplense_batch.data.slices.representative import representative

__all__ = ["Loader", "side_stream"]

_BLOCK_BYTES = 32 << 20  # read at once while everything is loaded
_ONCE = {"seed": 0, "epoch": -1}  # of noise that is drawn once: no training has this epoch


class Loader(Batches):
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

    companions: Mapping[str, Loader]

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
        targets = torch.from_numpy(split.targets()).to(device)
        super().__init__(split.info, transform, device, targets, companions or {})
        self.split, self.registration = split, registration
        if registration is not None:
            pixels = torch.from_numpy(registration.shifts * split.info.ratio)
            self._shifts = pixels.float().to(device)
        there = split.truths() if truths else ()
        self.truth = {name: split.truth(name) for name in truths if name in there}
        self._truth = {
            name: torch.from_numpy(values).float().to(device)
            for name, values in self.truth.items()
        }
        scale = split.scale()
        self._scale = None if scale is None else torch.from_numpy(scale).float().to(device)
        # What is moved or observed is cropped after it, so that what comes in is sky.
        is_later = registration is not None or self._sky is not None
        self._rows = Rows(split, None if is_later else transform.crop)
        self._shape = self._rows.shape
        # Counts as the int16 of the same bits: torch has few functions of uint16.
        counts = self._rows.dtype == COUNTS
        self._dtype = torch.from_numpy(np.empty(0, np.int16 if counts else self._rows.dtype)).dtype
        self.resident = choose(resident, len(split) * self._rows.row_bytes, device)
        self._side = side_stream(device)
        self._stored = None if self.resident == "off" else self._load()

    @cached_property
    def ids(self) -> NDArray[np.str_]:
        """Names of the samples, (N,)."""
        return np.asarray(self.split.ids())

    def _decode(
        self, stored: Tensor, index: Tensor, noise: Mapping[str, Any] | None = None
    ) -> Tensor:
        """As of `Batches`; without `noise` by that which is drawn once."""
        if noise is None and self._sky is not None:
            noise = _ONCE | {"index": self._numbers.index_select(0, index)}
        return super()._decode(stored, index, noise)

    @cached_property
    def _numbers(self) -> Tensor:
        """Numbers of the samples of which noise that is drawn once is a function, (N,) int64."""
        return torch.from_numpy(number_of(self.ids.tolist())).to(self.device)

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

    def in_order(self, *, rank: int, world: int) -> Iterator[Indices]:
        """Every world-th sample from `rank` on, once, in batches; nothing is padded."""
        return each_once(len(self), rank=rank, world=world)

    def _gathered(
        self, batches: Sequence[Indices], epoch: int = 0
    ) -> Generator[tuple[Tensor, Tensor], None, None]:
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


@lru_cache(maxsize=16)
def side_stream(device: torch.device) -> torch.cuda.Stream | None:
    """The stream by which images come to a GPU; None of a CPU.

    One for all: each would keep memory of its own.
    """
    return torch.cuda.Stream(device) if device.type == "cuda" else None
