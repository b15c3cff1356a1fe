"""Whether a job can be carried out: all that can be known of it before anything runs.

Nothing here loads torch, but for a model name outside the table: `submit` answers at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deeplense_batch.data.shards import (
    ShardError,
    Split,
    data_digest,
    open_split,
    read_splits,
)
from deeplense_batch.job import Augment, Job, JobError, Simulation, TaskSection, nearest
from deeplense_batch.memo import Memo
from deeplense_batch.models import MODELS, build, check_name, published
from deeplense_batch.models.weights import weights_file
from deeplense_batch.tasks import TASKS, build_task

if TYPE_CHECKING:
    from deeplense_batch.tasks.task import Task

__all__ = ["check_simulation", "check_training", "open_slices"]

_USES = ("train", "valid", "test")
_MOVING = ("flips", "dihedral", "degrees", "translate", "scale")  # of `Augment`


def check_training(job: Job, memo: Memo) -> str:
    """Check a job that trains.

    Arguments:
        job: With the runs that it names found (`earlier`).
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
    denoises = job.model.name in MODELS and MODELS[job.model.name].denoises
    if denoises and job.task.name != "generation":
        raise JobError(
            f"{job.name}: model.name: {job.model.name} takes noise from images, which task.name "
            f"generation learns, not {job.task.name}"
        )
    if not denoises and job.task.name == "generation":
        able = ", ".join(name for name, row in MODELS.items() if row.denoises)
        raise JobError(
            f"{job.name}: model.name: {job.model.name} gives no images, which task.name "
            f"generation learns; these do: {able}"
        )
    if job.task.name == "generation" and job.train.ema is None:
        raise JobError(
            f"{job.name}: train.ema: images are drawn with averaged weights; expected a decay "
            "below 1, such as 0.999"
        )
    if job.model.pretrained and job.train.init is None:
        for name in published(job.model.name, job.model.options):
            weights_file(name)
    if job.judge is not None:
        _check_judged(job)
    task = _check_options(job, memo)
    try:
        root = job.data.root
        digest = memo.once(("digest", root), lambda: data_digest(root))
        slices = open_slices(job, memo)
        if not slices["train"].info.classes and (task is None or task.needs_labels):
            raise ShardError(f"{job.data.root}: the images have no labels to learn")
        info = slices["train"].info
        if task is not None and info.classes:
            _check_options(job, memo, info.classes)
        if task is not None and task.fixed_pixels:
            truths = memo.once(("truths", info.files[0]), slices["train"].truths)
            _check_fixed(job, set(task.reads) & set(truths), info.shape[1:])
    except ShardError as error:
        raise ShardError(f"{job.name}: {error}") from error
    return digest


def check_simulation(job: Simulation, memo: Memo) -> str:
    """Check a simulation; it has no data, and an empty digest.

    Raises:
        JobError: What is wrong.
    """
    from deeplense_batch.data.simulate import check  # loads torch

    if job.part >= job.parts:
        raise JobError(f"{job.name}: part: {job.part} of {job.parts} parts; they count from 0")
    section = job.simulate
    try:
        memo.once(
            ("simulation", repr(section)),
            lambda: check(section.kind, images=section.images, **section.options),
        )
    except ShardError as error:
        raise JobError(f"{job.name}: {error}") from error
    return ""


def open_slices(job: Job, memo: Memo | None = None) -> dict[str, Split]:
    """Open the slices ``train``, ``valid`` and ``test`` of a job.

    Arguments:
        job: The job.
        memo: What is known of the data of other jobs of a plan.

    Raises:
        ShardError: The data or a slice are not there, or the crop is larger than the images.
        JobError: Two slices share samples.
    """
    root = job.data.root
    splits = memo.once(("splits", root), lambda: read_splits(root)) if memo else None
    slices = {use: open_split(root, getattr(job.data, use), splits) for use in _USES}
    for i, one in enumerate(_USES):
        for other in _USES[i + 1 :]:
            a, b = slices[one], slices[other]
            same = a.info.name == b.info.name
            if same and max(a.start, b.start) < min(a.stop, b.stop):
                raise JobError(
                    f"{job.name}: data.{one} '{getattr(job.data, one)}' and data.{other} "
                    f"'{getattr(job.data, other)}' share samples; no image may be in two of them"
                )
    shape = slices["train"].info.shape
    for split in slices.values():
        if split.info.shape != shape or split.info.classes != slices["train"].info.classes:
            raise ShardError(
                f"{job.data.root}: splits {slices['train'].info.name} and {split.info.name} "
                "differ in shape or classes"
            )
    if job.data.crop is not None and job.data.crop > min(shape[1:]):
        raise ShardError(
            f"{job.data.root}: data.crop asks for {job.data.crop} pixels, "
            f"the images have {shape[1]} x {shape[2]}"
        )
    return slices


def _check_options(job: Job, memo: Memo, classes: Sequence[str] = ()) -> Task | None:
    """Try the options of task and model, which only they can judge, where there are any.

    Those of a task are tried once more where its classes are known.

    That loads torch; jobs of the plain task without options of the model are checked without it.
    """
    try:
        task = memo.once(
            ("task", repr(job.task), tuple(classes)), lambda: _tried_task(job.task, classes)
        )
    except (ValueError, TypeError) as error:
        raise JobError(f"{job.name}: {error}") from error
    if job.model.options:
        size = job.data.size or job.data.crop or 224
        asked = ("model", job.model.name, repr(job.model.options), size)
        memo.once(asked, lambda: _try_model(job, size))
    return task


def _tried_task(section: TaskSection, classes: Sequence[str]) -> Task | None:
    if section == TaskSection():
        return None
    task = build_task(section.name, classes=classes or ("a", "b"), **section.options)
    if classes:
        _ = task.learns
    return task


def _try_model(job: Job, size: int) -> None:
    import torch

    with torch.device("meta"):
        build(job.model.name, channels=1, classes=2, size=size, **job.model.options)


def _check_fixed(job: Job, truth: set[str], sides: tuple[int, ...]) -> None:
    """Make sure that images stay where their truth is, for a task that needs that."""
    augment, still = job.data.augment, Augment()
    moving = [f"data.augment.{name}" for name in _MOVING
              if getattr(augment, name) != getattr(still, name)]  # fmt: skip
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


def _check_judged(job: Job) -> None:
    """Make sure that the images of a job can be judged.

    Raises:
        JobError: It generates none, or none that can be given back.
    """
    assert job.judge is not None
    if job.task.name != "generation":
        raise JobError(
            f"{job.name}: judge: task.name {job.task.name} makes no images to judge; only "
            "generation does"
        )
    if job.data.stretch != "linear":
        raise JobError(
            f"{job.name}: judge: images of data.stretch {job.data.stretch} cannot be given back "
            "to be judged; expected linear"
        )
    conditions = job.task.options.get("conditions", ())
    if job.judge.useful and (job.judge.classifier is None or "class" not in conditions):
        raise JobError(
            f"{job.name}: judge.useful: needs judge.classifier, whose recipe is trained on the "
            "images, and task.options.conditions: [class], which labels them"
        )
