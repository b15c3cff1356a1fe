"""Whether a network and the data go with a task that makes images: by denoising or restoring."""

from __future__ import annotations

from deeplense_batch.core.job import Job, JobError
from deeplense_batch.models import MODELS

__all__ = ["check_making_images", "cuts_patches", "masks", "takes_input"]

# Of each task whose networks make images: the field of `Model`, what they do, what others do not.
_TASKS = {
    "generation": ("denoises", "takes noise from images", "gives no images"),
    "restoration": ("restores", "gives a better image for an image", "gives no better images"),
}


def check_making_images(job: Job) -> None:
    """Make sure that a network that makes images learns just that, and that no other does.

    Raises:
        JobError: It does not, or the values of the images could not be given back.
    """
    name, task = job.model.name, job.task.name
    row = MODELS.get(name)
    for learnt, (field, does, does_not) in _TASKS.items():
        able = row is not None and getattr(row, field)
        if able and task != learnt:
            raise JobError(
                f"{job.name}: model.name: {name} {does}, which task.name {learnt} learns, not "
                f"{task}"
            )
        if not able and task == learnt:
            others = ", ".join(other for other, row in MODELS.items() if getattr(row, field))
            raise JobError(
                f"{job.name}: model.name: {name} {does_not}, which task.name {learnt} learns; "
                f"these do: {others}"
            )
    _check_masked(job)
    if task == "generation" and job.train.ema is None:
        raise JobError(
            f"{job.name}: train.ema: images are drawn with averaged weights; expected a decay "
            "below 1, such as 0.999"
        )
    _check_input(job)
    if (task == "restoration" or takes_input(job)) and (cause := job.data.cannot_undo):
        raise JobError(
            f"{job.name}: {cause}: restored images are scored in the units of the set, which "
            "this leaves"
        )


def takes_input(job: Job) -> bool:
    """Whether a job learns to draw images of inputs, those of pairs."""
    return job.task.name == "generation" and "input" in (job.task.options.get("conditions") or ())


def _check_input(job: Job) -> None:
    """Make sure that a network that draws has room for inputs if, and only if, it is given them.

    Raises:
        JobError: It has not.
    """
    if job.task.name != "generation":
        return
    given, has = takes_input(job), bool(job.model.options.get("inputs"))
    if given != has:
        raise JobError(
            f"{job.name}: model.options.inputs: got {str(has).lower()}, and "
            f"task.options.conditions {'has' if given else 'lacks'} input; expected "
            f"{str(given).lower()}"
        )


def masks(job: Job) -> bool:
    """Whether the network of a job restores hidden patches."""
    row = MODELS.get(job.model.name)
    return row is not None and row.masks


def cuts_patches(job: Job) -> bool:
    """Whether a network that masks or restores cuts images into patches, which have to fit."""
    row = MODELS.get(job.model.name)
    return row is not None and row.sized and (row.masks or row.restores)


def _check_masked(job: Job) -> None:
    """Make sure that a masked autoencoder restores hidden patches, and no other network does."""
    if job.task.name == "masked" and not masks(job):
        able = ", ".join(name for name, row in MODELS.items() if row.masks)
        raise JobError(
            f"{job.name}: model.name: {job.model.name} restores no hidden patches, which "
            f"task.name masked learns; expected {able}, with model.options.encoder for the network"
        )
    if job.task.name != "masked" and masks(job):
        raise JobError(
            f"{job.name}: model.name: {job.model.name} restores hidden patches, which task.name "
            f"masked learns, not {job.task.name}; to start from its encoder name that as the "
            "model, and its run in train.init"
        )
    if masks(job) and job.train.layer_decay is not None:
        raise JobError(
            f"{job.name}: train.layer_decay: {job.model.name} does not tell its layers; leave it "
            "out here, and set it where its encoder is trained on"
        )
