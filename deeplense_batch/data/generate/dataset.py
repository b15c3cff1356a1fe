"""Make a set of images, or one's part of it, and go on with one that was cut off.

A shard is the same whoever makes it, so that processes can share a set.

A complete folder holds its shards and ``manifest.json``, written last: the generator with all its
settings, seed, counts, faults kept on purpose, and versions. The truth of each image is stored
beside it, with ``index``, from which its random numbers come.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

import deeplense_batch
from deeplense_batch.core.pieces import Progress
from deeplense_batch.core.rundir import RunDir
from deeplense_batch.data.formats.counted import counted
from deeplense_batch.data.generate.generator import (
    GeneratedBatch,
    GroupedGenerator,
    ImageGenerator,
    PairedGenerator,
    made_in_order,
)
from deeplense_batch.data.generate.partial_dataset import PartialDataset, Shard, clear
from deeplense_batch.data.shards import ShardError, data_digest
from deeplense_batch.data.writer import stratified_order

__all__ = ["GenerateReport", "generate_dataset"]


_Batch = tuple[Shard, list[int], GeneratedBatch]  # its shard, and the indices of its images


@dataclass(frozen=True)
class GenerateReport:
    """What `generate_dataset` wrote."""

    root: Path
    about: str
    counts: Mapping[str, Mapping[str, int]]  # split -> class -> images
    known_faults: tuple[str, ...]  # faults that the images have on purpose
    part: int  # images of this process's part
    made: int  # of them or of others, by this process
    seconds: float
    digest: str | None  # None while shards are missing that others make
    missing: int = 0  # shards

    def __str__(self) -> str:
        images = sum(sum(classes.values()) for classes in self.counts.values())
        rate = f"{self.seconds:.1f} s, {self.made / max(self.seconds, 1e-9):.0f} images/s"
        made = rate if self.made else "all of this part was there already"
        if self.made not in (0, images):
            made = f"{self.made} of them made by this process, {rate}"
        files = counted(self.missing, "file of other parts is", "files of other parts are")
        missing = f"not complete: {files} missing"
        state = f"data {self.digest}" if self.digest else missing
        lines = [f"{counted(images, 'image')} of {self.about} in {self.root}, {made}, {state}"]
        for split, classes in self.counts.items():
            in_class = ", ".join(
                f"{count} {name or 'unlabelled'}" for name, count in classes.items()
            )
            lines.append(f"  {split}: {sum(classes.values())} ({in_class})")
        if self.known_faults:
            lines.append("  unphysical on purpose; manifest.json names the faults")
        return "\n".join(lines)


def generate_dataset(
    verb: str,
    generator: ImageGenerator,
    kind: str,
    counts: Mapping[str, Mapping[str, int]],
    root: Path,
    *,
    seed: int,
    shard_size: int,
    part: int,
    parts: int,
    on_batch: Callable[[], None],
) -> GenerateReport:
    """Make a set of images, or one's part of it; go on with it if it was cut off.

    Arguments:
        verb: Of the command that makes it; the shards name it as their source.
        generator: Makes the images.
        kind: Name of the generator, for the manifest.
        counts: Images by split and class.
        root: Folder of the shards.
        seed: Of every random number.
        shard_size: Images in a shard.
        part, parts: Which part of the shards this process makes, from 0, and how many there are.
        on_batch: Called after each batch; what it raises ends the work, to go on later.

    Raises:
        ShardError: An argument is not one of those possible, or `root` holds another set.
    """
    started = time.perf_counter()
    plan = _Plan(verb, generator, kind, counts, seed, shard_size)
    _check_part(kind, part, parts)
    own = [*plan.shards][part::parts]
    made, missing = 0, 0
    if not _is_complete(root, plan.content):
        _check_parts(parts, len(plan.shards))
        finish = partial(_write_manifest, root, plan.content, started)
        work = PartialDataset(root, plan=plan.content, shards=[*plan.shards], finish=finish)
        maker = _ShardMaker(work, plan, on_batch)
        work.complete(own, maker.make, on_batch)
        made, missing = maker.made, len(work.missing())
    if complete := _is_complete(root, plan.content):
        clear(root)  # what a process that was killed had no more time to
    return GenerateReport(
        root=root,
        about=generator.about,
        counts=counts,
        known_faults=generator.known_faults,
        part=sum(len(plan.shards[shard]) for shard in own),
        made=made,
        seconds=time.perf_counter() - started,
        digest=data_digest(root) if complete else None,
        missing=0 if complete else missing,
    )


def _check_part(kind: str, part: int, parts: int) -> None:
    if not 0 <= part < parts:
        raise ShardError(f"{kind}: part: expected 0 to {parts - 1}, of {parts}; got {part}")


def _check_parts(parts: int, files: int) -> None:
    if parts > files:
        raise ShardError(
            f"simulate: parts: {parts} of {files} files; a part makes one or more: ask for fewer "
            "parts or a smaller shard_size"
        )


@dataclass(frozen=True)
class _Plan:
    """Which images a set has, and in which files they go."""

    verb: str
    generator: ImageGenerator
    kind: str
    counts: Mapping[str, Mapping[str, int]]
    seed: int
    shard_size: int

    @property
    def _grouped(self) -> GroupedGenerator | None:
        return self.generator if isinstance(self.generator, GroupedGenerator) else None

    @cached_property
    def content(self) -> dict[str, Any]:
        """What ``plan.json`` and the manifest say of the set."""
        content: dict[str, Any] = {
            "kind": self.kind,
            "seed": self.seed,
            "shard_size": self.shard_size,
            "counts": self.counts,
            "slips": self.generator.known_faults,
        }
        content |= self.generator.described()
        return json.loads(json.dumps(content))  # as it will be read again

    @cached_property
    def shards(self) -> dict[Shard, list[int]]:
        """Indices of the images of each shard, in the order in which they are read."""
        shards = {}
        for split, of_class in self.counts.items():
            order = self._order(split, of_class)
            for number, first in enumerate(range(0, len(order), self.shard_size)):
                shards[split, number] = order[first : first + self.shard_size]
        return shards

    @cached_property
    def writer_options(self) -> dict[str, Any]:
        """How the writer of each shard is made."""
        paired = self.generator if isinstance(self.generator, PairedGenerator) else None
        made_by = f"deeplense_batch {deeplense_batch.__version__}"
        return {
            "shape": self.generator.shape,
            "stored": self.generator.stored,
            "dtype": self.generator.dtype,
            "classes": self.generator.classes,
            "source": f"{self.verb} {self.generator.about}, {made_by}",
            "seed": self.seed,
            "pixel_scale": self.generator.pixel_scale,
            "bands": self.generator.bands,
            "group": self._grouped.group if self._grouped else "",
            "shard_size": self.shard_size,
            "inputs_dtype": paired.inputs_dtype if paired else None,
        }

    def _order(self, split: str, of_class: Mapping[str, int]) -> list[int]:
        """Indices of the images of a split in the order in which they are read.

        Image j of class c of K has the index j K + c; those of a class that has run out stay
        unused.
        """
        counts = list(of_class.values())
        classes = len(counts)
        indices = [i for i in range(classes * max(counts)) if i // classes < counts[i % classes]]
        grouped = self._grouped
        groups = grouped.groups(split, indices, seed=self.seed) if grouped else None
        order = stratified_order([i % classes for i in indices], self.seed, groups)
        return [indices[i] for i in order]


@dataclass
class _ShardMaker:
    """Makes shards that nobody else has made meanwhile, and counts their images."""

    work: PartialDataset
    plan: _Plan
    on_batch: Callable[[], None]
    made: int = 0

    def make(self, shards: Sequence[Shard]) -> None:
        images = self.plan.shards
        total = sum(len(images[shard]) for shard in shards)
        with (
            Progress("made", total) as progress,
            contextlib.closing(self._batches(shards)) as made,
        ):
            for first in made:
                shard = first[0]
                more = -(-len(images[shard]) // self.plan.generator.batch) - 1
                batches = chain([first], islice(made, more))
                try:
                    self._write(shard, batches, progress)
                except FileNotFoundError:
                    if self.work.missing():
                        raise
                    deque(batches, 0)  # another process made this one too, and completed the set
                    continue
                self.made += len(images[shard])
            progress.advance(total - progress.count)  # what others made meanwhile

    def _batches(self, shards: Sequence[Shard]) -> Generator[_Batch, None, None]:
        """The batches of those shards that nobody else has made when their turn comes."""
        asked: deque[tuple[Shard, list[int]]] = deque()

        def ask() -> Iterator[tuple[str, list[int]]]:
            step = self.plan.generator.batch
            for shard in shards:
                indices = self.plan.shards[shard]
                if shard not in self.work.missing():
                    continue
                for first in range(0, len(indices), step):
                    asked.append((shard, indices[first : first + step]))
                    yield shard[0], indices[first : first + step]

        made = made_in_order(self.plan.generator, ask(), seed=self.plan.seed)
        with contextlib.closing(made):
            for batch in made:
                yield *asked.popleft(), batch

    def _write(
        self,
        shard: Shard,
        batches: Iterable[_Batch],
        progress: Progress,
    ) -> None:
        with self.work.writing(shard, **self.plan.writer_options) as writer:
            for _, indices, made in batches:
                targets, ids = self._labels(shard[0], indices)
                writer.append(
                    made.images, targets=targets, ids=made.ids or ids, scale=made.scale,
                    truth=made.truth, catalogue=made.catalogue, digests=made.digests,
                    pairs=made.pairs,
                )  # fmt: skip
                progress.advance(len(indices))
                self.on_batch()

    def _labels(self, split: str, indices: Sequence[int]) -> tuple[list[int], list[str]]:
        """Class numbers, -1 without classes, and ids of some images."""
        generator = self.plan.generator
        names = generator.classes or ("",)
        targets, ids = [], []
        for index in indices:
            number, target = divmod(index, len(names))
            targets.append(target if generator.classes else -1)
            ids.append(f"{generator.folders.format(split=split, name=names[target])}/{number}")
        return targets, ids


def _is_complete(root: Path, plan: Mapping[str, Any]) -> bool:
    """Whether a folder holds just the set that is planned."""
    try:
        manifest = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and all(manifest.get(k) == v for k, v in plan.items())


def _write_manifest(root: Path, plan: Mapping[str, Any], started: float) -> None:
    manifest = dict(plan) | {
        "data": data_digest(root),
        "seconds": round(time.perf_counter() - started, 3),
        "versions": {
            "deeplense_batch": deeplense_batch.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }
    RunDir(root).write_json("manifest.json", manifest)
