"""Images a second: bare loops, our step and data plane, and what peers reach on the same images.

A way that fails is a check that failed; those after it are measured all the same.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.autograd import DeviceType

from benchmarks import peers as beside
from benchmarks.gpu_round.record import NotTested, Round
from benchmarks.gpu_round.sets import main_set
from benchmarks.steps import AS_THE_JOB, batch_of, classification, loader, step, stepper
from deeplense_batch import models
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.batches.sampling import order, shuffled
from deeplense_batch.tasks.task import Batch
from deeplense_batch.training.precision import choose_kernels

__all__ = ["peers", "throughput"]

_Work = Callable[[int], None]  # does so many steps
_PROFILED = 5  # steps; the profiler takes its time for each launch


@dataclass(frozen=True)
class _Way:
    """One way to train."""

    batch: int = 64
    amp: bool = False
    channels_last: bool = False
    compile: bool = False
    graph: bool = False
    ema: float | None = None
    resident: str = "device"

    def __str__(self) -> str:
        words = [f"batch {self.batch}", "bf16" if self.amp else "float32"]
        words += ["channels_last"] * self.channels_last + ["compiled"] * self.compile
        words += ["graph"] * self.graph + ["ema"] * (self.ema is not None)
        return ", ".join(words + [self.resident] * (self.resident != "device"))

    def engine(self) -> dict[str, Any]:
        """The section of a recipe."""
        graph = "auto" if self.graph else "off"
        return {"channels_last": self.channels_last, "compile": self.compile, "graph": graph}


_FAST = _Way(amp=True, channels_last=True)


class _Meter:
    """Measures ways of work, and remembers their medians."""

    def __init__(self, round_: Round) -> None:
        self._round = round_
        self.steps = round_.sized(60, 2)
        self.found: dict[str, float] = {}

    def __call__(self, name: str, make: Callable[[], tuple[_Work, int]], warm: int = 1) -> None:
        """Images a second of some work, launches and waits, after turns that are not measured."""
        self._round.attempt(name, partial(self._measure, name, make, warm))
        if self._round.cuda:
            torch.cuda.empty_cache()

    def _measure(self, name: str, make: Callable[[], tuple[_Work, int]], warm: int) -> None:
        work, images = make()
        for _ in range(warm):
            self._seconds(work)
        if self._round.cuda:
            torch.cuda.reset_peak_memory_stats()
        repeats = self._round.sized(3, 2)
        rates = [self.steps * images / self._seconds(work) for _ in range(repeats)]
        self.found[name] = statistics.median(rates)
        self._round.number(name, rates, "images/s")
        if self._round.cuda:
            peak = torch.cuda.max_memory_allocated() / 1e9
            self._round.number(f"{name}: peak memory", peak, "GB")
            _profile(self._round, name, work, images / self.found[name])

    def _seconds(self, work: _Work) -> float:
        """Seconds until the device has done it."""
        if self._round.cuda:
            torch.cuda.synchronize()
        started = time.perf_counter()
        work(self.steps)
        if self._round.cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - started


def throughput(round_: Round) -> None:
    """Ratios first: what a step costs beside a bare loop, then what may be gained."""
    with choose_kernels(round_.torch_device, deterministic=False):  # for all, as a run does
        _throughput(round_)


def _throughput(round_: Round) -> None:
    meter, root = _Meter(round_), main_set(round_)
    for way in (_FAST, _Way(), replace(_FAST, batch=256)):
        meter(f"bare: {way}", partial(_bare, round_, way))
        meter(f"ours: {way}", partial(_ours, round_, way, root))
    graph = replace(_FAST, graph=True)
    meter(f"bare: {graph}", partial(_bare, round_, graph, fused=True))
    meter(f"ours: {graph}", partial(_ours, round_, graph, root))
    meter(f"loader alone: {_Way()}", partial(_loading, round_, _Way(), root))
    meter(f"ours, one fixed batch: {_FAST}", partial(_ours, round_, _FAST, root, through=False))
    meter(f"bare, fused AdamW: {_FAST}", partial(_bare, round_, _FAST, fused=True))
    others: list[dict[str, Any]] = [{"ema": 0.999}, {"resident": "host"}, {"resident": "off"}]
    for way in (replace(graph, **more) for more in others):
        meter(f"ours: {way}", partial(_ours, round_, way, root))
    compiled = replace(_FAST, compile=True)
    meter(f"ours: {compiled}", partial(_ours, round_, compiled, root), warm=2)
    meter(f"bare: {compiled}", partial(_bare, round_, compiled, fused=True), warm=2)
    round_.check("ours is 0.9 of a bare loop in one mode", lambda: _beside_bare(round_, meter))


def _sizes(round_: Round, way: _Way) -> tuple[str, int, int]:
    """Model, pixels along a side, images of a batch."""
    return round_.sized(("resnet18", 150, way.batch), ("test_resnet", 32, way.batch // 16))


def _needs(round_: Round, way: _Way) -> None:
    if way.compile and (not round_.cuda or round_.small):
        raise NotTested("a rehearsal compiles nothing")


def _bare(round_: Round, way: _Way, *, fused: bool = False) -> tuple[_Work, int]:
    """A loop of a dozen lines on one batch that lies in memory."""
    _needs(round_, way)
    name, size, count = _sizes(round_, way)
    torch.manual_seed(0)
    network = models.build(name, channels=1, classes=3, size=size).to(round_.torch_device).train()
    images = torch.randn(count, 1, size, size, device=round_.torch_device)
    targets = torch.randint(3, (count,), device=round_.torch_device)
    if way.channels_last:
        network = network.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=3e-4, fused=fused, capturable=way.graph and round_.cuda
    )
    called: Any = torch.compile(network) if way.compile else network
    cast = partial(
        torch.autocast, round_.device, torch.bfloat16, enabled=way.amp, cache_enabled=not way.graph
    )

    def once() -> None:
        with cast():
            loss = nn.functional.cross_entropy(called(images).float(), targets)
        loss.backward()
        optimizer.step()

    if way.graph:
        return _captured(round_, once, optimizer), count

    def work(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            once()

    return work, count


def _captured(round_: Round, once: Callable[[], None], optimizer: torch.optim.Optimizer) -> _Work:
    """The whole step as one CUDA graph; gradients lie in the graph's own memory."""
    round_.need_cuda("there are no graphs")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            optimizer.zero_grad(set_to_none=True)
            once()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    optimizer.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        once()

    def work(steps: int, kept: object = (once, optimizer)) -> None:
        for _ in range(steps):  # in the memory of weights and moments, which have to be kept
            graph.replay()

    return work


