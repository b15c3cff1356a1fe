"""What has to be right on a GPU, held against the processor and against float32."""

from __future__ import annotations

import contextlib
import math
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from benchmarks.gpu_round.record import NotTested, Round
from benchmarks.gpu_round.sets import varied
from benchmarks.steps import (
    AS_THE_JOB,
    CLASSES,
    EVERYTHING,
    batch_of,
    classification,
    loader,
    step,
    stepper,
)
from deeplense_batch import models
from deeplense_batch.core import provenance
from deeplense_batch.core.distributed import World
from deeplense_batch.data.batches.sampling import order, shuffled
from deeplense_batch.tasks import build_task
from deeplense_batch.tasks.task import Batch, Frame
from deeplense_batch.training.step import Stepper

__all__ = ["correctness"]

_CPU = torch.device("cpu")
_SGD: dict[str, Any] = {"optimizer": "sgd", "lr": 0.01}
_PIXELS: tuple[dict[str, Any], ...] = (
    {},
    {"stretch": "asinh"},
    {"stretch": "log"},
    {"stretch": "asinh", "softening": 3, "per": "set", "clip": (1, 99)},
    {"stretch": "log", "softening": 3, "per": "image", "clip": (1, 99)},
    {"stretch": "sqrt", "softening": 3},
)
_ALL_AT_ONCE: dict[str, Any] = {"amp": "bf16", "clip": 1.0, "ema": 0.999}


def correctness(round_: Round) -> None:
    """Every check, in the order of what it would cost to be wrong about it."""
    for name, check in _CHECKS.items():
        round_.check(name, partial(check, round_))
        if round_.cuda:
            torch.cuda.empty_cache()


def _small_model(round_: Round) -> str:
    return round_.sized("resnet18", "test_resnet")


def _losses(of: Stepper, batch: Batch, count: int = 4) -> list[float]:
    return [float(step(of, batch, number)) / len(batch.images) for number in range(count)]


def _batches_agree(round_: Round) -> str:
    """Batches of the device are the processor's: every stretch, augmentation and size."""
    worst, where = 0.0, ""
    for pixels in _PIXELS:
        for name, augment in (("of the job", AS_THE_JOB), ("all", EVERYTHING)):
            for size in round_.sized((None, 64, 224), (None, 32)):
                a, b = (
                    batch_of(
                        loader(varied(round_), device, size=size, **pixels), 16, augment
                    ).images
                    for device in (round_.torch_device, _CPU)
                )
                apart = float((a.double().cpu() - b.double()).norm() / b.double().norm())
                if apart >= worst:
                    worst, where = apart, f"{pixels}, augmentations {name}, size {size}"
    assert worst < 1e-4, f"{worst:.1e} at {where}"
    round_.need_cuda("the processor against itself")
    return f"apart by {worst:.1e} at most, at {where}"


def _residence(round_: Round) -> str:
    """Wherever the images are kept, the batches are the same to the last bit."""
    kinds = ("device", "host", "off")
    sources = [loader(varied(round_), round_.torch_device, resident=kind) for kind in kinds]
    places = order(shuffled(len(sources[0]), seed=1, epoch=0), 37)
    batches = (source.batches(places, AS_THE_JOB, seed=1) for source in sources)
    for same in zip(*batches, strict=True):
        assert all(torch.equal(same[0][0], images) for images, *_ in same[1:])
    return f"{len(places)} batches of {', '.join(kinds)}"


@contextlib.contextmanager
def _without_tf32() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def _steps_agree(round_: Round) -> str:
    """Four steps in float32 without TF32: the losses of the processor."""
    model, size = _small_model(round_), round_.sized(64, 32)
    with _without_tf32():
        a, b = (
            _losses(
                stepper(model, classification(), device, size=size, **_SGD),
                batch_of(loader(varied(round_), device, size=size), 16),
            )
            for device in (round_.torch_device, _CPU)
        )
    assert np.allclose(a, b, rtol=2e-3), f"{a} and {b}"
    round_.need_cuda("the processor against itself")
    return f"losses {np.round(a, 5).tolist()} and {np.round(b, 5).tolist()}"


