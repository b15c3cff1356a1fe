"""Several sets of shards as one training set: batches of images of all of them.

A sample is known by its place in the sets one after another. A draw of it in an epoch has a number
of its own (`sampling.numbered`): that of the first is the place. What becomes of a sample is a
function of (seed, epoch, draw), so that no two sets and no two draws share their random changes,
and batches are the same for any number of processes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeplense_batch.core.job import Augment
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.batches.reader import Indices
from deeplense_batch.data.batches.sampling import each_once, shared_out
from deeplense_batch.data.pixels.transform import Transform, measure
from deeplense_batch.data.shards import SplitInfo

__all__ = ["Mixture"]

_NOTHING = Augment()


class Mixture:
    """Batches of several slices, with what a `Loader` of one offers.

    Each of them keeps its images where there is room for them after those before it.

    Arguments:
        members: The slices, of one device and transform; of the same classes and channels, and
            after the transform of one size.
        weights: How many images of each are drawn, beside those of the others; empty for as many
            as it has.
        info: What the images are as a network sees them.
    """

    def __init__(
        self, members: Sequence[Loader], weights: Sequence[float], info: SplitInfo
    ) -> None:
        self.members, self.info = tuple(members), info
        self.weights = tuple(weights) or tuple(float(len(member)) for member in members)
        #: Whether every image is drawn once in an epoch.
        self.by_size = not weights
        self.sizes = tuple(len(member) for member in members)
        beside = [set(member.companions) for member in members]
        self.companions = {
            name: Mixture([member.companions[name] for member in members], weights, info)
            for name in sorted(set.intersection(*beside))
        }
        self.device = members[0].device
        self.targets = torch.cat([member.targets for member in members])
        known = set.intersection(*(set(member.truth) for member in members))
        self.truth = {
            name: np.concatenate([member.truth[name] for member in members])
            for name in members[0].truth
            if name in known
        }
        self._truth = {
            name: torch.from_numpy(values).float().to(self.device)
            for name, values in self.truth.items()
        }
        self._firsts = np.cumsum([0, *self.sizes[:-1]])

    def __len__(self) -> int:
        return sum(self.sizes)

    @property
    def transform(self) -> Transform:
        """What happens to every image."""
        return self.members[0].transform

    @transform.setter
    def transform(self, transform: Transform) -> None:
        for member in self.members:
            member.transform = transform

    @cached_property
    def ids(self) -> NDArray[np.str_]:
        """Names of the samples, (N,); those of two sets may be equal."""
        return np.concatenate([member.ids for member in self.members])

    def measured(self) -> Transform:
        """The transform with what it needs to know of the images, in the shares of an epoch.

        Raises:
            ShardError: The images are constant, or their sky is where its noise is needed.
        """
        return measure(self.transform, self)

    def representative(self, most: int, together: int) -> list[Indices]:
        """Batches of about so many images, `most` in all, that stand for those of an epoch.

        Each batch is of one set. A set that is drawn more often than it has images is repeated.
        """
        batches = []
        counts = shared_out(min(most, len(self)), self.weights)
        for member, first, count in zip(self.members, self._firsts, counts, strict=True):
            rounds, rest = divmod(count, len(member))
            for asked in [len(member)] * rounds + [rest] * bool(rest):
                batches += [first + b for b in member.representative(asked, together)]
        return batches

    def decoded(self, batches: Sequence[Indices]) -> Iterator[Tensor]:
        """Values as packed, and cropped, of each batch, which is of one set.

        Yields:
            (B, C, H, W) float32, on the device; sizes of two sets may differ.
        """
        of = [int(self._member_of(batch[:1])[0]) for batch in batches]
        with contextlib.ExitStack() as stack:
            streams = {}
            for m in sorted(set(of)):
                own = [b - self._firsts[m] for b, k in zip(batches, of, strict=True) if k == m]
                streams[m] = stack.enter_context(contextlib.closing(self.members[m].decoded(own)))
            for m in of:
                yield next(streams[m])

    def flat(self) -> NDArray[np.int64]:
        """Places of the images that are constant, as `Loader.flat`."""
        found = zip(self.members, self._firsts, strict=True)
        return np.concatenate([first + member.flat() for member, first in found])

    def batches(
        self,
        batches: Iterable[Indices],
        augment: Augment = _NOTHING,
        *,
        seed: int = 0,
        epoch: int = 0,
    ) -> Generator[tuple[Tensor, Tensor, Tensor], None, None]:
        """Make batches, as `Loader.batches`.

        Arguments:
            batches: Numbers of the draws of each batch, (B,) int64: the place of a sample, and
                the number of all samples more for each time that it was drawn before.
            augment: Random changes, a function of (seed, epoch, draw).
            seed: Seed of the run.
            epoch: Number of the epoch.

        Yields:
            Images (B, C, H, W) float32, targets (B,) int64, and their places (B,) int64.
        """
        draws = list(batches)
        if not draws:
            return
        asked = [numbers % len(self) for numbers in draws]
        members = [self._member_of(batch) for batch in asked]
        # The images of a batch come set by set; where in that order each one is. All of them are
        # sent at once, since the host waits for the device whenever it sends it something.
        back = [np.argsort(np.argsort(of, kind="stable")) for of in members]
        sizes = [len(batch) for batch in asked]
        index, order = (
            torch.from_numpy(np.concatenate(each)).to(self.device).split(sizes)
            for each in (asked, back)
        )
        with contextlib.ExitStack() as stack:
            streams = []
            for m, (member, first) in enumerate(zip(self.members, self._firsts, strict=True)):
                own, keys = (
                    [part for b, of in zip(each, members, strict=True) if len(part := b[of == m])]
                    for each in (asked, draws)
                )
                own = [part - first for part in own]
                made = member.batches(own, augment, seed=seed, epoch=epoch, keys=keys)
                streams.append(stack.enter_context(contextlib.closing(made)))
            for of, places, by_set in zip(members, index, order, strict=True):
                parts = [next(streams[m])[0] for m in np.unique(of).tolist()]
                images = parts[0] if len(parts) == 1 else torch.cat(parts).index_select(0, by_set)
                yield images, self.targets.index_select(0, places), places

    def truth_of(self, index: Tensor) -> dict[str, Tensor]:
        """Truth of some samples, (B, ...) float32 by name, on the device."""
        return {name: values.index_select(0, index) for name, values in self._truth.items()}

    def close(self) -> None:
        """Give up what only further batches would use."""
        for member in self.members:
            member.close()

    def in_order(self, *, rank: int, world: int) -> Iterator[Indices]:
        """Every world-th sample from `rank` on, once, in batches; nothing is padded."""
        return each_once(len(self), rank=rank, world=world)

    def _member_of(self, places: Indices) -> Indices:
        """Number of the set of each sample."""
        return np.searchsorted(self._firsts, places, side="right") - 1