def _source(round_: Round, way: _Way, root: str) -> tuple[Loader, Callable[[int], list[Any]], int]:
    """A loader, the places of so many batches, and how many images one has."""
    _, size, count = _sizes(round_, way)
    source = loader(
        root, round_.torch_device, size=round_.sized(None, size), resident=way.resident
    )

    def places(steps: int) -> list[Any]:
        return order(np.resize(shuffled(len(source), seed=0, epoch=0), steps * count), count)

    return source, places, count


def _ours(round_: Round, way: _Way, root: str, *, through: bool = True) -> tuple[_Work, int]:
    """Our step, through the data plane or on one fixed batch."""
    _needs(round_, way)
    name, size, count = _sizes(round_, way)
    engine = way.engine()
    source, places, count = _source(round_, way, root)
    made = stepper(
        name, classification(), round_.torch_device, size=size, batch_size=count, ema=way.ema,
        amp="bf16" if way.amp else "off", engine=engine,
    )  # fmt: skip
    fixed = batch_of(source, count)

    def work(steps: int) -> None:
        for got in source.batches(places(steps), AS_THE_JOB, seed=0, epoch=0):
            step(made, Batch(*got))

    def on_one(steps: int) -> None:
        for _ in range(steps):
            step(made, fixed)

    return (work if through else on_one), count


def _loading(round_: Round, way: _Way, root: str) -> tuple[_Work, int]:
    source, places, count = _source(round_, way, root)

    def work(steps: int) -> None:
        for _ in source.batches(places(steps), AS_THE_JOB, seed=0, epoch=0):
            pass

    return work, count


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


def _profile(round_: Round, name: str, work: _Work, seconds: float) -> None:
    """What a step asks of the GPU; `seconds` are those of a step that is not profiled."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        work(_PROFILED)
        torch.cuda.synchronize()
    for what, value in _counts(seen.key_averages(), _PROFILED, seconds).items():
        round_.number(f"{name}: {what}", value, "")


def _counts(events: Iterable[Any], steps: int, seconds: float) -> dict[str, float]:
    """Launches, waits and copies of a step, and the share of its seconds the GPU is busy.

    Arguments:
        events: Of a profiler, by name.
        steps: That were profiled.
        seconds: Of a step.
    """

    def count(*starts: str) -> float:
        return sum(event.count for event in events if event.key.startswith(starts)) / steps

    events = list(events)
    kernels = [  # an operation of the host has the time of its kernels too
        e for e in events if e.device_type == DeviceType.CUDA and not e.is_user_annotation
    ]
    busy = sum(event.self_device_time_total for event in kernels) / 1e6 / steps
    return {
        "launches a step": count("cudaLaunch", "cuLaunch", "cudaGraphLaunch"),
        "copies a step": count("cudaMemcpy"),
        "waits a step": count("cudaStreamSynchronize", "cudaEventSynchronize"),
        "busy share of the GPU": busy / seconds,
    }


def peers(round_: Round) -> None:
    """Ours, timm's components with workers and Lightning's Trainer, in turns."""
    root = main_set(round_)
    setting = beside.Setting(
        root=root, device=round_.device, model=round_.sized("resnet18", "test_resnet"),
        size=round_.sized(150, 32), batch_size=round_.sized(64, 4), steps=round_.sized(60, 2),
        warm=round_.sized(10, 1), workers=round_.sized(beside.most_workers(), 0),
        amp=round_.cuda, channels_last=round_.cuda,
    )  # fmt: skip
    names = list(beside.WAYS)
    if beside.lacking("lightning"):
        names.remove("lightning")
        round_.check("lightning", partial(_lacks, beside.lacking("lightning")))
    repeats = round_.sized(3, 2)
    rates: dict[str, list[float]] = {}
    round_.attempt("peers", lambda: rates.update(beside.compare(setting, names, repeats)))
    for line in beside.lines(setting, rates):
        round_.tell(**line)
    for other in (name for name in rates if name != "ours"):
        ratio = statistics.median(map(_over, rates["ours"], rates[other]))
        round_.check(f"ours is as fast as {other}", partial(_not_slower, round_, ratio))


def _over(one: float, other: float) -> float:
    return one / other


def _lacks(sentence: str) -> None:
    raise NotTested(sentence)


def _not_slower(round_: Round, ratio: float) -> str:
    round_.need_cuda(f"ratio {ratio:.2f}")
    assert ratio >= 1, f"ratio {ratio:.2f}"
    return f"ratio {ratio:.2f}"
