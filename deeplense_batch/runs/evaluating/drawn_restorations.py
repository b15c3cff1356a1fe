"""Images that a run draws of inputs, to be scored as a restoration: the mean of several samples.

Several processes share the drawing, and then the scoring.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from deeplense_batch.core.distributed import World
from deeplense_batch.core.job import DrawSection
from deeplense_batch.core.processes import Interrupt
from deeplense_batch.data.shards import Split
from deeplense_batch.inference.generation.samplers import too_few
from deeplense_batch.inference.restoring.drawn import draw_samples
from deeplense_batch.inference.trained import Trained
from deeplense_batch.runs.evaluating.subject import Subject
from deeplense_batch.tasks.generation import Generation

__all__ = ["about_samples", "as_restoration", "restores_by_samples", "sampled"]

_SAMPLES = "samples"


def restores_by_samples(trained: Trained) -> bool:
    """Whether a run draws images of inputs."""
    return isinstance(trained.task, Generation) and trained.task.restoration is not None


def sampled(
    trained: Trained,
    section: DrawSection,
    pairs: Split,
    folder: Path,
    *,
    seed: int,
    world: World,
    interrupt: Interrupt,
    beat: Callable[[int], None],
) -> Trained:
    """Draw samples of all images of a slice; go on where that was cut off.

    Arguments:
        trained: The run, with its best weights.
        section: How many to draw, and how.
        pairs: The slice, as the run sees it.
        folder: Gets ``samples``.
        seed: Of all noise.
        world: The processes that share the work; each calls this.
        interrupt: Ends the work, to go on later.
        beat: Called often, with the number of finished epochs.

    Returns:
        The run, with the samples in place of its network, and the task that scores them.

    Raises:
        TrainedError, ShardError: What `draw_samples` raises.
        StoppedError: The interrupt was set; what is complete is kept.
    """

    def on_batch() -> None:
        beat(0)
        interrupt.check()

    saved = draw_samples(
        trained, pairs, folder / _SAMPLES, samples=section.samples, sampler=section.sampler,
        steps=section.steps, seed=seed, device=world.device, rank=world.rank, ranks=world.size,
        on_batch=on_batch,
    )  # fmt: skip
    task = trained.task
    assert isinstance(task, Generation) and task.restoration is not None
    return replace(trained, task=task.restoration, model=saved)


def about_samples(section: DrawSection) -> list[str]:
    """What a reader of the scores should know of how images were drawn."""
    drawn = (
        f"restored images are the mean of {section.samples} samples, by {section.sampler} with "
        f"{section.steps} steps"
    )
    return [drawn, *filter(None, [too_few(section.sampler, section.steps)])]


def as_restoration(subject: Subject, section: DrawSection, seed: int) -> Subject:
    """What is said of the run, which is compared with those of the task restoration.

    Its validation has no PSNR, for which samples would have to be drawn of the validation slice.
    """
    drawn: dict[str, Any] = section.model_dump(include={"samples", "sampler", "steps"})
    return subject._replace(
        valid={**subject.valid, "monitor": "psnr"},
        evaluated={**subject.evaluated, "task": "restoration", "drawn": drawn | {"seed": seed}},
    )
