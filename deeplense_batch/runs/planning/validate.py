"""Whether a job can be carried out: all that can be known of it before anything runs.

torch is loaded only for a model outside the table, for options and for simulations: `submit` of
plain jobs answers at once.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from deeplense_batch.core.job import (
    AnyJob,
    Augment,
    Evaluation,
    Job,
    JobError,
    Simulation,
    TaskSection,
    nearest,
)
from deeplense_batch.core.recipe import load_jobs
from deeplense_batch.data.formats.counted import counted
from deeplense_batch.data.job_slices import open_slices
from deeplense_batch.data.shards import (
    ShardError,
    data_digest,
    read_splits,
)
from deeplense_batch.models import INCEPTION, MODELS, build, check_name, check_options, published
from deeplense_batch.models.weights import weights_file
from deeplense_batch.tasks import TASKS, build_task

if TYPE_CHECKING:
    from deeplense_batch.tasks.task import Task

__all__ = [
    "Memo",
    "check_simulation",
    "check_training",
    "published_weights",
    "tell_other_thresholds",
]

_log = logging.getLogger(__name__)

Value = TypeVar("Value")
# Fields of `Augment` that move the pixels of an image.
_MOVING = ("flips", "dihedral", "degrees", "translate", "scale")


class Memo:
    """Values that are computed once for a plan, and anew for the next plan.

    Ten thousand runs of a grid ask for the same data, options and earlier runs.
    """

    def __init__(self) -> None:
        self._values: dict[Hashable, object] = {}

    def once(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        """The value of a key, computed the first time; what `compute` raises is not kept.

        Arguments:
            key: All that the value depends on.
            compute: Computes the value.
        """
        if key not in self._values:
            self._values[key] = compute()
        return self._values[key]  # type: ignore[return-value]  # what `compute` gave for the key


def check_training(job: Job, memo: Memo) -> str:
    """Check a job that trains.

    Arguments:
        job: With a run directory in place of each earlier run that it names (`with_earlier`).
        memo: What is known of the data and the options of other jobs of the plan.

    Returns:
        The digest of its data.

    Raises:
        JobError, ModelError, WeightsError, ShardError: What is wrong.
    """
    if job.task.name not in TASKS:
        raise JobError(
            f"{job.name}: task.name: unknown '{job.task.name}'; {nearest(job.task.name, TASKS)}"
        )
    check_name(job.model.name)
    check_options(job.model.name, job.model.options)
    _check_generation(job)
    for name in published_weights(job) if job.train.init is None else ():
        weights_file(name)
    task = _check_options(job, memo)
    if task is not None and not task.spec.mixes_labels:
        _check_unmixed(job)
    try:
        return _check_data(job, task, memo)
    except ShardError as error:
        raise ShardError(f"{job.name}: {error}") from error


def published_weights(job: AnyJob) -> list[str]:
    """Names of the networks whose published weights a job starts or measures with."""
    if isinstance(job, Evaluation):
        return [INCEPTION]
    if isinstance(job, Job) and job.model.pretrained:
        return published(job.model.name, job.model.options)
    return []


def tell_other_thresholds(searches: Iterable[tuple[Path, Job]], memo: Memo) -> None:
    """Warn where detections ask for another purity or prevalence than the runs that they are.

    Arguments:
        searches: Detections, and the run directory of each, which may not exist yet.
        memo: Of the plan.
    """
    kept: dict[Path, Job] = {}
    found: dict[tuple[str, str], list[tuple[Path, float, float]]] = {}
    for path, job in searches:
        if path not in kept:
            kept[path] = _kept(path, memo) or job
        for option, values in _other_thresholds(kept[path], job).items():
            found.setdefault((job.name, option), []).append((path, *values))
    for (name, option), rows in found.items():
        paths, has, asked = ([*dict.fromkeys(column)] for column in zip(*rows, strict=True))
        runs = f"the {len(paths)} runs that are kept have"
        _log.warning(
            "%s: task.options.%s: %s %s, this recipe %s; it needs no training again: "
            "'predict %s DATA --%s=%s'",
            name, option, runs if paths[1:] else "the run that is kept has",
            " and ".join(f"{v:g}" for v in has), " and ".join(f"{v:g}" for v in asked),
            "RUN" if paths[1:] else paths[0], option, asked[0],
        )  # fmt: skip


def _kept(path: Path, memo: Memo) -> Job | None:
    """The job of a training's run directory, where that is there and whole."""
    with contextlib.suppress(JobError):
        (job,) = load_jobs(path / "job.yaml")
        if isinstance(job, Job):
            _check_options(job, memo)
            return job
    return None


def _other_thresholds(kept: Job, asked: Job) -> dict[str, tuple[float, float]]:
    """Purity and prevalence of two detections that are one run, where they differ.

    Arguments:
        kept: The job of the run.
        asked: The other one.

    Returns:
        By option, that of the run and the other.
    """
    if kept.task.options == asked.task.options:
        return {}
    tasks = [build_task(job.task.name, classes=None, **job.task.options) for job in (kept, asked)]
    values = {name: [getattr(t, name) for t in tasks] for name in ("purity", "prevalence")}
    return {name: (has, other) for name, (has, other) in values.items() if has != other}


def _check_generation(job: Job) -> None:
    """Make sure that a model that denoises images learns to generate them, and no other does."""
    generates = job.task.name == "generation"
    denoises = job.model.name in MODELS and MODELS[job.model.name].denoises
    if denoises and not generates:
        raise JobError(
            f"{job.name}: model.name: {job.model.name} takes noise from images, which task.name "
            f"generation learns, not {job.task.name}"
        )
    if not denoises and generates:
        able = ", ".join(name for name, row in MODELS.items() if row.denoises)
        raise JobError(
            f"{job.name}: model.name: {job.model.name} gives no images, which task.name "
            f"generation learns; these do: {able}"
        )
    if generates and job.train.ema is None:
        raise JobError(
            f"{job.name}: train.ema: images are drawn with averaged weights; expected a decay "
            "below 1, such as 0.999"
        )


