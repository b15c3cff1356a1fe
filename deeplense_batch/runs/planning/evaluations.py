"""Whether an evaluation can be carried out, as far as can be known before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deeplense_batch.core.job import DrawSection, Evaluation, Job, JobError, TaskSection
from deeplense_batch.core.recipe import load_jobs
from deeplense_batch.core.result import read_metrics
from deeplense_batch.core.rundir import RunDir, RunDirError
from deeplense_batch.data.shards import ShardError, Split, open_split, read_splits
from deeplense_batch.runs.planning.known import check_known
from deeplense_batch.runs.planning.making_images import takes_input
from deeplense_batch.runs.planning.truth import check_labels
from deeplense_batch.runs.planning.validate import Memo, digest_of, truths_of
from deeplense_batch.tasks import MAKING_IMAGES, build_task

if TYPE_CHECKING:  # which loads torch
    from deeplense_batch.tasks.task import Task

__all__ = ["check_evaluation"]


def check_evaluation(job: Evaluation, memo: Memo) -> str:
    """Check an evaluation.

    Arguments:
        job: With its run and data filled in (`earlier.with_earlier`).
        memo: What is known of the data of other jobs of the plan.

    Returns:
        The digest of its data.

    Raises:
        JobError, ShardError: What is wrong.
    """
    root, slice_ = job.evaluate.data.root, job.evaluate.data.slice
    assert root is not None and slice_ is not None
    for run in job.evaluate.runs:
        _check_evaluated(job, Path(run))
    try:
        splits = memo.once(("splits", root), lambda: read_splits(root))
        split = open_split(root, slice_, splits)
        for run in job.evaluate.runs:
            _check_images(split, slice_, Path(run), memo)
            if job.evaluate.classifier is not None:
                _check_seen_by(job, split, Path(run))
        return digest_of(root, memo)
    except (ShardError, RunDirError) as error:
        raise JobError(f"{job.name}: {error}") from error


def _check_evaluated(job: Evaluation, run: Path) -> None:
    """Make sure that a run can be evaluated as a recipe says."""
    section, trained = job.evaluate, _training(run)
    # By value: the job.yaml of an evaluation names every field.
    fields = DrawSection.model_fields.items()
    drawing = {name for name, field in fields if getattr(section, name) != field.default}
    restores = trained.task.name == "restoration"
    by_input = takes_input(trained)
    if restores:
        drawing.discard("classifier")
    if by_input and (unfit := drawing & {"images", "guidance"}):
        raise JobError(
            f"{job.name}: evaluate.{min(unfit)}: {run} draws samples of every image of a slice, "
            "as it has learnt; leave it out"
        )
    if by_input and "class" in trained.task.options["conditions"] and section.classifier:
        raise JobError(
            f"{job.name}: evaluate.classifier: {run} draws images of their class, so that a "
            "classifier sees what it was given; expected a run whose only condition is input"
        )
    if trained.task.name == "generation" and not by_input and "samples" in drawing:
        raise JobError(
            f"{job.name}: evaluate.samples: {run} draws images of no inputs; leave it out, "
            "evaluate.images says how many it draws"
        )
    if trained.task.name != "generation" and drawing:
        field = min(drawing)
        made, tasks = "generates", "generation"
        if field == "classifier":
            made, tasks = "generates or restores", "generation or restoration"
        raise JobError(
            f"{job.name}: evaluate.{field}: {run} {made} no images; this is for runs of "
            f"task.name {tasks}"
        )
    if trained.task.name in MAKING_IMAGES and section.tta is not None:
        does = "restores" if restores else "generates"
        raise JobError(
            f"{job.name}: evaluate.tta: {run} {does} images, of which no mean over the "
            "symmetries is scored; expected null"
        )
    if section.tta and trained.task.name != "classification":
        known = read_metrics(RunDir(run))["data"]["classes"]
        task = build_task(trained.task.name, classes=known, **trained.task.options)
        if task.spec.fixed_geometry:
            raise JobError(
                f"{job.name}: evaluate.tta: {run} measures lenses, which symmetries would move; "
                "expected null or false"
            )
        if not task.spec.averages:
            raise JobError(
                f"{job.name}: evaluate.tta: {run} has learnt a posterior, and a mean over the "
                "symmetries is none; expected null or false"
            )
    if trained.task.name == "generation" and (cause := trained.data.cannot_undo):
        raise JobError(
            f"{job.name}: evaluate.run: its images cannot be given back to be measured: {cause}"
        )


def _check_images(split: Split, slice_: str, run: Path, memo: Memo) -> None:
    """Make sure that images have what a run is scored by; it may know other classes besides.

    Raises:
        ShardError: They have a class that it does not know, no labels, or no truth.
    """
    trained, known = _training(run), read_metrics(RunDir(run))["data"]["classes"]
    root, task = split.info.files[0].parent, _task_of(trained.task, known)
    spec = None if task is None else task.spec
    came = split.info.renamed(trained.data.classes).classes
    unknown = [name for name in came if name not in known]
    if unknown and (spec is None or spec.needs_labels):
        raise ShardError(
            f"{root}: has the classes {', '.join(came)}, and {run} has learnt "
            f"{', '.join(known) or 'none'}; it does not know {', '.join(unknown)}"
        )
    if spec is None or spec.classifies:
        check_labels(split)
    if spec is not None and spec.needs_inputs and split.info.inputs is None:
        raise ShardError(
            f"{root}: {split.info.name}: has no inputs beside its images, of which {run} makes "
            "such images; expected a set of pairs"
        )
    if task is not None and spec is not None and spec.needs_truth:
        from deeplense_batch.training.images.loaders import (
            check_needed_truth,  # torch is loaded by now
        )

        truths = truths_of(split, memo, needed=spec.truth_keys)
        check_needed_truth(spec, truths, f"{root}: {split.info.name}")
        check_known(task, split, slice_, scored=True)


def _check_seen_by(job: Evaluation, split: Split, run: Path) -> None:
    """Make sure that a classifier can tell apart the classes of images that a run restores.

    Raises:
        JobError: It knows fewer than two of them.
    """
    trained = _training(run)
    if trained.task.name != "restoration" and not takes_input(trained):
        return  # generated images are compared in its features, whatever their classes
    classifier = Path(job.evaluate.classifier or "")
    known = read_metrics(RunDir(classifier))["data"]["classes"]
    came = split.info.renamed(_training(classifier).data.classes).classes
    if len({*came} & {*known}) < 2:
        raise JobError(
            f"{job.name}: evaluate.classifier: {classifier} tells {', '.join(known)} apart, and "
            f"the images have {', '.join(came) or 'no classes'}; expected two in common or more"
        )


def _task_of(task: TaskSection, classes: Sequence[str]) -> Task | None:
    """A task; None for the default one, which loads no torch."""
    if task == TaskSection():
        return None
    return build_task(task.name, classes=classes, **task.options)


def _training(run: Path) -> Job:
    (trained,) = load_jobs(run / "job.yaml")
    assert isinstance(trained, Job)
    return trained
