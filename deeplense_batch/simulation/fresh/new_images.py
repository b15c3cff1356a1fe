"""Batches of images that are simulated as they are asked for, in place of those of a slice."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeplense_batch.core.job import Job
from deeplense_batch.data.augment import central_crop
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.batches.making import Batches
from deeplense_batch.data.batches.reader import Indices
from deeplense_batch.data.encoding import COUNTS
from deeplense_batch.data.generate import GeneratedBatch
from deeplense_batch.data.shards import ShardError
from deeplense_batch.simulation.fresh.like import generator_of
from deeplense_batch.simulation.fresh.source import Source

__all__ = ["NewImages"]


class NewImages(Batches):
    """Batches of new images, numbered from 0 in every epoch.

    Arguments:
        like: The images that they are like, and are normalised as; what is known of them is known
            of the new ones.
        source: Makes them.
        array: Which of the arrays of a pair they are: ``images``, ``inputs`` or ``clean``.

    Raises:
        ShardError: The simulation does not tell the truth that is known of `like`.
    """

    is_new: ClassVar[bool] = True

    def __init__(self, like: Loader, source: Source, array: str = "images") -> None:
        made_by = source.made_by
        info = replace(like.info, sky=made_by.sky, stored=made_by.stored)
        super().__init__(
            info, like.transform, like.device, _targets(like, source).to(like.device),
            {name: NewImages(own, source, name) for name, own in like.companions.items()},
        )  # fmt: skip
        self.source, self._array = source, array
        self._known = [*like.truth]

    @classmethod
    def of(cls, job: Job, like: Loader) -> Self:
        """Those that a job asks for.

        Arguments:
            job: The job, planned.
            like: The training slice.

        Raises:
            ShardError: There are no such images any more.
        """
        asked = job.data.simulate
        assert asked is not None
        made_by = generator_of(asked, like.info.as_stored, device=like.device.type)
        return cls(like, Source(made_by, images=asked.images, seed=job.seed))

    @property
    def name(self) -> str:
        """What a log calls the images."""
        return f"new images: {self.source.made_by.about}"

    def close(self) -> None:
        """End the simulation."""
        self.source.close()

    def _gathered(
        self, batches: Sequence[Indices], epoch: int = 0
    ) -> Generator[tuple[Tensor, Tensor], None, None]:
        # All at once, since the host waits for the device whenever it sends it something.
        joined = torch.from_numpy(np.concatenate(batches)).to(self.device)
        for place, index in enumerate(joined.split([len(batch) for batch in batches])):
            made = self.source.made(epoch, batches, place)
            yield self._taken_up(made, index), index

    def _taken_up(self, made: GeneratedBatch, index: Tensor) -> Tensor:
        """Keep what is known of some images by their numbers, and give them as they are stored."""
        arrays = {"images": made.images, "scale": made.scale}
        if made.pairs is not None:
            arrays |= made.pairs.named(made.images)
        scale = arrays.get("scale" if self._array == "images" else f"{self._array}_scale")
        if scale is not None:
            own = self._sent(scale.astype(np.float32))
            if self._scale is None:
                self._scale = own.new_ones(len(self), *own.shape[1:])
            self._scale.index_copy_(0, index, own)
        for name in self._known:
            if name not in made.truth:
                raise ShardError(
                    f"data.simulate: the simulation knows no truth/{name}, which the images of "
                    f"{self.info.files[0].parent} have and the task learns"
                )
            values = self._sent(np.asarray(made.truth[name], np.float32))
            if name not in self._truth:
                self._truth[name] = values.new_zeros(len(self), *values.shape[1:])
            self._truth[name].index_copy_(0, index, values)
        images = arrays[self._array]
        assert images is not None
        # Counts as the int16 of the same bits, as of a `Loader`.
        stored = self._sent(images.view(np.int16) if images.dtype == COUNTS else images)
        later = self._sky is not None  # what is observed is cropped after it
        return stored if later else central_crop(stored, self.transform.crop).contiguous()

    def _sent(self, values: NDArray[Any]) -> Tensor:
        """An array on the device, for which nothing waits."""
        tensor = torch.from_numpy(np.ascontiguousarray(values))
        pinned = tensor.pin_memory() if self.device.type == "cuda" else tensor
        return pinned.to(self.device, non_blocking=True)


def _targets(like: Loader, source: Source) -> Tensor:
    """Class numbers of the images of every epoch, as `like` numbers its classes."""
    names = source.made_by.drawn_classes
    if not source.made_by.classes:
        return torch.full((source.images,), -1)
    numbers = like.info.numbers or range(len(names))
    return torch.tensor([*numbers])[torch.arange(source.images) % len(names)]