def _check_unmixed(job: Job) -> None:
    """Refuse what blends or weighs class labels, for a task whose loss would ignore it."""
    train = job.train
    for name, value, ignored, allowed in (
        ("mixup", train.mixup, bool(train.mixup), "0"),
        ("balance", train.balance, train.balance == "weights", "none or sampler"),
    ):
        if ignored:
            raise JobError(
                f"{job.name}: train.{name}: got {value}, which changes what is learnt of class "
                f"labels, and task {job.task.name} learns something else; expected {allowed}"
            )


def _check_data(job: Job, task: Task | None, memo: Memo) -> str:
    """Make sure that the shards have what the task learns; returns their digest.

    Raises:
        ShardError: They cannot be read, or have no labels.
        JobError: An option of the task or of the data does not go with them.
    """
    root = job.data.root
    digest = memo.once(("digest", root), lambda: data_digest(root))
    slices = open_slices(job, memo.once(("splits", root), lambda: read_splits(root)))
    info, sky = slices["train"].info, job.data.sky_sd
    if sky is not None and len(sky) != info.shape[0]:
        raise JobError(
            f"{job.name}: data.sky_sd: got {counted(len(sky), 'number')}; expected one for "
            f"each band of {root}, {info.shape[0]}"
        )
    if not info.classes and _uses_labels(task):
        raise ShardError(f"{root}: the images have no labels to learn")
    if task is not None and info.classes:
        _check_options(job, memo, info.classes)
    if task is not None and task.spec.fixed_geometry:
        truths = memo.once(("truths", info.files[0]), slices["train"].truths)
        _check_fixed(job, set(task.spec.truth_keys) & set(truths), info.shape[1:])
    return digest


def check_simulation(job: Simulation, memo: Memo) -> str:
    """Check a simulation; it has no data, and an empty digest.

    Raises:
        JobError: What is wrong.
    """
    from deeplense_batch.simulation.simulate import check, generator_class  # loads torch

    if job.part >= job.parts:
        raise JobError(f"{job.name}: part: {job.part} of {job.parts} parts; they count from 0")
    asked, section = job.resources, job.simulate
    if asked.tasks > 1:
        raise JobError(
            f"{job.name}: resources.{'gpus' if asked.gpus else 'processes'}: one process makes a "
            f"part of a simulation, on one GPU at most; got {asked.tasks}"
        )
    try:
        memo.once(
            ("simulation", repr(section)),
            lambda: check(section.kind, images=section.images, **section.options),
        )
    except ShardError as error:
        raise JobError(f"{job.name}: {error}") from error
    if asked.gpus and "device" not in inspect.signature(generator_class(section.kind)).parameters:
        raise JobError(
            f"{job.name}: resources.gpus: a {section.kind} set is made on the CPU alone; expected "
            f"0, got {asked.gpus}"
        )
    return ""


def _check_options(job: Job, memo: Memo, classes: tuple[str, ...] | None = None) -> Task | None:
    """Build the task and the model, which alone can check their options.

    That loads torch; the default task and a model without options are not built.

    Arguments:
        job: The job.
        memo: Of the plan.
        classes: Of the data, where they are known: the task is then checked against them.

    Returns:
        The task; None for the default one.
    """
    try:
        task = memo.once(("task", repr(job.task), classes), lambda: _try_task(job.task, classes))
    except (ValueError, TypeError) as error:
        raise JobError(f"{job.name}: {error}") from error
    if job.model.options:
        size = job.data.size or job.data.crop or 224
        key = ("model", job.model.name, repr(job.model.options), size)
        memo.once(key, lambda: _try_model(job, size))
    return task


def _try_task(section: TaskSection, classes: Sequence[str] | None) -> Task | None:
    if section == TaskSection():
        return None
    return build_task(section.name, classes=classes, **section.options)


def _uses_labels(task: Task | None) -> bool:
    """Whether a task needs images to have classes; None is the default one, which does."""
    return task is None or task.spec.needs_labels


def _try_model(job: Job, size: int) -> None:
    import torch

    with torch.device("meta"):
        build(job.model.name, channels=1, classes=2, size=size, **job.model.options)


def _check_fixed(job: Job, truth: set[str], sides: tuple[int, ...]) -> None:
    """Make sure that nothing moves images against the truth of their pixels.

    Arguments:
        job: The job.
        truth: Names of the truth that the task compares with pixels and that the data have.
        sides: Height and width of the images, pixels.

    Raises:
        JobError: A crop, an augmentation or an averaging of views would move them.
    """
    augment, none = job.data.augment, Augment()
    moving = [f"data.augment.{name}" for name in _MOVING
              if getattr(augment, name) != getattr(none, name)]  # fmt: skip
    moving += ["data.tta"] * job.data.tta + ["train.mixup"] * bool(job.train.mixup)
    if truth and job.data.crop and any((side - job.data.crop) % 2 for side in sides):
        raise JobError(
            f"{job.name}: data.crop: {job.data.crop} of {' x '.join(map(str, sides))} pixels lie "
            f"half a pixel off the middle, from which truth/{min(truth)} is measured; take one "
            "more or less"
        )
    if truth and moving:
        raise JobError(
            f"{job.name}: {moving[0]}: task {job.task.name} compares images with the truth of "
            f"their pixels (truth/{min(truth)}), which this would move; switch it off, or "
            "task.options.truth"
        )
