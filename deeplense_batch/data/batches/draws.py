"""What an epoch draws of the images that are trained on, and how much each one counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.data.batches.making import Batches
from deeplense_batch.data.batches.mixture import Mixture
from deeplense_batch.data.batches.sampling import (
    balanced,
    balancing_weights,
    drawn,
    expected_draws,
    numbered,
    shuffled,
)
from deeplense_batch.data.shards import ShardError

__all__ = ["Draws"]

Indices = NDArray[np.int64]


class Draws:
    """The samples of an epoch, a function of (seed, epoch).

    Arguments:
        images: That are trained on.
        trainable: Those that have what is learnt, (N,); the others are never drawn.
        balance: ``train.balance`` of the recipe.

    Raises:
        ShardError: A set of a mixture is never drawn.
    """

    def __init__(
        self, images: Batches | Mixture, trainable: NDArray[np.bool_], balance: str
    ) -> None:
        self._targets, self._trainable = images.targets.cpu().numpy(), trainable
        self._balance = balance
        #: Whether every epoch is of other images, whose order then matters no more.
        self._is_new = isinstance(images, Batches) and images.is_new
        self._sets: list[Indices] = []  # places of the samples of each set that is drawn by weight
        self._shares: list[float] = []
        if isinstance(images, Mixture) and len(images.members) > 1:
            self._share_out(images)

    def __len__(self) -> int:
        """Samples that an epoch draws; of one set a class-balanced sampler may draw fewer."""
        return int(self._trainable.sum())

    def order(self, *, seed: int, epoch: int) -> Indices:
        """What an epoch draws, in order, (N,) int64, for the batches of its images.

        Of one set samples; of several numbers of draws (`sampling.numbered`), so that an image
        that is drawn again is changed in another way.
        """
        if self._is_new:  # of classes equally often; one order, so that the next epoch is known
            return shuffled(len(self._targets), seed=seed, epoch=0)
        is_balanced = self._balance == "sampler"
        if self._sets:
            targets = self._targets if is_balanced else None
            samples = drawn(self._sets, self._shares, seed=seed, epoch=epoch, targets=targets)
            return numbered(samples, len(self._targets))
        samples = (
            balanced(self._targets, seed=seed, epoch=epoch)
            if is_balanced
            else shuffled(len(self._targets), seed=seed, epoch=epoch)
        )
        return samples[self._trainable[samples]]

    def class_weights(self) -> NDArray[np.float32]:
        """Weights of the samples that give every class the same sum over an epoch, (N,)."""
        if not self._sets:
            return balancing_weights(self._targets)
        often = expected_draws(self._sets, self._shares, len(self._targets))
        return balancing_weights(self._targets, often)

    def _share_out(self, mixture: Mixture) -> None:
        if mixture.by_size and self._balance != "sampler":
            return  # every image once, as of one set
        of_sets = np.split(np.arange(len(mixture)), np.cumsum(mixture.sizes)[:-1])
        self._sets = [places[self._trainable[places]] for places in of_sets]
        lengths = [float(len(own)) for own in self._sets]
        self._shares = lengths if mixture.by_size else [*mixture.weights]
        for member, own in zip(mixture.members, self._sets, strict=True):
            if not len(own):
                raise ShardError(
                    f"{member.info.files[0].parent}: none of its images has what is learnt; leave "
                    "it out of data.roots"
                )
