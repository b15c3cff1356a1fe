"""Simulate a set of images, straight into shards, by one process or many.

A kind of set says what its images are (`substructure`); this file gives each its place and its
name, and makes the set shard by shard (`parts`). A shard is the same whoever makes it, so that
processes can share a set, and one that was killed goes on where it stopped.

A folder simulated to the end holds its shards and ``manifest.json``, written last: the kind with
all its laws, seed, counts, faults kept on purpose, and versions. The truth of each image is stored
beside it, with ``index``, from which its random numbers come.
"""

from __future__ import annotations

import inspect
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import deeplense_batch
from deeplense_batch.data.kind import Kind
from deeplense_batch.data.lens_finding import LensFinding
from deeplense_batch.data.parts import Parts, clear
from deeplense_batch.data.shards import ShardError, data_digest
from deeplense_batch.data.substructure import Diffusion, Substructure, SuperResolution
from deeplense_batch.data.writer import ShardWriter, stratified_order
from deeplense_batch.job import nearest
from deeplense_batch.rundir import RunDir

__all__ = ["KINDS", "SimulateReport", "check", "make_set", "simulate"]

KINDS: dict[str, Callable[..., Kind]] = {
    "substructure": Substructure,
    "lens_finding": LensFinding,
    "diffusion": Diffusion,
    "super_resolution": SuperResolution,
}

_LOG_SECONDS = 10.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SimulateReport:
    """What `simulate` wrote."""

    root: Path
    about: str
    counts: Mapping[str, Mapping[str, int]]  # split -> class -> images
    slips: tuple[str, ...]  # faults that the images have on purpose
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
        if self.slips:
            lines.append("  unphysical on purpose; manifest.json names the faults")
        return "\n".join(lines)


def simulate(
    kind: str,
    out: Path | str,
    *,
    images: int = 600,
    seed: int = 0,
    shard_size: int = 2048,
    part: int = 0,
    parts: int = 1,
    each: Callable[[], None] = lambda: None,
    **options: Any,
) -> SimulateReport:
    """Simulate a labelled set into a folder of shards; go on with it if it was cut off.

    Arguments:
        kind: What to simulate, of `KINDS`.
        out: Folder of the shards; made if missing, refused if it holds other ones.
        images: Images of all splits together; classes are equal to one image.
        seed: Seed of every random number.
        shard_size: Images in a shard.
        part: Which part of the shards this process makes, from 0.
        parts: Into how many parts they are divided. Who finds all shards made completes the set.
        each: Called after every few images; what it raises ends the simulation, to go on later.
        options: Of the kind: ``preset``, ``set_``, ``size`` and ``device`` of `Substructure`.

    Raises:
        ShardError: An argument is not one of those possible, or `out` holds other shards, or
            those of another simulation that is not complete. Nothing has been computed then.
    """
    _check_numbers(images=images, seed=seed, shard_size=shard_size, parts=parts)
    content, counts = check(kind, images=images, **options)
    return make_set(
        "simulate", content, kind, counts, Path(out), seed=seed, shard_size=shard_size, part=part,
        parts=parts, each=each,
    )  # fmt: skip


def make_set(
    verb: str,
    content: Kind,
    kind: str,
    counts: Mapping[str, Mapping[str, int]],
    root: Path,
    *,
    seed: int,
    shard_size: int,
    part: int,
    parts: int,
    each: Callable[[], None],
) -> SimulateReport:
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
    plan |= {"slips": content.slips} | content.described()
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
        work = Parts(root, plan=plan, shards=shards)
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
    return SimulateReport(
        root=root,
        about=content.about,
        counts=counts,
        slips=content.slips,
        made=made,
        seconds=time.perf_counter() - started,
        digest=data_digest(root) if complete else None,
        missing=0 if complete else len(work.missing()),
    )


def check(kind: str, *, images: int, **options: Any) -> tuple[Kind, dict[str, dict[str, int]]]:
    """Find out what would be made: its kind, and images by split and class.

    Raises:
        ShardError: As `simulate`, of the arguments.
    """
    if kind not in KINDS:
        raise ShardError(f"simulate: KIND: got '{kind}'; {nearest(kind, KINDS)}")
    takes = {name: set(inspect.signature(made).parameters) for name, made in KINDS.items()}
    for name in options:
        if name not in takes[kind]:
            others = ", ".join(one for one, known in takes.items() if name in known) or "none"
            flag = name.removesuffix("_")
            raise ShardError(
                f"simulate: --{flag}: is not for a set of kind {kind}; it is for {others}"
            )
    content = KINDS[kind](**options)
    return content, content.counts(images)


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


def _form(verb: str, content: Kind, seed: int, shard_size: int) -> dict[str, Any]:
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
    work: Parts,
    content: Kind,
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
    content: Kind,
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


def _check_numbers(**given: object) -> None:
    ranges = {"images": (1, 10**7), "seed": (0, 2**63 - 1)}
    for name, value in given.items():
        least, most = ranges.get(name, (1, 10**9))
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ShardError(
                f"simulate: {name}: expected a whole number from {least} to {most}; got {value!r}"
            )


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
