"""The images that a run draws, made and measured: what an evaluation of a generator does.

Several processes share the files; whoever is first measures them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from deeplense_batch.core.job import DrawSection
from deeplense_batch.core.processes import Interrupt
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.batches.mixture import Mixture
from deeplense_batch.data.shards import Split, open_split
from deeplense_batch.inference.generation.features import Critic
from deeplense_batch.inference.generation.measure import (
    GENERATED,
    HELD_OUT,
    TRAINING,
    Judgement,
    measure,
)
from deeplense_batch.inference.generation.sample import sample
from deeplense_batch.inference.generation.samplers import too_few
from deeplense_batch.inference.trained import Trained, open_trained
from deeplense_batch.runs.planning.earlier import find_classifier

__all__ = ["draw_and_measure", "open_critic", "seen_by"]

_SHARD = 128  # images of a file; the processes of a run share the files
_SAMPLES = "samples"

_log = logging.getLogger(__name__)


def seen_by(trained: Trained, split: Split) -> Split:
    """Images as a run sees them: its channels, and its numbers of classes of the same names.

    An image of a class that it does not know has no label.

    Raises:
        ShardError: A channel is not there.
    """
    seen = trained.as_seen(split)
    return replace(seen, info=seen.info.numbered_as(trained.classes))


def open_critic(section: DrawSection, of: Trained, device: torch.device) -> Critic | None:
    """The classifier that judges the images of a run; None unless the recipe names one.

    Raises:
        JobError: It is not there, or is no classifier.
    """
    if section.classifier is None:
        return None
    run = find_classifier(Path(section.classifier), "evaluate.classifier")
    return Critic(open_trained(run), of, device)


def draw_and_measure(
    trained: Trained,
    section: DrawSection,
    critic: Critic | None,
    held_out: Split,
    folder: Path,
    *,
    seed: int,
    device: torch.device,
    interrupt: Interrupt,
    beat: Callable[[int], None],
    rank: int = 0,
    ranks: int = 1,
) -> Judgement | None:
    """Draw images into a folder and measure them; go on where that was cut off.

    Arguments:
        trained: The generator, with its best weights.
        section: How many to draw, and how.
        critic: The classifier in whose features the images are compared, if any.
        held_out: Real images that it has not learnt from.
        folder: Gets ``samples``.
        seed: Of all noise.
        device: Draws and measures them.
        interrupt: Ends the work, to go on later.
        beat: Called often, with the number of finished epochs.
        rank, ranks: This process among those that draw; the first one measures.

    Returns:
        The measurements; None on every process but the first.

    Raises:
        TrainedError, ShardError: The run is no generator, its data are gone or too few.
        StoppedError: The interrupt was set; what is complete is kept.
    """

    def on_batch() -> None:
        beat(0)
        interrupt.check()

    samples = folder / _SAMPLES
    count = section.images or len(held_out)
    parts = min(ranks, -(-count // _SHARD))
    draw_part = partial(
        sample, trained, samples, images=count, sampler=section.sampler, steps=section.steps,
        guidance=section.guidance, seed=seed, device=device, shard_size=_SHARD, on_batch=on_batch,
    )  # fmt: skip
    if rank < parts:
        draw_part(part=rank, parts=parts)
    if ranks > 1:  # then what the others have not drawn yet, so that none has to wait
        draw_part(part=0, parts=1)
    if rank:
        return None
    _log.info("measuring the images")
    judgement = measure(trained, critic, _loaders(trained, samples, held_out, device), on_batch)
    if warning := too_few(section.sampler, section.steps):
        judgement.notes.append(warning)
    judgement.numbers.update(section.model_dump(include={"sampler", "steps", "guidance"}))
    return judgement


def _loaders(
    trained: Trained, samples: Path, held_out: Split, device: torch.device
) -> dict[str, Loader | Mixture]:
    """Loaders of the drawn, the held out and the training images, in the frame of the network."""
    frame = replace(trained.transform, mean=(), sd=())
    return {
        GENERATED: Loader(
            open_split(samples, "train"), transform=replace(frame, crop=None, size=None),
            device=device,
        ),
        HELD_OUT: Loader(held_out, transform=frame, device=device),
        TRAINING: trained.training_images(frame, device),
    }  # fmt: skip
