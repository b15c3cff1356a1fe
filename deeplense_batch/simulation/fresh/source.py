"""Simulated images by epoch and number, made in the order in which a training asks for them.

Image j of epoch e, counted from 0, is the image (e + 1) S + j of its simulation, with S the images
of an epoch rounded up to whole rounds of the classes. It is a function of (seed, e, j) alone,
whoever makes it and whatever was made before, so that processes share an epoch as they like and a
training goes on where it was cut off.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Sequence
from itertools import count

import numpy as np

from deeplense_batch.data.batches.reader import Indices
from deeplense_batch.data.encoding import Array
from deeplense_batch.data.generate import GeneratedBatch
from deeplense_batch.data.pairs.pair_arrays import PairArrays
from deeplense_batch.simulation.substructure import Substructure

__all__ = ["Source", "seed_of"]

_SPLIT = "train"


class Source:
    """New images for every epoch.

    Batches that are asked for in order are made in order, on a GPU ahead of their use; epochs that
    ask for the same numbers follow each other without a pause.

    Arguments:
        made_by: Makes the images.
        images: Of an epoch.
        seed: Of the training.
    """

    def __init__(self, made_by: Substructure, *, images: int, seed: int) -> None:
        self.made_by, self.images = made_by, images
        self._seed = seed_of(seed)
        classes = max(len(made_by.drawn_classes), 1)
        self._stride = -(-images // classes) * classes
        self._stream: Generator[GeneratedBatch, None, None] | None = None
        self._asked: Sequence[Indices] = ()
        self._due = (0, 0)  # epoch, and place in `_asked`, of what the stream makes next
        self._last: tuple[int, Indices, GeneratedBatch] | None = None

    def made(self, epoch: int, asked: Sequence[Indices], place: int) -> GeneratedBatch:
        """Some images of an epoch.

        Arguments:
            epoch: Counted from 0.
            asked: Numbers of the images of each batch that the epoch asks for, (B,) int64.
            place: Which of the batches is wanted.
        """
        numbers = asked[place]
        if self._last is not None:  # the companions of a pair ask for it once more
            last_epoch, last, made = self._last
            if last_epoch == epoch and np.array_equal(last, numbers):
                return made
        if self._stream is None or self._due != (epoch, place) or not self._is_same(asked):
            self.close()
            self._stream = self.made_by.stream(self._pieces(epoch, asked, place), seed=self._seed)
        self._asked = asked
        parts = [next(self._stream) for _ in self._parts(numbers)]
        self._due = (epoch, place + 1) if place + 1 < len(asked) else (epoch + 1, 0)
        made = _joined(parts)
        self._last = epoch, numbers, made
        return made

    def close(self) -> None:
        """End the stream and give up what was made ahead."""
        if self._stream is not None:
            self._stream.close()
        self._stream, self._last = None, None

    def _is_same(self, asked: Sequence[Indices]) -> bool:
        """Whether an epoch asks for what the one before asked for."""
        if asked is self._asked:
            return True
        return len(asked) == len(self._asked) and all(map(np.array_equal, asked, self._asked))

    def _pieces(
        self, epoch: int, asked: Sequence[Indices], place: int
    ) -> Iterator[tuple[str, Sequence[int]]]:
        """What is made, from a place of an epoch on; of the epochs after it the same, no end."""
        for e in count(epoch):
            for numbers in asked[place if e == epoch else 0 :]:
                for part in self._parts(numbers):
                    yield _SPLIT, ((e + 1) * self._stride + part).tolist()

    def _parts(self, numbers: Indices) -> list[Indices]:
        return np.array_split(numbers, -(-len(numbers) // self.made_by.batch))


def seed_of(seed: int) -> int:
    """The seed of the simulation: one that no set has which somebody made with a seed of his own.

    Arguments:
        seed: Of the training.
    """
    digest = hashlib.sha256(f"data.simulate {seed}".encode()).digest()
    return int.from_bytes(digest[:8], "little") | 1 << 64


def _joined(parts: Sequence[GeneratedBatch]) -> GeneratedBatch:
    """Several batches as one."""
    if len(parts) == 1:
        return parts[0]
    scales = [part.scale for part in parts if part.scale is not None]
    pairs = [part.pairs for part in parts if part.pairs is not None]
    truth = {name: np.concatenate([part.truth[name] for part in parts]) for name in parts[0].truth}
    return GeneratedBatch(
        images=np.concatenate([part.images for part in parts]),
        scale=np.concatenate(scales) if scales else None,
        truth=truth,
        pairs=_joined_pairs(pairs) if pairs else None,
    )


def _joined_pairs(parts: Sequence[PairArrays]) -> PairArrays:
    def joined(values: Sequence[Array | None]) -> Array | None:
        known = [value for value in values if value is not None]
        return np.concatenate(known) if known else None

    return PairArrays(
        np.concatenate([part.inputs for part in parts]),
        joined([part.inputs_scale for part in parts]),
        joined([part.clean for part in parts]),
    )