def _precisions_agree(round_: Round) -> dict[str, float]:
    """TF32, bf16, fp16 and channels_last begin like float32."""
    size = round_.sized(64, 32)
    batch = batch_of(loader(varied(round_), round_.torch_device, size=size), 32)
    last = {"channels_last": True}
    ways: dict[str, dict[str, Any]] = {
        "float32": {}, "channels_last": {"engine": last}, "bf16": {"amp": "bf16"},
        "bf16, channels_last": {"amp": "bf16", "engine": last},
    }  # fmt: skip
    if round_.cuda:
        ways["fp16"] = {"amp": "fp16"}
    found = {}
    for name, options in ways.items():
        made = stepper(
            _small_model(round_), classification(), round_.torch_device, size=size, clip=1.0,
            ema=0.99, **_SGD, **options,
        )  # fmt: skip
        found[name] = _losses(made, batch)
    first = found["float32"][0]
    assert all(abs(losses[0] - first) < 0.05 for losses in found.values()), found
    return {name: round(losses[-1], 4) for name, losses in found.items()}


def _no_waits(round_: Round) -> str:
    """Nine steps, the data plane included, in which the host never waits for the device."""
    ways: dict[str, dict[str, Any]] = {
        "float32": {},
        "bf16, channels_last, clip, ema": {**_ALL_AT_ONCE, "engine": {"channels_last": True}},
    }
    ways["graph"] = {"amp": "bf16", "engine": {"channels_last": True, "graph": "auto"}}
    size, count = round_.sized(150, 32), round_.sized(64, 8)
    for options in ways.values():
        source = loader(varied(round_), round_.torch_device, size=size)
        made = stepper(
            _small_model(round_), classification(), round_.torch_device, size=size, **options
        )  # fmt: skip
        places = [np.arange(count)] * 10
        for got in source.batches(places, AS_THE_JOB, seed=0):  # the tenth step looks at the loss
            step(made, Batch(*got))
        batches = source.batches(places, AS_THE_JOB, seed=0)
        next(batches)
        with _syncs_are_errors(round_):
            for _ in range(9):
                step(made, Batch(*next(batches)))
    round_.need_cuda("the steps were made, waits cannot be seen")
    return ", ".join(ways)


@contextlib.contextmanager
def _syncs_are_errors(round_: Round) -> Iterator[None]:
    if not round_.cuda:
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _diffusion_waits(round_: Round) -> dict[str, float]:
    """How often the host waits in a step of diffusion: a number, and finite losses."""
    size = round_.sized(64, 16)
    ways: dict[str, dict[str, Any]] = {
        "edm": {"schedule": "edm"},
        "cosine": {"schedule": "cosine"},
        "linear, ssim": {"schedule": "linear", "prediction": "epsilon", "ssim": 0.5},
    }
    found = {}
    for name, options in ways.items():
        task = build_task(
            "generation", classes=CLASSES, frame=Frame(1, size, 0.05), **options
        )  # fmt: skip
        shape = round_.sized({}, {"width": 8, "multiples": [1, 1], "attention": 1, "blocks": 1})
        made = stepper(
            "unet", task, round_.torch_device, size=size, options=shape, **_ALL_AT_ONCE
        )  # fmt: skip
        batch = batch_of(
            loader(varied(round_), round_.torch_device, size=size), round_.sized(32, 8)
        )
        losses = _losses(made, batch, 2)
        assert all(map(math.isfinite, losses)), f"{name}: {losses}"
        found[name] = _waits(round_, made, batch)
        round_.number(f"waits of the host in a step of diffusion, {name}", found[name], "")
    round_.need_cuda("the losses are finite, waits cannot be seen")
    return found


