"""Simulated sets: those that the other parts read, and the same images on every device."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu_round.program import batch, command, timed
from benchmarks.gpu_round.record import NotTested, Round
from deeplense_batch.core.machine import cores
from deeplense_batch.data.shards import data_digest, open_split
from deeplense_batch.simulation.presets import PRESETS
from deeplense_batch.simulation.simulate import KINDS, generator_class, simulate

__all__ = ["CLASSES", "MAIN", "VARIED", "data", "digests", "simulation"]

MAIN, VARIED = "data/common_test_1", "data/varied"  # made by `data`
CLASSES = ("no", "sphere", "vort")
_COMPARED = 300  # images


def _words(round_: Round, root: str) -> tuple[object, ...]:
    images = round_.sized(37_500, 240)
    more = () if not round_.small else ("--size=64",)
    return ("simulate", "substructure", root, f"--images={images}", "--shard_size=2048", *more)


def data(round_: Round) -> None:
    """Make the sets of all other parts, by every core."""
    parts = min(cores(), 16)
    started = time.perf_counter()
    words = _words(round_, MAIN)
    each = [
        subprocess.Popen(
            command(*words, f"--part={part}", f"--parts={parts}"), stdout=subprocess.DEVNULL
        )
        for part in range(parts)
    ]
    round_.check("every process simulates its part", lambda: _all_well(each))
    batch(*words)  # what two that ended at once left to each other
    seconds = time.perf_counter() - started
    images = round_.sized(37_500, 240)
    round_.number(f"simulated on {parts} cores", images / seconds, "images/s")
    batch("simulate", "substructure", VARIED, "--preset=varied",
          f"--images={round_.sized(720, 120)}", f"--size={round_.sized(150, 64)}")  # fmt: skip


def _all_well(processes: list[subprocess.Popen[bytes]]) -> str:
    codes = [process.wait() for process in processes]
    assert not any(codes), f"exit codes {codes}"
    return f"{len(codes)} processes"


def digests(round_: Round) -> None:
    """Every kind and preset, noise and truth included: one digest, whatever device makes it."""
    asked: dict[str, dict[str, Any]] = {
        f"substructure, {preset}": {"kind": "substructure", "preset": preset} for preset in PRESETS
    }
    asked |= {kind: {"kind": kind} for kind in KINDS if kind != "substructure"}
    for name, options in asked.items():
        round_.check(f"digest of {name}", partial(_same_digest, round_, name, options))


def _same_digest(round_: Round, name: str, options: dict[str, Any]) -> str:
    kind = generator_class(options["kind"])
    takes = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    images = round_.sized(60, 6)
    roots = [Path("digests", name, side) for side in ("processor", "device")]
    devices = ("cpu", round_.device) if "device" in takes else (None, None)
    for root, device in zip(roots, devices, strict=True):
        shutil.rmtree(root, ignore_errors=True)
        more: dict[str, Any] = {} if device is None else {"device": device}
        simulate(out=root, images=images, seed=3, **options, **more)
    found = [data_digest(root) for root in roots]
    assert found[0] == found[1], f"{found[0]} and {found[1]}: {_difference(*roots)}"
    if "device" not in takes:
        raise NotTested(f"this kind is made on the processor alone; twice the same {found[0]}")
    round_.need_cuda(f"twice on the processor, both {found[0]}")
    return found[0]


def _difference(one: Path, other: Path) -> str:
    """What differs between two sets that should be equal."""
    differences = []
    for split in {path.name.rpartition("-")[0].partition("-0")[0] for path in one.glob("*.h5")}:
        a, b = (open_split(root, split) for root in (one, other))
        images = a.stored()[0] != b.stored()[0]
        count = int(images.reshape(len(a), -1).any(1).sum())
        truths = [n for n in a.truths() if not np.array_equal(a.truth(n), b.truth(n), True)]
        differences.append(
            f"{split}: {count} of {len(a)} images, truth {', '.join(truths) or 'equal'}"
        )
    return "; ".join(sorted(differences))


def simulation(round_: Round) -> None:
    """The main set once more, on the device: how fast, and the same pixels."""
    root, images = "data/device", round_.sized(37_500, 240)
    seconds = timed(*_words(round_, root), f"--device={round_.device}")
    round_.number("simulated on the device, with its start", images / seconds, "images/s")
    round_.check("pixels of the device are the processor's", lambda: _pixels(round_, root))


def _pixels(round_: Round, root: str) -> str:
    count = min(_COMPARED, round_.sized(_COMPARED, 60))
    a, b = (
        open_split(folder, f"train[:{count}]").stored()[0].astype(float) for folder in (MAIN, root)
    )
    differ = (a != b).reshape(count, -1)
    assert not differ.any(), (
        f"{differ.any(1).sum()} of {count} images differ, {differ.mean():.1e} of the pixels, by "
        f"{np.abs(a - b).max():.0f} counts at most"
    )
    round_.need_cuda(f"{count} images made twice on the processor are equal")
    return f"{count} images"
