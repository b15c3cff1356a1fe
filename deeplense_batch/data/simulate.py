"""Simulate a set of lens images, straight into shards.

`presets` says what is drawn, `scenes` traces the rays, and this file gives every image its stream
of random numbers, its name and its place. Image i of a split draws from a stream of its own, made
from (seed, number of the split, i), and is of class i modulo 3: it is the same image whatever
else is simulated, in whatever batches and shards, and a larger set holds a smaller one. (Another
processor may round the last bit otherwise, and then draws other noise.)

A folder simulated to the end holds ``train`` and ``val`` shards (4 : 1) and ``manifest.json``,
written last: preset with all its laws, seed, counts, faults kept on purpose, and versions. The
truth of each image is stored beside it by the names of `scenes`, with ``index``, its i.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import logging
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

import deeplense_batch
from deeplense_batch.data.encoding import COUNTS
from deeplense_batch.data.presets import CLASSES, PRESETS, Preset
from deeplense_batch.data.scenes import as_batch, draw_scene, observe, render
from deeplense_batch.data.shards import ShardError, data_digest
from deeplense_batch.data.writer import ShardWriter, refuse_shards, stratified_order

__all__ = ["KINDS", "SimulateReport", "simulate"]

KINDS = ("substructure",)

_SPLITS = ("train", "val")
_BATCH = 4  # fields of four supersampled images still fit in the cache of one core
_SIZES = range(32, 2049)  # below, no ring reaches the corners of the frame
_LOG_SECONDS = 10.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SimulateReport:
    """What `simulate` wrote."""

    root: Path
    preset: str
    unphysical: bool
    counts: Mapping[str, Mapping[str, int]]  # split -> class -> images
    digest: str
    seconds: float

    def __str__(self) -> str:
        images = sum(sum(classes.values()) for classes in self.counts.values())
        lines = [
            f"{images} images of preset {self.preset} in {self.root}, "
            f"{self.seconds:.1f} s, {images / self.seconds:.0f} images/s, data {self.digest}"
        ]
        for split, classes in self.counts.items():
            each = ", ".join(f"{count} {name}" for name, count in classes.items())
            lines.append(f"  {split}: {sum(classes.values())} ({each})")
        if self.unphysical:
            lines.append("  unphysical on purpose; manifest.json names the faults")
        return "\n".join(lines)


def simulate(
    kind: str,
    out: Path | str,
    *,
    preset: str = "common_test_1",
    images: int = 600,
    seed: int = 0,
    shard_size: int = 2048,
    size: int = 150,
) -> SimulateReport:
    """Simulate a labelled set into a folder of shards.

    Arguments:
        kind: What to simulate, of `KINDS`.
        out: Folder of the shards; made if missing, refused if it holds shards.
        preset: Name of the laws, of `PRESETS`.
        images: Images of both splits together; classes are equal to one image.
        seed: Seed of every random number.
        shard_size: Images in a shard.
        size: Pixels along a side of an image; their width is the preset's.

    Raises:
        ShardError: An argument is not one of those possible, or `out` holds shards already.
            Nothing has been computed or written then.
    """
    started = time.perf_counter()
    _check("kind of simulation", kind, KINDS)
    _check("preset", preset, PRESETS)
    _check_numbers(images=images, seed=seed, shard_size=shard_size, size=size)
    root, laws = Path(out), PRESETS[preset]
    refuse_shards(root)
    counts = _class_counts(images)
    with ExitStack() as opened, _Progress(images) as progress:
        writers = []
        for split, of_class in counts.items():
            writer = opened.enter_context(
                ShardWriter(
                    root,
                    split=split,
                    shape=(1, size, size),
                    stored=COUNTS,
                    dtype=np.dtype(np.float64),
                    classes=CLASSES,
                    source=_source(kind, laws),
                    seed=seed,
                    pixel_scale=laws.pixel_scale,
                    shard_size=shard_size,
                )
            )
            _fill(writer, laws, list(of_class.values()), seed, progress)
            writer.finish()
            writers.append(writer)
        for writer in writers:
            writer.publish()
    seconds = time.perf_counter() - started
    report = SimulateReport(root, preset, laws.unphysical, counts, data_digest(root), seconds)
    _write_manifest(report, kind, laws, seed=seed, size=size)
    return report


@dataclass(frozen=True)
class _Image:
    counts: NDArray[np.uint16]
    scale: float
    truth: Mapping[str, NDArray[np.float64]]


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
            _log.info("simulated %d of %d images, %.0f/s", self.done, self.total, rate)
            self._logged = now


def _fill(
    writer: ShardWriter, preset: Preset, counts: Sequence[int], seed: int, progress: _Progress
) -> None:
    """Simulate one split into its writer, in the order in which it is read."""
    # Classes take turns; a class that has run out is passed over, and its indices stay unused.
    indices = [i for i in range(len(CLASSES) * max(counts)) if i // 3 < counts[i % 3]]
    order = stratified_order([i % len(CLASSES) for i in indices], seed)
    for first in range(0, len(order), _BATCH):
        batch = [indices[i] for i in order[first : first + _BATCH]]
        made = _simulate_batch(preset, writer.split, batch, seed=seed, size=writer.shape[-1])
        targets = [i % len(CLASSES) for i in batch]
        writer.append(
            np.stack([image.counts[None] for image in made]),
            targets=targets,
            ids=[
                f"{writer.split}/{CLASSES[target]}/{i // len(CLASSES)}"
                for i, target in zip(batch, targets, strict=True)
            ],
            scale=np.array([[image.scale] for image in made]),
            truth={name: np.stack([m.truth[name] for m in made]) for name in made[0].truth},
        )
        progress.advance(len(batch))


def _simulate_batch(
    preset: Preset, split: str, indices: Sequence[int], *, seed: int, size: int
) -> list[_Image]:
    streams = [np.random.default_rng([seed, _SPLITS.index(split), i]) for i in indices]
    scenes = [
        draw_scene(preset, i % len(CLASSES), stream)
        for i, stream in zip(indices, streams, strict=True)
    ]
    rendered = render(preset, as_batch(scenes), size).numpy()
    made = []
    for i, scene, image, stream in zip(indices, scenes, rendered, streams, strict=True):
        counts, scale = observe(preset, scene, image, stream)
        made.append(_Image(counts, scale, scene | {"index": np.asarray(i, np.float64)}))
    return made


def _class_counts(images: int) -> dict[str, dict[str, int]]:
    """Images of each class in training and in validation, 4 : 1, at least one in each."""
    whole, rest = divmod(images, len(CLASSES))
    total = {name: whole + (c < rest) for c, name in enumerate(CLASSES)}
    valid = {name: max(1, round(count / 5)) for name, count in total.items()}
    train = {name: total[name] - valid[name] for name in CLASSES}
    return dict(zip(_SPLITS, (train, valid), strict=True))


def _check(what: str, name: object, known: Collection[str]) -> None:
    if name in known:
        return
    nearest = difflib.get_close_matches(str(name), known, n=1, cutoff=0.4)
    hint = f"; nearest is '{nearest[0]}'" if nearest else ""
    raise ShardError(f"simulate: no {what} '{name}'; there is {', '.join(known)}{hint}")


def _check_numbers(*, images: int, seed: int, shard_size: int, size: int) -> None:
    least = {"images": 2 * len(CLASSES), "seed": 0, "shard_size": 1, "size": _SIZES.start}
    why = {"images": ", one of each class in each split", "size": f" to {_SIZES[-1]} pixels"}
    given = {"images": images, "seed": seed, "shard_size": shard_size, "size": size}
    for name, value in given.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or value < least[name] or (name == "size" and value not in _SIZES):
            raise ShardError(
                f"simulate: {name}: expected a whole number from {least[name]}"
                f"{why.get(name, '')}; got {value!r}"
            )


def _source(kind: str, preset: Preset) -> str:
    version = deeplense_batch.__version__
    return f"simulate {kind}, preset {preset.name} {preset.version}, deeplense_batch {version}"


def _write_manifest(
    report: SimulateReport, kind: str, preset: Preset, *, seed: int, size: int
) -> None:
    manifest = {
        "kind": kind,
        "preset": _laws(preset),
        "unphysical": preset.unphysical,
        "slips": preset.slips,
        "seed": seed,
        "size": size,
        "counts": report.counts,
        "data": report.digest,
        "seconds": round(report.seconds, 3),
        "versions": {
            "deeplense_batch": deeplense_batch.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }
    path = report.root / "manifest.json"
    temporary = report.root / ".manifest.tmp.json"
    temporary.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def _laws(part: object) -> object:
    """A preset as JSON: a mapping for each dataclass, laws with their name."""
    if not dataclasses.is_dataclass(part):
        return part
    fields = {f.name: _laws(getattr(part, f.name)) for f in dataclasses.fields(part)}
    return fields if isinstance(part, Preset) else {"law": type(part).__name__} | fields
