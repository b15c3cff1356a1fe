"""Images a second: bare loops, our step and data plane, and files read by workers."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.gpu_round.record import NotTested, Round
from benchmarks.gpu_round.sets import MAIN
from benchmarks.gpu_round.steps import AS_THE_JOB, batch_of, classification, loader, step, stepper
from deeplense_batch import models
from deeplense_batch.data.loader import Loader
from deeplense_batch.data.sampling import order, shuffled
from deeplense_batch.data.shards import open_split
from deeplense_batch.tasks.task import Batch

__all__ = ["throughput"]

_Work = Callable[[], None]


@dataclass(frozen=True)
class _Way:
    """One way to train."""

    batch: int = 64
    amp: bool = False
    channels_last: bool = False
    compile: bool = False
    ema: float | None = None
    resident: str = "device"

    def __str__(self) -> str:
        words = [f"batch {self.batch}", "bf16" if self.amp else "float32"]
        words += ["channels_last"] * self.channels_last + ["compiled"] * self.compile
        words += ["ema"] * (self.ema is not None)
        return ", ".join(words + [self.resident] * (self.resident != "device"))


class _Meter:
    """Measures ways of work, and remembers their medians."""

    def __init__(self, round_: Round) -> None:
        self._round = round_
        self.found: dict[str, float] = {}

    def __call__(self, name: str, work: _Work, images: int, *, warm: int = 1) -> None:
        """Images a second of some work, after turns that are not measured."""
        for _ in range(warm):
            self.seconds(work)
        if self._round.cuda:
            torch.cuda.reset_peak_memory_stats()
        repeats = self._round.sized(3, 2)
        rates = [images / self.seconds(work) for _ in range(repeats)]
        self.found[name] = statistics.median(rates)
        self._round.number(name, rates, "images/s")
        if self._round.cuda:
            peak = torch.cuda.max_memory_allocated() / 1e9
            self._round.number(f"{name}: peak memory", peak, "GB")

    def seconds(self, work: _Work) -> float:
        """Seconds until the device has done it."""
        if self._round.cuda:
            torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        if self._round.cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - started


def throughput(round_: Round) -> None:
    """Ratios first: what a step costs beside a bare loop, then what may be gained."""
    meter, steps = _Meter(round_), _steps(round_)
    fast: dict[str, Any] = {"amp": True, "channels_last": True}
    for way in (_Way(), _Way(**fast), _Way(batch=256, **fast)):
        work, images = _bare(round_, way, fused=False)
        meter(f"bare: {way}", work, images)
        _profile(round_, f"bare: {way}", work, steps)
        work, images = _ours(round_, way)
        meter(f"ours: {way}", work, images)
        _profile(round_, f"ours: {way}", work, steps)
        meter(f"ours, one fixed batch: {way}", *_ours(round_, way, through=False))
    meter(f"loader alone: {_Way()}", *_loading(round_, _Way()))
    workers = round_.sized(min(14, max(len(os.sched_getaffinity(0)) - 2, 1)), 0)
    meter(f"files by {workers} workers: {_Way(**fast)}", *_files(round_, workers))
    round_.check("ours is 0.9 of a bare loop in one mode", lambda: _beside_bare(round_, meter))
    round_.check("ours is as fast as files by workers", lambda: _beside_files(round_, meter))
    others: list[dict[str, Any]] = [{"ema": 0.999}, {"resident": "host"}, {"resident": "off"}]
    for more in others:
        way = _Way(**fast, **more)
        meter(f"ours: {way}", *_ours(round_, way))
    for batch in (64, 256):
        way = _Way(batch=batch, **fast)
        meter(f"bare, fused AdamW: {way}", *_bare(round_, way, fused=True))
    round_.check("compiled steps", lambda: _compiled(round_, meter))


def _steps(round_: Round) -> int:
    return round_.sized(60, 2)


def _sizes(round_: Round, way: _Way) -> tuple[str, int, int]:
    """Model, pixels along a side, images of a batch."""
    return round_.sized(("resnet18", 150, way.batch), ("test_resnet", 32, way.batch // 16))


def _bare(round_: Round, way: _Way, *, fused: bool, mode: str | None = None) -> tuple[_Work, int]:
    """A loop of a dozen lines on one batch that lies in memory."""
    name, size, count = _sizes(round_, way)
    torch.manual_seed(0)
    network = models.build(name, channels=1, classes=3, size=size).to(round_.torch_device).train()
    images = torch.randn(count, 1, size, size, device=round_.torch_device)
    targets = torch.randint(3, (count,), device=round_.torch_device)
    if way.channels_last:
        network = network.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-4, fused=fused)
    called: Any = torch.compile(network, mode=mode) if way.compile else network

    def work() -> None:
        for _ in range(_steps(round_)):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(round_.device, torch.bfloat16, enabled=way.amp):
                loss = nn.functional.cross_entropy(called(images).float(), targets)
            loss.backward()
            optimizer.step()

    return work, _steps(round_) * count


def _source(round_: Round, way: _Way) -> tuple[Loader, list[Any], int]:
    """A loader, the places of each batch, and how many images they are."""
    _, size, count = _sizes(round_, way)
    source = loader(
        MAIN, round_.torch_device, size=round_.sized(None, size), resident=way.resident
    )
    images = _steps(round_) * count
    places = np.resize(shuffled(len(source), seed=0, epoch=0), images)
    return source, order(places, count), images


def _ours(round_: Round, way: _Way, *, through: bool = True) -> tuple[_Work, int]:
    """Our step, through the data plane or on one fixed batch."""
    name, size, count = _sizes(round_, way)
    source, places, images = _source(round_, way)
    made = stepper(
        name, classification(), round_.torch_device, size=size, batch_size=count, ema=way.ema,
        amp="bf16" if way.amp else "off",
        engine={"channels_last": way.channels_last, "compile": way.compile},
    )  # fmt: skip
    fixed = batch_of(source, count)

    def work() -> None:
        for got in source.batches(places, AS_THE_JOB, seed=0, epoch=0):
            step(made, Batch(*got))

    def on_one() -> None:
        for _ in places:
            step(made, fixed)

    return (work if through else on_one), images


def _loading(round_: Round, way: _Way) -> tuple[_Work, int]:
    source, places, images = _source(round_, way)

    def work() -> None:
        for _ in source.batches(places, AS_THE_JOB, seed=0, epoch=0):
            pass

    return work, images


class _Files(Dataset[tuple[Tensor, int]]):
    """A .npy file for each image, transformed on its own."""

    def __init__(self, files: Sequence[Path], targets: Sequence[int]) -> None:
        from torchvision.transforms import InterpolationMode, v2

        self._files, self._targets = files, targets
        self._change = v2.Compose([
            v2.RandomHorizontalFlip(), v2.RandomVerticalFlip(),
            v2.RandomAffine(15, (0.05, 0.05), (0.95, 1.05), None, InterpolationMode.BILINEAR),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = torch.from_numpy(np.load(self._files[index]))
        return self._change(image), self._targets[index]


def _written(round_: Round) -> _Files:
    split = open_split(MAIN, f"train[:{round_.sized(6400, 32)}]")
    folder = Path(tempfile.mkdtemp(dir=Path.cwd()))
    files = []
    for number, image in enumerate(split.images()):
        files.append(folder / f"{number}.npy")
        np.save(files[-1], np.asarray(image, np.float32))
    return _Files(files, split.targets().tolist())


def _files(round_: Round, workers: int) -> tuple[_Work, int]:
    """timm's components as its own script puts them together: workers, pinned memory, bf16."""
    from timm.optim import create_optimizer_v2

    files, count = _written(round_), round_.sized(64, 8)
    source = DataLoader(
        files, count, shuffle=True, num_workers=workers, pin_memory=round_.cuda, drop_last=True,
        persistent_workers=workers > 0,
    )  # fmt: skip
    name, size = round_.sized(("resnet18", 150), ("test_resnet", 64))
    network = models.build(name, channels=1, classes=3, size=size).to(round_.torch_device).train()
    network = network.to(memory_format=torch.channels_last)
    optimizer = create_optimizer_v2(network, opt="adamw", lr=3e-4, weight_decay=0.01)

    def work() -> None:
        for images, targets in source:
            images = images.to(round_.torch_device, non_blocking=True).sub(0.06).div(0.12)
            images = images.contiguous(memory_format=torch.channels_last)
            targets = targets.to(round_.torch_device, non_blocking=True)
            optimizer.zero_grad()
            with torch.autocast(round_.device, torch.bfloat16):
                loss = nn.functional.cross_entropy(network(images), targets)
            loss.backward()
            optimizer.step()

    return work, len(files) // count * count


