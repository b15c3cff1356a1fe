"""Images without labels beside the labelled ones of each step, as many of them.

An epoch draws as many as it has labelled images, in full permutations and a part of one. Which
ones, and how each is changed, is a function of (seed, epoch, draw) that is independent of the
labelled images: of two sets in one order, an image does not meet its own counterpart.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from deeplense_batch.core.job import Augment
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.batches.reader import Indices
from deeplense_batch.data.batches.sampling import numbered, order, share_of

__all__ = ["Unlabelled"]

_STREAM = 1  # tells the random numbers of these draws from those of labelled images
_APART = 1 << 40  # above all numbers of draws of labelled images, which change images too


class Unlabelled:
    """Batches of the images of a slice; their labels are not given to anyone.

    Arguments:
        images: The slice, with the transform of the images that are learnt from.
    """

    def __init__(self, images: Loader) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def draws(self, count: int, *, seed: int, epoch: int) -> Indices:
        """Numbers of the draws of an epoch (`sampling.numbered`), (count,) int64."""
        random = np.random.default_rng((seed, epoch, 0, _STREAM))
        rounds = [random.permutation(len(self)) for _ in range(-(-count // len(self)))]
        return numbered(np.concatenate(rounds)[:count], len(self))

    def batches(
        self,
        count: int,
        batch_size: int,
        augment: Augment,
        *,
        seed: int,
        epoch: int,
        first: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> Iterator[Tensor]:
        """Make the batches that go with those of an epoch of labelled images.

        Arguments:
            count: Labelled images that the epoch draws.
            batch_size: Of a step, over all processes.
            augment: Random changes, a function of (seed, epoch, draw).
            seed: Seed of the run.
            epoch: Number of the epoch.
            first: Step to begin with.
            rank: This process's number, of
            world: processes.

        Yields:
            Images (B, C, H, W) float32, B as many as this process has labelled ones in the step.

        Raises:
            ShardError: A file cannot be read.
        """
        steps = order(self.draws(count, seed=seed, epoch=epoch), batch_size)[first:]
        asked = [share_of(step, rank=rank, world=world) for step in steps]
        places = [numbers % len(self) for numbers in asked]
        keys = [numbers + _APART for numbers in asked]
        for images, *_ in self.images.batches(places, augment, seed=seed, epoch=epoch, keys=keys):
            yield images
