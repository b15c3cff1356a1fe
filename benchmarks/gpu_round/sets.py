"""Simulated sets: those that the other parts read, and the same images on every device.

The main set is made in growing steps, so that there is always a whole one. A part takes the
largest; where there is none yet, it makes the smallest itself.
"""

from __future__ import annotations

import inspect
import multiprocessing
import shutil
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.documents import measured
from benchmarks.gpu_round.record import NotTested, Round
from deeplense_batch.core.machine import cores
from deeplense_batch.data.shards import data_digest, open_split
from deeplense_batch.simulation.presets import PRESETS
from deeplense_batch.simulation.simulate import KINDS, generator_class, simulate

__all__ = ["data", "digests", "images_of", "main_set", "simulation", "varied"]

_CORES, _DEVICE = "cores", "device"  # who made a main set: the end of its folder's name
_SPARE = 1.25  # times what a step is thought to take has to be left

Maker = Callable[[int], float]  # makes a main set of so many images; seconds


def varied(round_: Round) -> str:
    """Folder of the small set of many settings, made here where it is not there yet."""
    root = Path("data/varied")
    if not (root / "manifest.json").exists():
        images, size = round_.sized((720, 150), (120, 64))
        simulate("substructure", root, preset="varied", images=images, size=size)
    return str(root)


def main_set(round_: Round) -> str:
    """Folder of the largest main set that is whole; how many images it has is kept."""
    if not _whole_sets():
        _make(round_, _steps(round_)[0], _CORES)
    root = _whole_sets()[-1]
    round_.number("images of the set", images_of(root), "")
    return str(root)


def images_of(root: Path | str) -> int:
    """How many images a main set has."""
    return int(Path(root).name.split("-")[1])


def _whole_sets() -> list[Path]:
    whole = [file.parent for file in Path("data").glob("main-*/manifest.json")]
    return sorted(whole, key=lambda root: (images_of(root), root))


def _folder(images: int, maker: str) -> Path:
    return Path("data", f"main-{images}-{maker}")


def _steps(round_: Round) -> tuple[int, ...]:
    return round_.sized((1_500, 7_500, 37_500), (60, 240))


def _make(round_: Round, images: int, maker: str, part: int = 0, parts: int = 1) -> None:
    """A main set, or a process's part of it."""
    more: dict[str, Any] = {"device": round_.device} if maker == _DEVICE else {}
    simulate(
        "substructure", _folder(images, maker), preset="common_test_1", images=images,
        size=round_.sized(150, 64), shard_size=max(images // 64, 8), part=part, parts=parts,
        **more,
    )  # fmt: skip


def _by_device(round_: Round, images: int) -> float:
    started = time.perf_counter()
    _make(round_, images, _DEVICE)
    return time.perf_counter() - started


def _by_cores(round_: Round, pool: Pool, parts: int, images: int) -> float:
    started = time.perf_counter()
    pool.starmap(_make, [(round_, images, _CORES, part, parts) for part in range(parts)], 1)
    _make(round_, images, _CORES)  # what two that ended at once left to each other
    return time.perf_counter() - started


def _pool() -> tuple[Pool, int]:
    """A process a core, which have imported everything; to be made before a GPU is used."""
    parts = min(cores(), 16)
    return multiprocessing.get_context("fork").Pool(parts, torch.set_num_threads, (1,)), parts


def _makers(round_: Round, pool: Pool, parts: int) -> dict[str, Maker]:
    return {_CORES: partial(_by_cores, round_, pool, parts), _DEVICE: partial(_by_device, round_)}


def data(round_: Round) -> None:
    """Make the sets of all other parts: the main one by whoever is faster."""
    pool, parts = _pool()
    with pool:
        varied(round_)
        makers, rates = _makers(round_, pool, parts), dict[str, float]()
        if round_.cuda:
            simulate("substructure", "data/awake", images=64, device=round_.device)
        first, *more = _steps(round_)
        for name, make in makers.items():
            _attempt(round_, rates, name, make, first)
        _check_same(round_, first)
        for images in more:
            best = max(rates, key=rates.__getitem__)
            if _SPARE * images / rates[best] < round_.left():
                _attempt(round_, rates, best, makers[best], images)


def _attempt(round_: Round, rates: dict[str, float], name: str, make: Maker, images: int) -> None:
    def timed() -> None:
        rates[name] = images / make(images)
        line = measured("data", f"simulated by the {name}", rates[name], "images/s")
        round_.tell(**line, images=images)

    round_.attempt(f"{images} images simulated by the {name}", timed)


def simulation(round_: Round) -> None:
    """The largest main set by whoever has not made it: the rate, and the same images."""
    pool, parts = _pool()
    with pool:
        images = images_of(main_set(round_))
        for name, make in _makers(round_, pool, parts).items():
            if not _folder(images, name).joinpath("manifest.json").exists():
                _attempt(round_, {}, name, make, images)
    _check_same(round_, images)


def _check_same(round_: Round, images: int) -> None:
    name = f"{images} images of the device are the processor's"
    round_.check(name, partial(_same, round_, images))


def _same(round_: Round, images: int) -> str:
    """The digest of a main set, whoever made it."""
    roots = [_folder(images, maker) for maker in (_CORES, _DEVICE)]
    found = [data_digest(root) for root in roots]
    assert found[0] == found[1], f"{found[0]} and {found[1]}: {_difference(*roots)}"
    round_.need_cuda(f"{images} images, twice on the processor, both {found[0]}")
    return f"{images} images, {found[0]}"


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
    takes = set(inspect.signature(kind).parameters)
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
