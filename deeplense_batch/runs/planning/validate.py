"""Whether a job can be carried out: all that can be known of it before anything runs.

torch is loaded only for a model outside the table, for options and for simulations: `submit` of
plain jobs answers at once.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from deeplense_batch.core.job import (
    AnyJob,
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
from deeplense_batch.data.mixed_sets import (
    about_pixel_scales,
    about_units,
    mixed_info,
    open_curriculum,
    open_training_sets,
)
from deeplense_batch.data.pixels.clean import about_clean, check_photons
from deeplense_batch.data.shards import (
    ShardError,
    Split,
    SplitInfo,
    data_digest,
    read_splits,
)
from deeplense_batch.models import INCEPTION, build, check_name, check_options, published
from deeplense_batch.models.weights import is_hub_name, weights_file
from deeplense_batch.runs.planning.adaptation import check_adaptation
from deeplense_batch.runs.planning.fresh_images import check_new_images
from deeplense_batch.runs.planning.known import check_numbers
from deeplense_batch.runs.planning.making_images import check_making_images, cuts_patches, masks
from deeplense_batch.runs.planning.pairs import check_pairs
from deeplense_batch.runs.planning.truth import check_balance, check_labels, check_truth
from deeplense_batch.tasks import TASKS, build_task

if TYPE_CHECKING:
    from torch import nn

    from deeplense_batch.tasks.task import Task

__all__ = [
    "Memo",
    "check_simulation",
    "check_training",
    "digest_of",
    "published_weights",
    "tell_other_thresholds",
    "truths_of",
]

_log = logging.getLogger(__name__)

Value = TypeVar("Value")


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
    check_making_images(job)
    for name in published_weights(job) if job.train.init is None else ():
        weights_file(name)
    if job.train.layer_decay is not None:
        from deeplense_batch.training.optim import layer_scales  # loads torch

        key = ("layers", job.model.name, repr(job.model.options), _side(job))
        memo.once(key, lambda: layer_scales(_try_model(job, _side(job)), 0.5))
    task = _check_options(job, memo)
    if task is not None and not task.spec.mixes_labels:
        _check_unmixed(job)
    if task is not None and not task.spec.averages and job.data.tta:
        raise JobError(
            f"{job.name}: data.tta: a mean over the symmetries is no posterior, which task "
            f"{job.task.name} learns here; expected false"
        )
    try:
        return _check_data(job, task, memo)
    except ShardError as error:
        raise ShardError(f"{job.name}: {error}") from error


def published_weights(job: AnyJob) -> list[str]:
    """Names of the networks whose published weights a job starts or measures with.

    Those of the hub too, which a job may use without their weights: what they are is fetched.
    """
    if isinstance(job, Evaluation):
        return [INCEPTION]
    if isinstance(job, Job) and (job.model.pretrained or is_hub_name(job.model.name)):
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
    digest = digest_of(root, memo)

    def read(folder: str) -> dict[str, SplitInfo]:
        return memo.once(("splits", folder), lambda: read_splits(folder))

    slices = open_slices(job, read(root))
    sets = open_training_sets(job, slices, read)
    trained_on = (*(sets or (slices["train"],)), *open_curriculum(job, slices, read))
    check_photons(job, trained_on)
    info = mixed_info(job.data, sets, slices.values()) if sets else slices["train"].info
    sky = job.data.sky_sd
    if sky is not None and len(sky) != info.shape[0]:
        raise JobError(
            f"{job.name}: data.sky_sd: got {counted(len(sky), 'number')}; expected one for "
            f"each band of {root}, {info.shape[0]}"
        )
    if cuts_patches(job):
        side = _side(job, info.shape[1]) // (1 if masks(job) else info.ratio)
        key = ("model", job.model.name, repr(job.model.options), side)
        memo.once(key, lambda: _try_model(job, side))
    if _uses_labels(task):
        _check_classes(job, info)
    if task is not None and info.classes:
        _check_options(job, memo, info.classes)
    check_adaptation(job, slices, sets, read)
    scored = (slices["valid"], slices["test"])
    if task is None or task.spec.classifies:
        for split in (*trained_on, *scored):
            check_labels(split)
    check_balance(job, trained_on)
    check_pairs(job, None if task is None else task.spec, (*trained_on, *scored))
    if task is not None and task.spec.truth_keys:
        needed = task.spec.truth_keys if task.spec.needs_truth else ()
        known = partial(truths_of, memo=memo, needed=needed)
        scales = about_pixel_scales(job.data, sets, [slices["test"]]) if sets else None
        check_truth(job, task.spec, trained_on, scored, known, scales)
        if needed:
            make = partial(build_task, job.task.name, classes=info.classes, **job.task.options)
            check_numbers(job, make, trained_on, scored, memo.once)
    check_new_images(job, trained_on[0], partial(truths_of, memo=memo), task)
    units = about_units(job.data, sets, scored) if sets else None
    for doubt in filter(None, (units, about_clean(job, [*trained_on, *scored]))):
        memo.once(("told", job.name, doubt), partial(_log.warning, "%s: %s", job.name, doubt))
    return digest


def digest_of(root: str, memo: Memo) -> str:
    """The digest of a set, which a plan computes once."""
    return memo.once(("digest", root), lambda: data_digest(root))


def truths_of(
    split: Split, memo: Memo, needed: Collection[str] = ()
) -> dict[str, tuple[int, ...]]:
    """The truth of a slice, which a plan looks up once: shape of the numbers of an image, by name.

    Arguments:
        split: The slice.
        memo: Of the plan.
        needed: Truth that a task cannot do without, which is looked for in every file; else the
            first file of the slice speaks for all.

    Raises:
        ShardError: Some of what is needed is in some files of the slice and not in others.
    """
    looked_at = split if needed else split.part(0, 1)
    files = tuple(path for path, *_ in looked_at.parts())
    shapes, lacking = memo.once(("truths", files), looked_at.shared_truths)
    for key in needed:
        if key in lacking:
            raise ShardError(
                f"{lacking[key]}: has no truth/{key} as other files of {split.info.name} have it, "
                "which the task learns; name a slice of those that have it"
            )
    return shapes


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
    adaptation = job.task.adaptation
    # what cuts patches depends on the size: `_check_data`
    if (job.model.options and not cuts_patches(job)) or adaptation is not None:
        key = ("model", job.model.name, repr(job.model.options), _side(job))
        model = memo.once(key, lambda: _try_model(job, _side(job)))
        if adaptation is not None and task is not None:
            try:
                memo.once((*key, adaptation.by), lambda: task.wrap(model))
            except ValueError as error:
                raise JobError(f"{job.name}: model.name: {job.model.name}: {error}") from error
    return task


def _try_task(section: TaskSection, classes: Sequence[str] | None) -> Task | None:
    if section == TaskSection():
        return None
    return build_task(section.name, classes=classes, **section.options)


def _check_classes(job: Job, info: SplitInfo) -> None:
    """Make sure that images have classes to tell apart.

    Raises:
        ShardError: They have none.
        JobError: They have one, or ``data.classes`` leaves one.
    """
    if not info.classes:
        raise ShardError(f"{job.data.root}: the images have no labels to learn")
    if len(info.classes) == 1:
        stored, (name,) = info.as_stored.classes, info.classes
        merged = f"data.classes makes {', '.join(stored)} one class" if stored[1:] else "one class"
        raise JobError(
            f"{job.name}: {job.data.root}: {merged}, {name}; expected two or more to tell apart"
        )


def _uses_labels(task: Task | None) -> bool:
    """Whether a task needs images to have classes; None is the default one, which does."""
    return task is None or task.spec.needs_labels


def _side(job: Job, stored: int = 224) -> int:
    """Pixels along a side of the images that a network is tried for; those of shards, if known."""
    return job.data.size or job.data.crop or stored


def _try_model(job: Job, side: int) -> nn.Module:
    """The network of a job without its weights, for images of so many pixels along a side."""
    import torch

    with torch.device("meta"):
        return build(job.model.name, channels=1, classes=2, size=side, **job.model.options)
