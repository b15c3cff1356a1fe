"""Training through this suite beside timm's components and Lightning's Trainer, in turns.

The same images, network, optimizer, precision and augmentations (flips, turns, shifts, zooms) on
one device. Ours reads shards, made into batches on the device. The others read a ``.npy`` file an
image by workers, as their users do, each image transformed on its own by torchvision. What is
measured is the steady state: the first steps of each turn, in which workers start, do not count.

    python -m benchmarks.peers [--device cpu] [--model resnet18] [--repeats 5] [--out FILE.json]

timm's part is its `train.py` put together by hand: `create_loader` with its prefetcher,
`create_optimizer_v2`, autocast and, for fp16, `NativeScaler`; losses are not looked at.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate

from benchmarks.documents import document, measured, show
from benchmarks.machine import machine_facts
from benchmarks.steps import AS_THE_JOB, classification, loader, step, stepper
from deeplense_batch import models
from deeplense_batch.core.distributed import device_of
from deeplense_batch.core.machine import cores
from deeplense_batch.data.batches.sampling import order, shuffled
from deeplense_batch.data.shards import open_split
from deeplense_batch.simulation.simulate import simulate
from deeplense_batch.tasks.task import Batch

__all__ = ["WAYS", "Setting", "compare", "lacking", "lines", "most_workers"]

_FILES = 6_400  # at most; each is read again where more images are asked for
_MEAN, _STD = 0.06, 0.12  # of the simulated images; ours measures its own


@dataclass(frozen=True)
class Setting:
    """What all ways share."""

    root: str  # shards
    device: str  # cpu or cuda
    model: str = "resnet18"
    size: int = 150  # pixels along a side, for ours; files have those of the shards
    batch_size: int = 64
    steps: int = 10  # of one measurement
    warm: int = 3  # steps before them, not measured
    workers: int = 2  # of the peers' loaders
    amp: bool = False  # bf16
    channels_last: bool = False

    def __str__(self) -> str:
        words = [self.model, f"batch {self.batch_size}", f"{self.size} pixels"]
        words += ["bf16" if self.amp else "float32"] + ["channels_last"] * self.channels_last
        return ", ".join([*words, f"{self.workers} workers"])

    @property
    def torch_device(self) -> torch.device:
        """The device."""
        return torch.device("cuda", 0) if self.device == "cuda" else torch.device("cpu")

    @property
    def images(self) -> int:
        """Images of a turn."""
        return (self.warm + self.steps) * self.batch_size

    def network(self) -> nn.Module:
        """With the same first weights for all."""
        torch.manual_seed(0)
        made = models.build(self.model, channels=1, classes=3, size=self.size)
        made = made.to(self.torch_device).train()
        return made.to(memory_format=torch.channels_last) if self.channels_last else made

    def laid_out(self, images: Tensor) -> Tensor:
        """Images in the memory format."""
        if not self.channels_last:
            return images
        return images.contiguous(memory_format=torch.channels_last)


@dataclass
class _Clock:
    """Called after every step; the rate of those after the first ones."""

    setting: Setting
    count: int = 0
    times: list[float] = field(default_factory=list)

    def __call__(self) -> None:
        self.count += 1
        if self.count in (self.setting.warm, self.setting.warm + self.setting.steps):
            if self.setting.device == "cuda":
                torch.cuda.synchronize()
            self.times.append(time.perf_counter())

    def rate(self) -> float:
        """Images a second."""
        first, last = self.times
        return self.setting.steps * self.setting.batch_size / (last - first)


Way = Callable[[Setting, Sequence[Path]], Callable[[_Clock], None]]


class _Files(Dataset[tuple[Tensor, int]]):
    """A .npy file for each image, transformed on its own; again from the first after the last."""

    def __init__(self, files: Sequence[Path], size: int, images: int) -> None:
        from torchvision.transforms import InterpolationMode, v2

        self._files, self._images = files, images
        augment = AS_THE_JOB
        shift = (augment.translate, augment.translate)
        bilinear = InterpolationMode.BILINEAR
        self.change = v2.Compose([
            v2.RandomHorizontalFlip(), v2.RandomVerticalFlip(),
            v2.RandomAffine(augment.degrees, shift, augment.scale, None, bilinear),
            v2.Resize(size) if size else nn.Identity(),
        ])  # fmt: skip
        self.transform: object = None  # which timm would set; `change` is in its place

    def __len__(self) -> int:
        return self._images

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        file = self._files[index % len(self._files)]
        target = int(file.stem.rpartition("-")[2])
        return self.change(torch.from_numpy(np.load(file))), target


def _write(setting: Setting, folder: Path) -> list[Path]:
    """The first images as files named by number and class."""
    split = open_split(setting.root, "train")
    count = min(len(split), setting.images, _FILES)
    split = open_split(setting.root, f"train[:{count}]")
    files = []
    for number, (image, target) in enumerate(zip(split.images(), split.targets(), strict=True)):
        files.append(folder / f"{number}-{target}.npy")
        np.save(files[-1], np.asarray(image, np.float32))
    return files


def _ours(setting: Setting, files: Sequence[Path]) -> Callable[[_Clock], None]:
    source = loader(setting.root, setting.torch_device, size=setting.size)
    made = stepper(
        setting.model, classification(), setting.torch_device, size=setting.size,
        batch_size=setting.batch_size, amp="bf16" if setting.amp else "off",
        engine={"channels_last": setting.channels_last}, lr=3e-4, weight_decay=0.01,
    )  # fmt: skip
    shuffled_ = np.resize(shuffled(len(source), seed=0, epoch=0), setting.images)
    places = order(shuffled_, setting.batch_size)

    def turn(clock: _Clock) -> None:
        for got in source.batches(places, AS_THE_JOB, seed=0, epoch=0):
            step(made, Batch(*got))
            clock()

    return turn


def _timm(setting: Setting, files: Sequence[Path]) -> Callable[[_Clock], None]:
    from timm.data import create_loader
    from timm.optim import create_optimizer_v2

    data: Any = _Files(files, setting.size, setting.images)
    # The prefetcher takes pixels from 0 to 255 for granted, and scales mean and deviation by that.
    source = create_loader(
        data, (1, setting.size, setting.size),
        setting.batch_size, is_training=True, mean=(_MEAN / 255,), std=(_STD / 255,),
        num_workers=setting.workers, collate_fn=default_collate, device=setting.torch_device,
        pin_memory=setting.device == "cuda",
    )  # fmt: skip
    network = setting.network()
    optimizer = create_optimizer_v2(network, opt="adamw", lr=3e-4, weight_decay=0.01)
    cast = partial(torch.autocast, setting.device, torch.bfloat16, enabled=setting.amp)

    def turn(clock: _Clock) -> None:
        for images, targets in source:
            optimizer.zero_grad()
            with cast():
                output = network(setting.laid_out(images))
                loss = nn.functional.cross_entropy(output, targets)
            loss.backward()
            optimizer.step()
            clock()

    return turn


def _lightning(setting: Setting, files: Sequence[Path]) -> Callable[[_Clock], None]:
    import lightning

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    source = DataLoader(
        _Files(files, setting.size, setting.images), setting.batch_size, shuffle=True,
        num_workers=setting.workers, pin_memory=setting.device == "cuda", drop_last=True,
        persistent_workers=setting.workers > 0,
    )  # fmt: skip

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = setting.network()
            self.clock: Callable[[], None] = lambda: None

        def training_step(self, batch: list[Tensor], number: int) -> Tensor:
            images, targets = batch
            images = setting.laid_out(images.sub(_MEAN).div(_STD))
            return nn.functional.cross_entropy(self.network(images), targets)

        def on_train_batch_end(self, *_: Any) -> None:
            self.clock()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.network.parameters(), lr=3e-4, weight_decay=0.01)

    module = Module()

    def turn(clock: _Clock) -> None:
        module.clock = clock
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of few workers, of no validation
            trainer = lightning.Trainer(
                max_epochs=1, accelerator="gpu" if setting.device == "cuda" else "cpu", devices=1,
                precision="bf16-mixed" if setting.amp else "32-true", logger=False,
                enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            )  # fmt: skip
            trainer.fit(module, source)

    return turn


WAYS: dict[str, Way] = {"ours": _ours, "timm": _timm, "lightning": _lightning}


def lacking(way: str) -> str:
    """Why a way cannot be measured here; nothing where it can."""
    if way != "lightning" or importlib.util.find_spec("lightning") is not None:
        return ""
    return "Lightning is not installed here: pip install lightning"


def most_workers() -> int:
    """As many as there are cores, 14 at most."""
    return min(14, cores())


def compare(setting: Setting, names: Sequence[str], repeats: int) -> dict[str, list[float]]:
    """Images a second of each way, measured one after the other, over and over.

    Returns:
        ``repeats`` rates of each of `names`; those of one place were measured one after another.
    """
    rates: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        files = _write(setting, Path(folder))
        turns = {name: WAYS[name](setting, files) for name in names}
        for repeat in range(repeats + 1):
            for name, turn in turns.items():
                clock = _Clock(setting)
                turn(clock)
                if repeat:  # the first warms up
                    rates[name].append(clock.rate())
    return rates


def lines(setting: Setting, rates: dict[str, list[float]]) -> list[dict[str, Any]]:
    """The lines of a document: every rate, and ours over each other one, turn by turn."""
    found = [
        measured("peers", f"{setting}: {name}", values, "images/s")
        for name, values in rates.items()
    ]
    for name, values in rates.items() if "ours" in rates else ():
        if name != "ours":
            ratios = [ours / other for ours, other in zip(rates["ours"], values, strict=True)]
            found.append(measured("peers", f"{setting}: ours over {name}", ratios))
    return found


def main(words: Sequence[str] | None = None) -> None:
    """Measure with the options of the command line, or of `words`."""
    asked = _arguments(words)
    if sentence := next(filter(None, map(lacking, asked.ways)), ""):
        sys.exit(f"{sentence}; --ways ours timm measures without it")
    if asked.device == "cpu":
        torch.set_num_threads(asked.threads)
    device_of(asked.device)
    with tempfile.TemporaryDirectory() as folder:
        root = asked.data or f"{folder}/data"
        if not asked.data:
            simulate("substructure", root, images=asked.images, size=asked.size)
        setting = Setting(
            root=root, device=asked.device, model=asked.model, size=asked.size,
            batch_size=asked.batch_size, steps=asked.steps, workers=asked.workers,
            amp=asked.amp == "bf16", channels_last=asked.channels_last,
        )  # fmt: skip
        rates = compare(setting, asked.ways, asked.repeats)
    facts = machine_facts(asked.device, beside=asked.beside)
    show(document([facts, *lines(setting, rates)]), asked.out)


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    add("--model", default="resnet18")
    add("--size", type=int, default=150, help="pixels along a side")
    add("--batch_size", type=int, default=64)
    add("--steps", type=int, default=10, help="of one measurement")
    add("--repeats", type=int, default=5, help="measurements of each way, in turns")
    add("--workers", type=int, default=most_workers(), help="of the peers' loaders")
    add("--threads", type=int, default=cores(), help="of the network on a processor")
    add("--amp", choices=("off", "bf16"), default="off")
    add("--channels_last", action="store_true")
    add("--data", default="", help="a folder of shards; by default some are simulated")
    add("--images", type=int, default=1_200, help="to simulate")
    add("--beside", default="", help="what else runs on this machine, to be kept with the numbers")
    add("--out", default="", help="a JSON file for the numbers")
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
