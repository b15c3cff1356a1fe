"""Whether a job can be carried out: all that can be known of it before anything runs.

Nothing here loads torch, but for a model name outside the table: `submit` answers at once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from deeplense_batch.core.job import (
    Augment,
    DrawSection,
    Evaluation,
    Job,
    JobError,
    Simulation,
    TaskSection,
    nearest,
)
from deeplense_batch.core.recipe import load_jobs
from deeplense_batch.core.result import read_metrics
from deeplense_batch.core.rundir import RunDir, RunDirError
from deeplense_batch.data.shards import (
    ShardError,
    data_digest,
    open_slices,
    open_split,
    read_splits,
)
from deeplense_batch.models import MODELS, build, check_name, check_options, published
from deeplense_batch.models.weights import weights_file
from deeplense_batch.tasks import TASKS, build_task

if TYPE_CHECKING:
    from deeplense_batch.tasks.task import Task

__all__ = ["Memo", "check_evaluation", "check_simulation", "check_training"]

Answer = TypeVar("Answer")
_MOVING = ("flips", "dihedral", "degrees", "translate", "scale")  # of `Augment`


class Memo:
    """Answers by what was asked. It lives as long as one plan: the next one looks again.

    Ten thousand runs of a grid ask for the same data, options and earlier runs.
    """

    def __init__(self) -> None:
        self._answers: dict[Hashable, object] = {}

    def once(self, asked: Hashable, find: Callable[[], Answer]) -> Answer:
        """The answer, found at the first time; what `find` raises is not kept.

        Arguments:
            asked: The question, with all that its answer depends on.
            find: Finds the answer.
        """
        if asked not in self._answers:
            self._answers[asked] = find()
        return self._answers[asked]  # type: ignore[return-value]  # of `find`, by its question


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
    check_options(job.model.name, job.model.options)
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
    task = _check_options(job, memo)
    try:
        root = job.data.root
        digest = memo.once(("digest", root), lambda: data_digest(root))
        slices = open_slices(job, memo.once(("splits", root), lambda: read_splits(root)))
        if not slices["train"].info.classes and (task is None or task.spec.needs_labels):
            raise ShardError(f"{job.data.root}: the images have no labels to learn")
        info = slices["train"].info
        if task is not None and info.classes:
            _check_options(job, memo, info.classes)
        if task is not None and task.spec.fixed_geometry:
            truths = memo.once(("truths", info.files[0]), slices["train"].truths)
            _check_fixed(job, set(task.spec.truth_keys) & set(truths), info.shape[1:])
    except ShardError as error:
        raise ShardError(f"{job.name}: {error}") from error
    return digest


def check_evaluation(job: Evaluation, memo: Memo) -> str:
    """Check an evaluation, whose run and data are found.

    Returns:
        The digest of its data.

    Raises:
        JobError, ShardError: What is wrong.
    """
    section = job.evaluate
    root, slice_ = section.data.root, section.data.slice
    assert root is not None and slice_ is not None  # `plan` fills them in
    (trained,) = load_jobs(Path(section.run) / "job.yaml")
    assert isinstance(trained, Job)
    drawing = section.model_fields_set & set(DrawSection.model_fields)
    if trained.task.name != "generation" and drawing:
        raise JobError(
            f"{job.name}: evaluate.{min(drawing)}: {section.run} generates no images; this is for "
            "runs of task.name generation"
        )
    if trained.task.name == "generation" and trained.data.stretch != "linear":
        raise JobError(
            f"{job.name}: evaluate.run: images of data.stretch {trained.data.stretch} cannot be "
            "given back to be measured; expected linear"
        )
    try:
        splits = memo.once(("splits", root), lambda: read_splits(root))
        info = open_split(root, slice_, splits).info
        known = read_metrics(RunDir(section.run))["data"]["classes"]
        if unknown := [name for name in info.classes if name not in known]:
            raise ShardError(
                f"{root}: has the class '{unknown[0]}', which {section.run} has not learnt; it "
                f"knows {', '.join(known) or 'none'}"
            )
        return memo.once(("digest", root), lambda: data_digest(root))
    except (ShardError, RunDirError) as error:
        raise JobError(f"{job.name}: {error}") from error


def check_simulation(job: Simulation, memo: Memo) -> str:
    """Check a simulation; it has no data, and an empty digest.

    Raises:
        JobError: What is wrong.
    """
    from deeplense_batch.simulation.simulate import check  # loads torch

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


def _check_options(job: Job, memo: Memo, classes: tuple[str, ...] | None = None) -> Task | None:
    """Try the options of task and model, which only they can judge, where there are any.

    Those of a task are tried once more where its classes are known.

    That loads torch; jobs of the plain task without options of the model are checked without it.
    """
    try:
        task = memo.once(("task", repr(job.task), classes), lambda: _tried_task(job.task, classes))
    except (ValueError, TypeError) as error:
        raise JobError(f"{job.name}: {error}") from error
    if job.model.options:
        size = job.data.size or job.data.crop or 224
        asked = ("model", job.model.name, repr(job.model.options), size)
        memo.once(asked, lambda: _try_model(job, size))
    return task


def _tried_task(section: TaskSection, classes: Sequence[str] | None) -> Task | None:
    if section == TaskSection():
        return None
    return build_task(section.name, classes=classes, **section.options)


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
