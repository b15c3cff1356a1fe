"""What is learnt: the contract between task and training loop, and one file for each task.

May know data, lensing and core; knows no network and no training. Open `task` first, the contract,
then `regression`, the shortest task.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deeplense_batch.tasks.task import Frame, Task

__all__ = ["MAKING_IMAGES", "TASKS", "build_task"]

# Name to "module:class", so that the table can be read without loading torch.
TASKS: dict[str, str] = {
    "classification": "deeplense_batch.tasks.classification:Classification",
    "detection": "deeplense_batch.tasks.detection:Detection",
    "regression": "deeplense_batch.tasks.regression:Regression",
    "physics_guided": "deeplense_batch.tasks.physics:PhysicsGuided",
    "generation": "deeplense_batch.tasks.generation:Generation",
    "masked": "deeplense_batch.tasks.masked:Masked",
    "restoration": "deeplense_batch.tasks.restoration:Restoration",
}

MAKING_IMAGES = ("generation", "restoration")  # those whose networks answer with images


def build_task(
    name: str, *, classes: Sequence[str] | None, frame: Frame | None = None, **options: Any
) -> Task:
    """Make a task.

    Arguments:
        name: A key of `TASKS`.
        classes: Class names of the data, in the order of their numbers; None before the data are
            known, to check the options alone.
        frame: The images as the network sees them.
        options: Keyword arguments of the task, from ``task.options`` of the job.

    Raises:
        ValueError: An option is unknown or out of range.
        JobError: The classes do not say what is to be learnt.
    """
    module, _, class_name = TASKS[name].partition(":")
    task_class = getattr(importlib.import_module(module), class_name)
    parameters = inspect.signature(task_class).parameters
    of_the_data = {"classes": classes, "frame": frame}
    allowed = set(parameters) - set(of_the_data)
    for option in options:
        if option not in allowed:
            raise ValueError(
                f"task.options.{option}: unknown to {name}; allowed: {', '.join(sorted(allowed))}"
            )
    given = {key: value for key, value in of_the_data.items() if key in parameters}
    return task_class(**given, **options)