def _beside_bare(round_: Round, meter: _Meter) -> dict[str, float]:
    ratios = {
        name.removeprefix("ours: "): round(rate / meter.found[f"bare: {name[6:]}"], 3)
        for name, rate in meter.found.items()
        if name.startswith("ours: ") and f"bare: {name[6:]}" in meter.found
    }
    for way, ratio in ratios.items():
        round_.number(f"ours over bare: {way}", ratio, "")
    round_.need_cuda(f"ratios {ratios}")
    assert max(ratios.values()) >= 0.9, ratios
    return ratios


def _beside_files(round_: Round, meter: _Meter) -> float:
    way = _Way(amp=True, channels_last=True)
    (files,) = (rate for name, rate in meter.found.items() if name.startswith("files by"))
    ratio = meter.found[f"ours: {way}"] / files
    round_.number(f"ours over files by workers: {way}", ratio, "")
    round_.need_cuda(f"ratio {ratio:.2f}")
    assert ratio >= 1, f"ratio {ratio:.2f}"
    return round(ratio, 2)


def _compiled(round_: Round, meter: _Meter) -> str:
    if not round_.cuda or round_.small:
        raise NotTested("a rehearsal compiles nothing")
    way = _Way(amp=True, channels_last=True, compile=True)
    meter(f"ours: {way}", *_ours(round_, way), warm=2)
    for name, mode in (("", None), (" with CUDA graphs", "reduce-overhead")):
        work, images = _bare(round_, way, fused=True, mode=mode)
        meter(f"bare, fused AdamW{name}: {way}", work, images, warm=2)
    return "three ways"


def _profile(round_: Round, name: str, work: _Work, steps: int) -> None:
    """Launches, waits and copies of a step, and the share of the time the GPU is busy."""
    if not round_.cuda:
        return
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        wall = time.perf_counter() - started
    events = seen.key_averages()

    def count(*starts: str) -> float:
        return sum(event.count for event in events if event.key.startswith(starts)) / steps

    busy = sum(event.self_device_time_total for event in events) / 1e6
    numbers = {
        "launches a step": count("cudaLaunch", "cuLaunch"),
        "copies a step": count("cudaMemcpy"),
        "waits a step": count("cudaStreamSynchronize", "cudaEventSynchronize"),
        "busy share of the GPU, profiled": busy / wall,
    }
    for what, value in numbers.items():
        round_.number(f"{name}: {what}", value, "")
