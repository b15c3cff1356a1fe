"""How fast this machine is, as ratios from one run: nothing should cost but the model.

Every number is a median of repeats, with their spread; what is compared is measured in turns, so
that a busy machine slows both sides of a ratio.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from deeplense_batch.core import provenance
from deeplense_batch.core.distributed import World, open_world
from deeplense_batch.core.job import Augment, Job, JobError
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.batches.mixture import Mixture
from deeplense_batch.data.batches.sampling import order, shuffled
from deeplense_batch.data.job_slices import open_slices
from deeplense_batch.data.mixed_sets import open_training_sets
from deeplense_batch.data.packing.pack import pack
from deeplense_batch.data.shards import Split
from deeplense_batch.tasks.task import Batch, Task
from deeplense_batch.training.evaluation import batches_of
from deeplense_batch.training.images.loaders import frame_of, open_loaders
from deeplense_batch.training.precision import choose_kernels
from deeplense_batch.training.setup import gflops_of, model_of, side_given
from deeplense_batch.training.step import Stepper

__all__ = ["BenchReport", "DataSpeed", "ModelSpeed", "Ratio", "bench"]

_STEPS = {"cpu": 5, "cuda": 100}  # of a measurement
_FILES = 1500  # images written as .npy, for the loaders and the packing

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ratio:
    """Seconds of one way over seconds of another, over repeats."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.least:.3f} to {self.most:.3f})"


@dataclass(frozen=True)
class ModelSpeed:
    """One model on this device."""

    model: str
    images_per_s: float  # of training, through the whole data plane
    step_ratio: Ratio  # through the data plane, over one batch that lies in memory
    parameters: int
    gflops: float  # of a forward pass of one image
    peak_memory_gb: float | None  # of a GPU
    amp: str


@dataclass(frozen=True)
class DataSpeed:
    """The data plane without a model."""

    loader_ratio: Ratio  # DataLoader(num_workers=2) over .npy files, over our loader
    images_per_s: float  # of our loader
    packing_ratio: Ratio  # bare np.load of the files, over packing them
    packed_per_s: float


