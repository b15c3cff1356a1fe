"""One attempt at packing: every image of a source to shards, in one storage.

Reading and encoding use all cores, and are taken in order: two attempts at one source write the
same shards.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Self

import numpy as np
from tqdm import tqdm

from deeplense_batch.core.machine import cores
from deeplense_batch.data.encoding import Array
from deeplense_batch.data.packing.parallel import map_in_order
from deeplense_batch.data.packing.storage import (
    Bad,
    ImageRecord,
    Shape,
    Storage,
    convert,
    first_storage,
)
from deeplense_batch.data.sources.doubts import Doubt
from deeplense_batch.data.sources.sources import Sample, Source
from deeplense_batch.data.writer import ShardWriter, stratified_order

__all__ = ["Attempt"]

_CHUNK = 32  # images of one task: enough to make its own cost small
_MOST_PROCESSES = 8  # beyond, they wait for the one that writes
_LOG_SECONDS = 10.0

_log = logging.getLogger(__name__)


@dataclass
class _Chunk:
    """What is known of the images of a block, and of those that are not there."""

    packed: list[tuple[int, ImageRecord]] = field(default_factory=list)  # number in the split
    bad: list[Bad] = field(default_factory=list)
    wider: Storage | None = None  # an image needs this one: begin again


@dataclass
class Attempt:
    """Pack a source in one storage, until an image needs another.

    Used as a context manager: leaving it without `publish` removes what was written.
    """

    source: Source
    storage: Storage
    writer: Callable[[str, Storage], ShardWriter]  # for the name of a split
    seed: int
    skip_bad: bool

    bad: list[Bad] = field(default_factory=list)
    contents: dict[bytes, list[Sample]] = field(default_factory=dict)  # samples of equal images
    ranges: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    doubts: list[tuple[Sample, Doubt]] = field(default_factory=list)
    masked: list[int] = field(default_factory=list)  # pixels, of each image that has any
    _writers: dict[str, ShardWriter] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def run(self) -> Storage | None:
        """Read all images, and write them under temporary names while none is bad.

        `bad` lists the bad ones, `contents` groups the samples by image, and `ranges` holds the
        least and the greatest value and the largest error of each split that has a good image;
        `doubts` lists values that are probably no light.

        Returns:
            None, or the storage to begin again with.
        """
        total = sum(map(len, self.source.splits.values()))
        with _progress(total) as advance:
            for split in self.source.splits:
                with closing(self._convert(split)) as chunks:
                    for chunk, block in chunks:
                        if chunk.wider is not None:
                            return chunk.wider
                        self._take(split, chunk, block)
                        advance(len(chunk.packed) + len(chunk.bad))
        if (shape := self._usual_shape()) != self.storage.shape:
            return first_storage(self.source, self.storage.asked, shape=shape)
        return None

    def finish(self) -> list[str]:
        """Finish the shards of all splits; gives the names that they will have."""
        for writer in self._writers.values():
            writer.finish()
        return [name for writer in self._writers.values() for name in writer.names()]

    def publish(self) -> None:
        """Give the shards of all splits their final names."""
        for writer in self._writers.values():
            writer.publish()

    def _convert(self, split: str) -> Generator[tuple[_Chunk, Array], None, None]:
        """Images of a split in packed order."""
        samples = self.source.splits[split]
        order = stratified_order([sample.target for sample in samples], self.seed)
        self.source.hold(split)

        def work(task: int, block: Array) -> _Chunk:
            chunk = _Chunk()
            for i in order[task * _CHUNK : (task + 1) * _CHUNK].tolist():
                outcome = convert(self.source, samples[i], self.storage)
                if isinstance(outcome, Storage):
                    chunk.wider = outcome
                    break
                if isinstance(outcome, Bad):
                    chunk.bad.append(outcome)
                else:
                    block[len(chunk.packed)] = outcome.stored
                    chunk.packed.append((i, outcome.facts))
            return chunk

        return map_in_order(
            work,
            -(-len(order) // _CHUNK),
            processes=min(cores(), _MOST_PROCESSES),
            shape=(_CHUNK, *self.storage.shape),
            dtype=self.storage.stored[split],
        )

    def _take(self, split: str, chunk: _Chunk, block: Array) -> None:
        self.bad += chunk.bad
        if not chunk.packed:
            return
        samples = [self.source.splits[split][i] for i, _ in chunk.packed]
        facts = [facts for _, facts in chunk.packed]
        for sample, one in zip(samples, facts, strict=True):
            self.contents.setdefault(one.content, []).append(sample)
            self.doubts += [(sample, doubt) for doubt in one.doubts]
            self.masked += [one.masked] if one.masked else []
        least, most, error = self.ranges.get(split, (inf, -inf, 0.0))
        self.ranges[split] = (
            min(least, *(one.least for one in facts)),
            max(most, *(one.most for one in facts)),
            max(error, *(one.error for one in facts)),
        )
        if self.bad and not self.skip_bad:
            return
        if split not in self._writers:
            self._writers[split] = self._stack.enter_context(self.writer(split, self.storage))
        scales = [one.scale for one in facts if one.scale is not None]
        masses = np.array([one.axion_mass_ev for one in facts])
        self._writers[split].append(
            block[: len(samples)],
            targets=[sample.target for sample in samples],
            ids=[sample.id for sample in samples],
            scale=np.array(scales) if scales else None,
            truth={"axion_mass_ev": masses} if self.storage.masses else None,
            digests=[one.digest for one in facts],
        )

    def _usual_shape(self) -> Shape:
        good = sum(map(len, self.contents.values()))
        shapes = Counter[Shape]({self.storage.shape: good})
        shapes.update(bad.shape for bad in self.bad if bad.shape)
        return shapes.most_common(1)[0][0]


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], object]]:
    """A bar on a terminal, a line in the log now and then elsewhere."""
    if sys.stderr.isatty():
        with tqdm(total=total, unit="image", leave=False) as bar:
            yield bar.update
    else:
        yield _Lines(total).advance


@dataclass
class _Lines:
    total: int
    done: int = 0
    started: float = field(default_factory=time.monotonic)
    logged: float = field(default_factory=time.monotonic)

    def advance(self, images: int) -> None:
        self.done += images
        now = time.monotonic()
        if now - self.logged >= _LOG_SECONDS:
            self.logged = now
            rate = self.done / (now - self.started)
            _log.info("packed %d of %d images, %.0f images/s", self.done, self.total, rate)
