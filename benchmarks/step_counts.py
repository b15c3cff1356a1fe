"""How often a training step launches a kernel, copies, and makes the host wait: no GPU is needed.

A step runs on torch's `meta` device, where tensors have shapes and no values, and every operation
is counted on its way there. Where the host would look at a value, a device would have to finish
all that it was asked for: a wait. Kernels that a library starts inside one operation are not seen:
real launches (`torch.profiler`, as in `benchmarks.gpu_round`) are up to twice as many.

    python -m benchmarks.step_counts [--size 64] [--batch 32]
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.utils._pytree as pytree
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from deeplense_batch import models
from deeplense_batch.core.distributed import World
from deeplense_batch.core.job import Augment, Job
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.pixels.transform import Transform
from deeplense_batch.data.shards import open_split
from deeplense_batch.simulation.simulate import simulate
from deeplense_batch.tasks import build_task
from deeplense_batch.tasks.task import Batch, Frame
from deeplense_batch.training.step import Stepper

__all__ = ["AUGMENTATIONS", "CASES", "Counts", "batch_counts", "counting", "step_counts"]

META, _CPU = torch.device("meta"), torch.device("cpu")
_ALL = {"clip": 1.0, "ema": 0.999}
_BATCHES = 16
_UNET = {"width": 32, "multiples": [1, 2], "attention": 1, "blocks": 1}
_FREE = {  # neither compute nor copy
    "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "alias",
    "lift_fresh", "_unsafe_view", "resize_", "set_",
}  # fmt: skip


@dataclass
class Counts:
    """What one device was asked for."""

    launches: int = 0  # operations that compute on the device
    copies: int = 0  # of values between host and device, either way
    waits: int = 0  # of the host for the device; each copy from pageable memory is one
    operations: Counter[str] = field(default_factory=Counter)

    def clear(self) -> None:
        """Count from here on."""
        self.launches = self.copies = self.waits = 0
        self.operations.clear()


class _Counting(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.counts = Counts()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        name = func.overloadpacket.__name__
        sides = {value.device.type for value in _tensors((args, options))}
        if name == "_local_scalar_dense" and "meta" in sides:
            self._count(name, waits=1)
            return {torch.bool: False}.get(args[0].dtype, 1)
        if name.startswith("_fused_") and "meta" in sides:  # a kernel of real devices alone
            return self._count(name, launches=1)
        target = torch.device(options["device"]).type if options.get("device") else None
        if name == "_to_copy" and "meta" in sides and target == "cpu":
            self._count("to the host", copies=1, waits=1)
            return torch.zeros_like(args[0], device="cpu", dtype=options.get("dtype"))
        made = func(*args, **options)
        if (name == "_to_copy" and target == "meta" and "cpu" in sides) or (
            name == "copy_" and sides == {"cpu", "meta"}
        ):
            self._count("to the device", copies=1, waits=1)
        elif name not in _FREE and not func.is_view and _on_meta(made, args):
            self._count(name, launches=1)
        return made

    def _count(self, name: str, **numbers: int) -> None:
        self.counts.operations[name] += 1
        for field_, number in numbers.items():
            setattr(self.counts, field_, getattr(self.counts, field_) + number)


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in pytree.tree_leaves(values) if isinstance(value, Tensor)]


def _on_meta(made: Any, args: Any) -> bool:
    found = _tensors(made) or _tensors(args)
    return any(value.device.type == "meta" for value in found)


def _no_autocast(*_: Any, **__: Any) -> contextlib.AbstractContextManager[None]:
    """`meta` has one precision."""
    return contextlib.nullcontext()


@contextlib.contextmanager
def counting() -> Iterator[Counts]:
    """Count what is asked of the `meta` device, which passes for a GPU inside the context."""
    mode = _Counting()
    with contextlib.ExitStack() as stack:
        for kind in ("fused", "foreach"):
            devices = f"torch.optim.optimizer._get_{kind}_kernels_supported_devices"
            stack.enter_context(mock.patch(devices, return_value=["cuda", "cpu", "meta"]))
        stack.enter_context(
            mock.patch("torch.utils._foreach_utils._device_has_foreach_support", return_value=True)
        )
        stack.enter_context(mock.patch("torch.autocast", _no_autocast))
        stack.enter_context(mode)
        yield mode.counts


#: A step of each task: model, task, its options, options of the network, of `train`.
CASES: dict[str, tuple[str, str, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "classification": ("resnet18", "classification", {}, {}, {}),
    "classification, clip, ema": ("resnet18", "classification", {}, {}, _ALL),
    "detection": ("resnet18", "detection", {}, {}, {}),
    "regression": ("resnet18", "regression", {"target": "theta_e"}, {}, {}),
    "physics_guided, plain": ("resnet18", "physics_guided", {}, {}, {}),
    "physics_guided, lens_pinn": ("lens_pinn", "physics_guided", {}, {}, {}),
    "physics_guided, lens_vit_pinn": ("lens_vit_pinn", "physics_guided", {}, {}, {}),
    "physics_guided, physics_resnet50": ("physics_resnet50", "physics_guided", {}, {}, {}),
    "generation, edm": ("unet", "generation", {"schedule": "edm"}, _UNET, _ALL),
    "generation, cosine": ("unet", "generation", {"schedule": "cosine"}, _UNET, _ALL),
    "generation, linear, ssim": (
        "unet", "generation", {"schedule": "linear", "prediction": "epsilon", "ssim": 0.5},
        _UNET, _ALL,
    ),
    "generation, class and radius": (
        "unet", "generation", {"conditions": ["class", "theta_e"]}, _UNET | {"radius": True}, _ALL
    ),
}  # fmt: skip


#: What may happen to an image.
AUGMENTATIONS = {
    "nothing": Augment(),
    "flips, turn, shift, zoom": Augment(
        flips=True, degrees=15, translate=0.05, scale=(0.95, 1.05)
    ),
    "all": Augment(
        dihedral=True, degrees=15, translate=0.05, scale=(0.9, 1.1), blur=1.0, noise=0.1
    ),
}


def step_counts(name: str, *, size: int = 64, batch: int = 8) -> Counts:
    """Count one step of a case of `CASES`, its second: the first makes what is kept."""
    model, task_name, task_options, model_options, train = CASES[name]
    classes = ("lens", "no") if task_name == "detection" else ("no", "sphere", "vort")
    frame = Frame(1, size, 0.05)
    task = build_task(task_name, classes=classes, frame=frame, **task_options)
    with META:
        network = models.build(
            model, channels=1, classes=task.spec.num_outputs, size=size, **model_options
        )
    job = Job.model_validate(
        {"name": "counts", "model": {"name": model}, "data": {"root": "."}, "train": train}
    )
    with counting() as counts:
        stepper = Stepper(job, World(0, 1, META), task, network)
        stepper.start_epoch()
        for _ in range(2):
            counts.clear()
            stepper(_batch(batch, size), samples=batch, time=0.1, progress=0.1, seed=0)
    return counts


def batch_counts(root: Path, augment: Augment, *, batches: int = 16, batch: int = 8) -> Counts:
    """Count what the data plane asks for as many batches of the training images of a folder."""
    split = open_split(root, "train")
    measured = Loader(split, transform=Transform(None, None, "linear"), device=_CPU).measured()
    source = Loader(split, transform=measured, device=META, resident="device")
    places = [np.arange(batch)] * batches
    with counting() as counts:
        for _ in source.batches(places[:1], augment):  # makes what is kept
            counts.clear()
        for _ in source.batches(places, augment):
            pass
    return counts


def _batch(count: int, size: int) -> Batch:
    def numbers(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(count, *shape, dtype=dtype, device=META)

    index = numbers(dtype=torch.int64)
    truth = {"theta_e": numbers(), "lens": numbers(4), "shear": numbers(2)}
    return Batch(numbers(1, size, size), numbers(dtype=torch.int64), index, truth=truth)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    asked = parser.parse_args()
    _show("one step of", "operations", "copies", "waits")
    for name in CASES:
        counts = step_counts(name, size=asked.size, batch=asked.batch)
        _show(name, counts.launches, counts.copies, counts.waits)
    with tempfile.TemporaryDirectory() as folder:
        simulate("substructure", folder, images=60, size=asked.size)
        for name, augment in AUGMENTATIONS.items():
            counts = batch_counts(Path(folder), augment, batches=_BATCHES)
            numbers = (counts.launches, counts.copies, counts.waits)
            _show(f"one batch, {name}", *(f"{number / _BATCHES:.1f}" for number in numbers))


def _show(name: str, *cells: object) -> None:
    print(f"{name:38s}" + "".join(f"{cell:>11}" for cell in cells))


if __name__ == "__main__":
    main()