def _waits(round_: Round, made: Stepper, batch: Batch, steps: int = 5) -> float:
    if not round_.cuda:
        return math.nan
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for number in range(steps):
            step(made, batch, number)
    torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in seen) / steps


def _every_model(round_: Round) -> str:
    """Each takes steps in bf16 with channels_last, and answers in float32."""
    every = [n for n, model in models.MODELS.items() if not (model.denoises or model.masks)]
    names = round_.sized(every, ["test_resnet", "simple_cnn"])
    for name in names:
        size = _size_of(round_, name)
        made = stepper(
            name, classification(), round_.torch_device, size=size, amp="bf16", clip=1.0, lr=1e-4,
            engine={"channels_last": True},
        )  # fmt: skip
        batch = batch_of(loader(varied(round_), round_.torch_device, size=size), 8)
        losses = _losses(made, batch, 2)
        made.model.eval()
        with torch.inference_mode():
            logits = classification().predict(made.model, batch)["logits"]
        assert all(map(math.isfinite, losses)), f"{name}: {losses}"
        assert logits.dtype == torch.float32 and bool(torch.isfinite(logits).all()), name
    return f"{len(names)} models"


def _size_of(round_: Round, name: str) -> int:
    fixed = ("vit_small_p", "deit3", "swin", "maxvit", "coatnet")
    if any(part in name for part in fixed):
        return 224
    return round_.sized(64 if models.MODELS[name].sized else 150, 32)


def _physics(round_: Round) -> dict[str, float]:
    """The networks that know the lens equation train, in float32 and bf16."""
    size, found = 64, {}
    names = ("lens_pinn", "physics_resnet50", "lens_vit_pinn")
    for name in round_.sized(names, names[:1]):
        task = build_task("physics_guided", classes=CLASSES, frame=Frame(1, size, 0.05))
        source = loader(varied(round_), round_.torch_device, size=size)
        task.fit_statistics(source.targets.cpu().numpy(), source.truth)
        for amp in round_.sized(("off", "bf16"), ("off",)):
            made = stepper(name, task, round_.torch_device, size=size, amp=amp, lr=1e-4)
            losses = _losses(made, batch_of(source, round_.sized(16, 4)), round_.sized(3, 1))
            assert all(map(math.isfinite, losses)), f"{name}, amp {amp}: {losses}"
            found[f"{name}, amp {amp}"] = round(losses[-1], 3)
    return found


def _halving(round_: Round) -> str:
    """Out of memory: micro-batches are halved, and the step is that of small ones."""
    round_.need_cuda("memory of a processor does not run out so")
    batch = batch_of(loader(varied(round_), round_.torch_device), 480)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    room = torch.cuda.memory_reserved() + 2.5e9
    torch.cuda.set_per_process_memory_fraction(min(1.0, room / total))
    try:
        made = stepper("resnet50", classification(), round_.torch_device, size=150, **_SGD)
        losses = _losses(made, batch, 2)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    size = made.micro_batch
    assert size and size < 480, f"micro-batches of {size}"
    small = stepper(
        "resnet50", classification(), round_.torch_device, size=150, micro_batch=size, **_SGD
    )  # fmt: skip
    expected = _losses(small, batch, 2)
    assert np.allclose(losses[0], expected[0], rtol=1e-2), f"{losses} and {expected}"
    return f"micro-batches of {size}; losses {losses} and {expected}"


def _compiled(round_: Round) -> str:
    """torch.compile: the losses of eager, and how often it compiles over unequal batches."""
    size, found = round_.sized(64, 32), {}
    source = loader(varied(round_), round_.torch_device, size=size)
    places = order(shuffled(len(source), seed=0, epoch=0), 70) * 2
    for name, engine in (("eager", {}), ("compiled", {"compile": True})):
        if engine and round_.small:
            raise NotTested("a rehearsal compiles nothing; eager steps were made")
        if engine and not any(map(shutil.which, ("cc", "gcc", "clang"))):
            raise NotTested("this machine has no C compiler")
        made = stepper(
            "test_resnet", classification(), round_.torch_device, size=size, engine=engine, **_SGD
        )  # fmt: skip
        for got in source.batches(places, seed=0):
            loss = float(step(made, Batch(*got))) / len(got[0])
        found[name] = loss
    from torch._dynamo.utils import counters

    assert abs(found["eager"] - found["compiled"]) < 2e-2, found
    graphs = counters["stats"]["unique_graphs"]
    round_.number("graphs compiled for unequal batches", graphs, "")
    return f"{found}, {graphs} graphs"


