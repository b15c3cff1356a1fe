"""A set of images made shard by shard, by any number of processes, and joined when all are there.

What its images are, an `ImageGenerator` says: a simulation, or a network that draws.

::

    <root>/.parts/
      plan.json               what the set will be; another plan is refused
      train-00003.h5          a shard that is complete, a split of its own
      train-00004.<process>/  one in work; left by a process that was killed, it is made anew

A shard is the same whoever makes it, so that processes can share a set. Who finds all shards
complete joins them: the attributes of the whole split are written into each, and they get their
final names. That may be broken off and done again as well.

A complete folder holds its shards and ``manifest.json``, written last: the generator with all its
settings, seed, counts, faults kept on purpose, and versions. The truth of each image is stored
beside it, with ``index``, from which its random numbers come.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

import deeplense_batch
from deeplense_batch.core.files import is_gone
from deeplense_batch.core.rundir import RunBusyError, RunDir
from deeplense_batch.data.digest import DamagedError, describe_split
from deeplense_batch.data.encoding import Array
from deeplense_batch.data.shard_file import done_with, naming, writing
from deeplense_batch.data.shards import ShardError, data_digest
from deeplense_batch.data.writer import (
    ShardWriter,
    make_folder,
    refuse_packing,
    refuse_shards,
    stratified_order,
)

__all__ = [
    "GenerateReport",
    "GeneratedBatch",
    "ImageGenerator",
    "PartialDataset",
    "check_images",
    "clear",
    "generate_dataset",
]

_WAIT_SECONDS = 0.2
_log = logging.getLogger(__name__)
_LOG_SECONDS = 10.0


@dataclass(frozen=True)
class GeneratedBatch:
    """A batch of simulated images as shards hold them."""

    images: Array  # (n, C, H, W), stored form
    scale: NDArray[np.float64] | None  # (n, C), beside counts
    truth: Mapping[str, NDArray[np.float64]]  # (n, ...) by name


class ImageGenerator(Protocol):
    """A set, but for how many images, and for the seed."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of their numbers; none without labels."""

    @property
    def folders(self) -> str:
        """Folder of the images of one ``{split}`` and class ``{name}`` in the public layout."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W of an image."""

    @property
    def stored(self) -> np.dtype:
        """Type in which shards hold the images."""

    @property
    def dtype(self) -> np.dtype:
        """Type of their values."""

    @property
    def batch(self) -> int:
        """Images that are best made at once."""

    @property
    def pixel_scale(self) -> float:
        """Width of a pixel, arcsec."""

    @property
    def about(self) -> str:
        """What the images come from, in a few words."""

    @property
    def known_faults(self) -> tuple[str, ...]:
        """Faults that the images have on purpose."""

    def counts(self, images: int) -> dict[str, dict[str, int]]:
        """Images of each class in each split.

        Raises:
            ShardError: Too few.
        """

    def described(self) -> dict[str, Any]:
        """All settings that an image depends on, as JSON."""

    def make(self, split: str, indices: Sequence[int], *, seed: int) -> GeneratedBatch:
        """Simulate images. Image j of class c of K has the index j K + c; it is a function of
        (seed, split, index) alone.
        """


def check_images(kind: ImageGenerator, splits: int, images: int) -> None:
    """Make sure that there is an image of each class in each split.

    Raises:
        ShardError: There are too few.
    """
    least = splits * len(kind.classes)
    if images < least:
        raise ShardError(
            f"simulate: images: expected a whole number from {least}, one of each class in each "
            f"split; got {images}"
        )


def clear(root: Path) -> None:
    """Remove what is of no use any more when a set is complete."""
    done_with(root)
    (root / ".parts" / "plan.json").unlink(missing_ok=True)  # without it the rest is nothing
    shutil.rmtree(root / ".parts", ignore_errors=True)