@dataclass(frozen=True)
class BenchReport:
    """What `bench` measured; `str` gives a table."""

    device: dict[str, object]
    models: tuple[ModelSpeed, ...]
    data: DataSpeed
    versions: dict[str, str]

    def as_json(self) -> dict[str, object]:
        """The same as plain values, with a schema number."""
        return {"schema": 1} | asdict(self)

    def __str__(self) -> str:
        rows = [("model", "images/s", "step ratio", "M parameters", "GFLOPs", "peak GB", "amp")]
        for m in self.models:
            numbers = (f"{m.images_per_s:.0f}", str(m.step_ratio), f"{m.parameters / 1e6:.3f}")
            peak = "-" if m.peak_memory_gb is None else f"{m.peak_memory_gb:.2f}"
            rows.append((m.model, *numbers, f"{m.gflops:.3f}", peak, m.amp))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [f"on {self.device['name']}"] + [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        lines.append("step ratio: seconds through the data plane over seconds on a fixed batch")
        lines += [
            f"loader: {self.data.images_per_s:.0f} images/s, {self.data.loader_ratio} times "
            "a DataLoader of 2 workers over .npy files, as published",
            f"packing: {self.data.packed_per_s:.0f} images/s, {self.data.packing_ratio} times "
            "the rate of a bare np.load loop",
        ]
        return "\n".join(lines)


def bench(
    jobs: Sequence[Job],
    *,
    steps: int | None = None,
    repeats: int = 5,
    device: str | None = None,
) -> BenchReport:
    """Measure every model of some jobs, and the data plane, on this device.

    Arguments:
        jobs: Their models, batch sizes, sizes and augmentations are measured.
        steps: Training steps of one measurement; by default 5, and on a GPU 100, which it makes
            in the time of a few.
        repeats: Measurements of each number.
        device: ``cpu`` or ``cuda``, in place of what the jobs ask for.

    Raises:
        JobError: A model is asked for in two ways that would give it two rates.
        DeviceError: A GPU was asked for and there is none.
        ShardError, ModelError: Data or a model are not there.
    """
    jobs = _unadapted(jobs)
    _check_one_way(jobs)
    seen: dict[str, ModelSpeed] = {}
    gpus = max(job.resources.gpus for job in jobs)
    with contextlib.ExitStack() as stack:
        world = stack.enter_context(open_world(gpus=gpus, device=device))
        deterministic = jobs[0].engine.deterministic
        stack.enter_context(choose_kernels(world.device, deterministic=deterministic))
        if world.device.type == "cpu":
            torch.set_num_threads(jobs[0].resources.cpus)
        steps = steps or _STEPS[world.device.type]
        for job in jobs:
            if job.model.name not in seen:
                seen[job.model.name] = _model_speed(job, world, steps, repeats)
        data = _data_speed(jobs[0], world, repeats)
        return BenchReport(world.describe(), tuple(seen.values()), data, provenance.versions())


def _check_one_way(jobs: Sequence[Job]) -> None:
    """A row is that of a model: it has one rate."""
    ways: dict[str, dict[str, object]] = {}
    for job in jobs:
        way: dict[str, object] = {
            "data.crop": job.data.crop,
            "data.size": job.data.size,
            "train.batch_size": job.train.batch_size,
        }
        first = ways.setdefault(job.model.name, way)
        for field in (name for name in way if way[name] != first[name]):
            raise JobError(
                f"bench: {job.model.name} is to be measured with {field} {first[field]} and "
                f"{way[field]}; a model is measured in one way, such as --{field}={way[field]}"
            )


def _unadapted(jobs: Sequence[Job]) -> list[Job]:
    """The jobs without adaptation, so that a rate is that of a model."""
    if any(job.task.adaptation for job in jobs):
        _log.warning("bench: task.options.adapt is left out: a model is measured by itself")
    found = []
    for job in jobs:
        options = {name: value for name, value in job.task.options.items() if name != "adapt"}
        task = job.task.model_copy(update={"options": options})
        found.append(job.model_copy(update={"task": task}) if job.task.adaptation else job)
    return found


def _model_speed(job: Job, world: World, steps: int, repeats: int) -> ModelSpeed:
    task, train = _training_images(job, world)
    info = train.info
    cuda = world.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    model = model_of(job, info, task, pretrained=False).to(world.device)
    stepper = Stepper(job, world, task, model)
    stepper.start_epoch()
    batches = itertools.cycle(order(shuffled(len(train), seed=0, epoch=0), job.train.batch_size))
    fetch = [next(batches) for _ in range(steps)]

    draws = task.spec.draws
    (fixed,) = batches_of(train, fetch[:1], draws=draws)

    def step(batch: Batch) -> None:
        stepper(batch, samples=len(batch.images), time=0.5, progress=0.0, seed=0)

    def through() -> None:
        for batch in batches_of(train, fetch, job.data.augment):
            step(batch)

    def in_memory() -> None:
        for _ in fetch:
            step(fixed)

    whole, bare = _in_turns([through, in_memory], repeats, world)
    images = sum(map(len, fetch))
    peak = torch.cuda.max_memory_allocated() / 1e9 if cuda else None  # a host tells no model apart
    return ModelSpeed(
        model=job.model.name,
        images_per_s=images / statistics.median(whole),
        step_ratio=_ratio(whole, bare),
        parameters=sum(p.numel() for p in model.parameters()),
        gflops=gflops_of(model, info.shape[0], side_given(task, frame_of(job, info))),
        peak_memory_gb=peak,
        amp=stepper.precision.name,
    )


def _training_images(job: Job, world: World) -> tuple[Task, Loader | Mixture]:
    """The task of a job, and what it trains on."""
    slices = open_slices(job)
    sets = open_training_sets(job, slices)
    of_one = {} if sets else {"train": slices["train"]}
    task, loaders = open_loaders(job, world, of_one, sets)
    return task, loaders["train"]


def _data_speed(job: Job, world: World, repeats: int) -> DataSpeed:
    """The data plane on the first images of a job, against .npy files of the same.

    Of a job that trains on several sets, on those of the first.
    """
    _, images = _training_images(job, world)
    loader = images.members[0] if isinstance(images, Mixture) else images
    split = loader.split
    count = min(len(split), _FILES)
    fetch = order(np.arange(count), job.train.batch_size)
    size = job.data.size or job.data.crop or split.info.shape[1]
    with tempfile.TemporaryDirectory() as folder:
        files = _export(split.part(0, count), Path(folder) / "x")
        theirs = DataLoader(
            _Files(files, size, job.data.augment),
            job.train.batch_size,
            shuffle=True,
            num_workers=2,
        )
        numbers = itertools.count()

        def ours() -> None:
            for _ in loader.batches(fetch, job.data.augment, seed=0, epoch=0):
                pass

        def bare_load() -> None:
            for file in files:
                np.load(file)

        def packing() -> None:
            pack(Path(folder) / "x", Path(folder) / f"packed{next(numbers)}")

        loading = _in_turns([lambda: [None for _ in theirs], ours], repeats, world)
        packed = _in_turns([bare_load, packing], repeats, world)
    return DataSpeed(
        loader_ratio=_ratio(*loading),
        images_per_s=count / statistics.median(loading[1]),
        packing_ratio=_ratio(*packed),
        packed_per_s=count / statistics.median(packed[1]),
    )


def _in_turns(
    ways: Sequence[Callable[[], object]], repeats: int, world: World
) -> list[list[float]]:
    """Seconds of each way, after one unmeasured turn, measured one after the other."""
    seconds: list[list[float]] = [[] for _ in ways]
    for turn in range(repeats + 1):
        for way, taken in zip(ways, seconds, strict=True):
            started = time.perf_counter()
            way()
            if world.device.type == "cuda":
                torch.cuda.synchronize()
            if turn:
                taken.append(time.perf_counter() - started)
    return seconds


def _ratio(one: Sequence[float], other: Sequence[float]) -> Ratio:
    ratios = sorted(a / b for a, b in zip(one, other, strict=True))
    return Ratio(statistics.median(ratios), ratios[0], ratios[-1])


def _export(split: Split, folder: Path) -> list[Path]:
    """Write images as the .npy files they may have come from, by class."""
    files = []
    for image, target, number in zip(split.images(), split.targets(), itertools.count()):
        class_folder = folder / (split.info.classes[target] if target >= 0 else "unlabelled")
        class_folder.mkdir(parents=True, exist_ok=True)
        files.append(class_folder / f"{number}.npy")
        np.save(files[-1], image)
    return files


class _Files(Dataset[tuple[torch.Tensor, int]]):
    """The way of the published comparison: a file, a picture in RGB, transformed on its own.

    There the values from 0 to 1 were cut to whole numbers on the way; here they keep 8 bits.
    """

    def __init__(self, files: Sequence[Path], size: int, augment: Augment) -> None:
        from torchvision import transforms

        self._files = files
        shift, flip = (augment.translate, augment.translate), 0.5 * augment.flips
        self._transform = transforms.Compose(
            [
                transforms.Resize((size, size)),
                transforms.RandomHorizontalFlip(flip),
                transforms.RandomVerticalFlip(flip),
                transforms.RandomAffine(augment.degrees, shift, augment.scale),
                transforms.ToTensor(),
                transforms.Normalize([0.5] * 3, [0.5] * 3),
            ]
        )

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        from PIL import Image

        values = np.load(self._files[index]).astype(np.float32)
        picture = Image.fromarray(np.squeeze(values[:1], 0) * 255).convert("RGB")
        return self._transform(picture), 0