def _graphed(round_: Round) -> str:
    """A CUDA graph: the losses of eager steps."""
    round_.need_cuda("there are no graphs")
    size, found = 64, {}
    batch = batch_of(loader(varied(round_), round_.torch_device, size=size), 32)
    with _without_tf32():
        for graph in ("off", "auto"):
            made = stepper(
                "resnet18", classification(), round_.torch_device, size=size, clip=1.0, ema=0.99,
                engine={"graph": graph}, **_SGD,
            )  # fmt: skip
            found[graph] = _losses(made, batch, 14)
    assert np.allclose(found["off"], found["auto"], rtol=2e-2), found
    return f"after 14 steps {found['off'][-1]:.6f} and {found['auto'][-1]:.6f}"


def _processes(round_: Round) -> str:
    """What is asked of NCCL (gloo without a GPU), by one process that takes itself for two."""
    backend = "nccl" if round_.cuda else "gloo"
    if round_.cuda:
        torch.cuda.set_device(round_.torch_device)
    with tempfile.TemporaryDirectory() as folder:
        store = dist.FileStore(str(Path(folder) / "store"), 1)
        dist.init_process_group(backend, store=store, rank=0, world_size=1)
        try:
            _every_call(round_, World(0, 2, round_.torch_device))
        finally:
            dist.destroy_process_group()
    return backend


def _every_call(round_: Round, world: World) -> None:
    size = round_.sized(64, 32)
    network = models.build("test_resnet", channels=1, classes=3, size=size).to(round_.torch_device)
    world.all_reduce_max(3)
    world.all_reduce_sum(torch.ones(3, device=round_.torch_device, dtype=torch.float64))
    world.barrier()
    world.broadcast_buffers(network)
    world.broadcast({"a": np.ones(3)})
    batch = batch_of(loader(varied(round_), round_.torch_device, size=size), 8)
    for engine in ({}, {"channels_last": True}):
        made = stepper(
            "test_resnet", classification(), round_.torch_device, size=size, engine=engine,
            world=world, micro_batch=4, clip=1.0, amp="bf16", sync_bn=round_.cuda,
        )  # fmt: skip
        _losses(made, batch, 2)


def _energy(round_: Round) -> str:
    """NVML tells what work costs."""
    meter = provenance.Energy(0 if round_.cuda else None)
    round_.need_cuda("no meter")
    values = torch.randn(4096, 4096, device=round_.torch_device)
    for _ in range(200):
        values @ values
    torch.cuda.synchronize()
    joules = meter.joules()
    if joules is None:
        raise NotTested("NVML or nvidia-ml-py tells nothing here")
    assert joules > 0, joules
    return f"{joules:.1f} J for 200 products of 4096 x 4096"


_CHECKS = {
    "batches of the device are the processor's": _batches_agree,
    "device, host and off give the same bits": _residence,
    "steps in float32 are the processor's": _steps_agree,
    "bf16, fp16 and channels_last begin like float32": _precisions_agree,
    "no wait of the host in nine steps": _no_waits,
    "diffusion trains": _diffusion_waits,
    "every model trains in bf16 with channels_last": _every_model,
    "physics-guided networks train": _physics,
    "out of memory halves micro-batches": _halving,
    "compiled steps are eager's": _compiled,
    "steps of a CUDA graph are eager's": _graphed,
    "every call of the processes": _processes,
    "energy is measured": _energy,
}