class PartialDataset:
    """The shards of a set in the making.

    Arguments:
        root: Folder of the set; made if missing.
        plan: What the set will be, as JSON. Who comes with another plan is refused.
        shards: How many shards each split will have.

    Raises:
        ShardError: Another set is in this folder, or was begun there, or it cannot be written to.
    """

    def __init__(self, root: Path, *, plan: Mapping[str, Any], shards: Mapping[str, int]) -> None:
        self.root = root
        self.shards = shards
        self.simulation = json.dumps(plan)
        self._folder = root / ".parts"
        self._run = RunDir(self._folder)
        if not (self._folder / "plan.json").exists():
            refuse_shards(root)
        make_folder(root)
        self._folder.mkdir(exist_ok=True)
        made = self._run.create_text("plan.json", json.dumps(plan, indent=1))
        try:
            refuse_packing(root)
        except ShardError:
            if made:
                shutil.rmtree(self._folder)
            raise
        self._sweep()
        if not made and self._run.read_json("plan.json") != plan:
            raise ShardError(
                f"{root}: another simulation was begun here and is not complete; go on with "
                f"that one, name another folder, or remove {self._folder}"
            )

    def _sweep(self) -> None:
        """Remove the shards that killed processes of this host had in work."""
        for left in self._folder.glob(f"*.{socket.gethostname()}.*"):
            pid = left.name.rpartition(".")[2]
            if left.is_dir() and pid.isdecimal() and is_gone(int(pid)):
                shutil.rmtree(left, ignore_errors=True)

    def missing(self) -> list[tuple[str, int]]:
        """Split and number of every shard that is not complete."""
        every = [(split, k) for split, count in self.shards.items() for k in range(count)]
        return [(split, k) for split, k in every if not self._found(split, k).exists()]

    @contextlib.contextmanager
    def writing(self, split: str, shard: int, **options: Any) -> Iterator[ShardWriter]:
        """Write one shard; it counts when the block has ended without an error.

        Arguments:
            split: Its split.
            shard: Its number.
            options: Of the `ShardWriter`.
        """
        folder = self._folder / f"{split}-{shard:05d}.{socket.gethostname()}.{os.getpid()}"
        try:
            with ShardWriter(folder, split=split, simulation=self.simulation, **options) as writer:
                yield writer
                writer.publish()
            (made,) = folder.glob("*.h5")
            made.replace(self._part(split, shard))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def join(self, finish: Callable[[], None], each: Callable[[], None]) -> list[tuple[str, int]]:
        """Make the set of its shards, once all are complete; one process does, others wait.

        Arguments:
            finish: Called when all shards have their final names.
            each: Called now and then.

        Returns:
            Shards that were damaged meanwhile and are removed, to be made anew; none where the set
            is complete, or shards are missing that others make.
        """
        while not self.missing():
            try:
                with self._run.claim():
                    return self._join(finish, each)
            except RunBusyError:  # at work on it, or it looked before our last shard was there
                each()
                time.sleep(_WAIT_SECONDS)
            except FileNotFoundError:  # the other is through and has cleared the folder
                return []
        return []

    def _join(self, finish: Callable[[], None], each: Callable[[], None]) -> list[tuple[str, int]]:
        final: dict[Path, Path] = {}
        for split, count in self.shards.items():
            paths = {self._found(split, k): (split, k) for k in range(count)}
            try:
                describe_split(list(paths), simulation=self.simulation, each=each)
            except DamagedError as error:
                _log.warning("%s; it is made anew", error)
                error.path.unlink()
                return [paths[error.path]]
            final |= {path: self._final(*shard) for path, shard in paths.items()}
        RunDir(self.root).sweep()
        with naming(self.root, [path.name for path in final.values()]):
            for path, name in final.items():
                path.replace(name)
            with writing(self.root / "manifest.json"):
                finish()
        clear(self.root)
        return []

    def _part(self, split: str, shard: int) -> Path:
        return self._folder / f"{split}-{shard:05d}.h5"

    def _final(self, split: str, shard: int) -> Path:
        return self.root / f"{split}-{shard:05d}-of-{self.shards[split]:05d}.h5"

    def _found(self, split: str, shard: int) -> Path:
        """Where a shard is or will be."""
        final = self._final(split, shard)
        return final if final.exists() else self._part(split, shard)


@dataclass(frozen=True)
class GenerateReport:
    """What `simulate` wrote."""

    root: Path
    about: str
    counts: Mapping[str, Mapping[str, int]]  # split -> class -> images
    known_faults: tuple[str, ...]  # faults that the images have on purpose
    made: int  # images that this process made
    seconds: float
    digest: str | None  # None while shards are missing that others make
    missing: int = 0  # shards

    def __str__(self) -> str:
        images = sum(sum(classes.values()) for classes in self.counts.values())
        rate = f"{self.seconds:.1f} s, {self.made / max(self.seconds, 1e-9):.0f} images/s"
        made = rate if self.made else "all of this part was there already"
        if self.made not in (0, images):
            made = f"{self.made} of them made by this process, {rate}"
        missing = f"not complete: {self.missing} files of other parts are missing"
        state = f"data {self.digest}" if self.digest else missing
        lines = [f"{images} images of {self.about} in {self.root}, {made}, {state}"]
        for split, classes in self.counts.items():
            each = ", ".join(f"{count} {name}" for name, count in classes.items())
            lines.append(f"  {split}: {sum(classes.values())} ({each})")
        if self.known_faults:
            lines.append("  unphysical on purpose; manifest.json names the faults")
        return "\n".join(lines)


def generate_dataset(
    verb: str,
    content: ImageGenerator,
    kind: str,
    counts: Mapping[str, Mapping[str, int]],
    root: Path,
    *,
    seed: int,
    shard_size: int,
    part: int,
    parts: int,
    each: Callable[[], None],
) -> GenerateReport:
    """Make a set of any kind, or one's part of it, as `simulate` does.

    Arguments:
        verb: What made it, for the shards.
        content: What its images are.
        kind: The name of that, in the manifest.
        counts: Images by split and class.
        root: Folder of the shards.
        seed, shard_size, part, parts, each: As in `simulate`.

    Raises:
        ShardError: As `simulate`.
    """
    started = time.perf_counter()
    if not 0 <= part < parts:
        raise ShardError(f"{kind}: part: expected 0 to {parts - 1}, of {parts}; got {part}")
    plan = {"kind": kind, "seed": seed, "shard_size": shard_size, "counts": counts}
    plan |= {"slips": content.known_faults} | content.described()
    plan = json.loads(json.dumps(plan))  # as it will be read again
    made = 0
    if not _is_complete(root, plan):
        orders = {split: _order(of_class, seed) for split, of_class in counts.items()}
        shards = {split: -(-len(order) // shard_size) for split, order in orders.items()}
        if parts > sum(shards.values()):
            raise ShardError(
                f"simulate: parts: {parts} of {sum(shards.values())} files; a part makes one or "
                "more: ask for fewer parts or a smaller shard_size"
            )
        work = PartialDataset(root, plan=plan, shards=shards)
        numbered = [(split, k) for split, count in shards.items() for k in range(count)]
        missing = set(work.missing())
        mine = [s for i, s in enumerate(numbered) if i % parts == part and s in missing]
        form = _form(verb, content, seed, shard_size)
        finish = partial(_write_manifest, root, plan, started)
        while True:
            chosen = {(s, k): orders[s][k * shard_size : (k + 1) * shard_size] for s, k in mine}
            made += _make(work, content, chosen, form, each)
            mine = work.join(finish, each)
            if not mine:
                break
    if complete := _is_complete(root, plan):
        clear(root)  # what a process that was killed had no more time to
    return GenerateReport(
        root=root,
        about=content.about,
        counts=counts,
        known_faults=content.known_faults,
        made=made,
        seconds=time.perf_counter() - started,
        digest=data_digest(root) if complete else None,
        missing=0 if complete else len(work.missing()),
    )


@dataclass
class _Progress:
    """A bar on a terminal, a line now and then in a log."""

    total: int
    done: int = 0
    _bar: tqdm = field(init=False)
    _started: float = field(default_factory=time.monotonic)
    _logged: float = field(default_factory=time.monotonic)

    def __enter__(self) -> _Progress:
        terminal = sys.stderr.isatty()
        self._bar = tqdm(total=self.total, unit="image", disable=not terminal, leave=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advance(self, images: int) -> None:
        self.done += images
        self._bar.update(images)
        now = time.monotonic()
        if self._bar.disable and (now - self._logged > _LOG_SECONDS or self.done == self.total):
            rate = self.done / max(now - self._started, 1e-9)
            _log.info("made %d of %d images, %.0f/s", self.done, self.total, rate)
            self._logged = now


def _order(of_class: Mapping[str, int], seed: int) -> list[int]:
    """Indices of the images of a split in the order in which they are read.

    Image j of class c of K has the index j K + c; those of a class that has run out stay unused.
    """
    counts = list(of_class.values())
    classes = len(counts)
    indices = [i for i in range(classes * max(counts)) if i // classes < counts[i % classes]]
    order = stratified_order([i % classes for i in indices], seed)
    return [indices[i] for i in order]


def _form(verb: str, content: ImageGenerator, seed: int, shard_size: int) -> dict[str, Any]:
    """How the writer of a shard is made."""
    return {
        "shape": content.shape,
        "stored": content.stored,
        "dtype": content.dtype,
        "classes": content.classes,
        "source": f"{verb} {content.about}, deeplense_batch {deeplense_batch.__version__}",
        "seed": seed,
        "pixel_scale": content.pixel_scale,
        "shard_size": shard_size,
    }


def _make(
    work: PartialDataset,
    content: ImageGenerator,
    chosen: Mapping[tuple[str, int], list[int]],
    form: Mapping[str, Any],
    each: Callable[[], None],
) -> int:
    """Make the shards that nobody else has made meanwhile; gives how many images that were."""
    made = 0
    with _Progress(sum(map(len, chosen.values()))) as progress:
        for (split, k), indices in chosen.items():
            if (split, k) not in work.missing():
                progress.advance(len(indices))
                continue
            try:
                with work.writing(split, k, **form) as writer:
                    for samples in _fill(writer, content, split, indices, form["seed"]):
                        progress.advance(samples)
                        each()
            except FileNotFoundError:
                if work.missing():
                    raise
                continue  # another process made this one too, and has completed the set
            made += len(indices)
    return made


def _fill(
    writer: ShardWriter,
    content: ImageGenerator,
    split: str,
    indices: list[int],
    seed: int,
) -> Iterator[int]:
    """Simulate one shard into its writer; yields how many images were made."""
    names = content.classes or ("",)
    for first in range(0, len(indices), content.batch):
        batch = indices[first : first + content.batch]
        made = content.make(split, batch, seed=seed)
        ids = []
        for i in batch:
            number, target = divmod(i, len(names))
            ids.append(f"{content.folders.format(split=split, name=names[target])}/{number}")
        writer.append(
            made.images,
            targets=[i % len(names) if content.classes else -1 for i in batch],
            ids=ids,
            scale=made.scale,
            truth=made.truth,
        )
        yield len(batch)


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
