"""Labelled images that a finished run is scored on: whether they suit it, and its answers."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from deeplense_batch.core.distributed import World
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.batches.paired import paired_loader
from deeplense_batch.data.digest import verify
from deeplense_batch.data.formats.counted import counted
from deeplense_batch.data.shards import ShardError, Split, SplitInfo, open_split
from deeplense_batch.inference.images.suitable import check_bands, wrong_shape
from deeplense_batch.inference.trained import Trained
from deeplense_batch.runs.evaluating.drawn_images import seen_by
from deeplense_batch.tasks.task import Arrays
from deeplense_batch.training.evaluation import evaluate
from deeplense_batch.training.images.loaders import check_samples, frame_of
from deeplense_batch.training.images.units import about_unit

__all__ = ["answers_of", "open_labelled"]

_log = logging.getLogger(__name__)


def open_labelled(
    root: Path | str, slice_: str, networks: Sequence[Trained], world: World
) -> Split:
    """Open labelled images and verify them.

    Arguments:
        root: Folder of shards.
        slice_: Of them.
        networks: That are scored on them.
        world: The processes that share them.

    Raises:
        ShardError: They are damaged, too few, or not what a network takes.
    """
    split = open_split(root, slice_)
    for one in networks:
        info, crop = one.as_seen(split).info, one.job.data.crop
        if one.task.spec.fixed_geometry:
            _check_middle(one, info)
        if not one.fits(info.shape):
            wrong = wrong_shape(info.shape, one.shape, crop, taker=one.run.path)
            raise ShardError(f"{root}: {wrong}")
        check_bands(root, info.bands, one.bands, one.run.path)
        if one.task.spec.needs_inputs and info.ratio != one.ratio:
            raise ShardError(
                f"{root}: has {info.ratio} pixels of an image along one of its input; "
                f"{one.run.path} makes {one.ratio}"
            )
    if len(split) < world.size:
        raise ShardError(
            f"{root}: {slice_} has {counted(len(split), 'image')}, less than one for each of "
            f"{world.size} processes"
        )
    verify(split.info)
    return split


def answers_of(
    trained: Trained, split: Split, slice_: str, world: World, *, tta: bool | None
) -> tuple[Arrays | None, list[str]]:
    """What a network says of labelled images.

    Arguments:
        trained: The network, which is on the device meanwhile.
        split: The images.
        slice_: As it was named.
        world: The processes; each calls this.
        tta: Whether to average over the symmetries of the square; None: as it was trained.

    Returns:
        As `training.evaluation.evaluate`, on the first process, None on the others; and notes on
        the images.

    Raises:
        ShardError: The images lack labels, or the truth that the task needs.
    """
    task, root, device = trained.task, split.info.files[0].parent, world.device
    split = seen_by(trained, split)
    make: Callable[..., Loader] = Loader
    if task.spec.needs_inputs:
        make = partial(paired_loader, registers=trained.job.data.register)
    loader = make(split, transform=trained.transform, device=device, truths=task.spec.truth_keys)
    check_samples(task, loader, f"{root}: {slice_}")
    if task.spec.fixed_geometry and loader.truth:
        _check_scale(trained, split.info)
    notes = _notes(loader) if world.main else []
    if loader.registration is not None:
        notes.append(f"data.register: {slice_}: {loader.registration.about(split.ids())}")
    model = trained.model.to(device)
    tta = trained.job.data.tta if tta is None else tta
    outputs = evaluate(task, model, loader, world, tta=tta, thorough=True)
    model.cpu()  # so that the next one has the room
    return outputs, notes


def _notes(loader: Loader) -> list[str]:
    """That the images are in another unit, if they seem so."""
    sentence = about_unit(loader)
    if sentence is None:
        return []
    _log.warning("%s", sentence)
    return [f"unit: {sentence}"]


def _check_scale(trained: Trained, info: SplitInfo) -> None:
    """Make sure that a length is as many pixels of what the network sees as it has learnt.

    Raises:
        ShardError: Pixels, cropped and resized as it sees them, are of another width.
    """
    learnt, scale = trained.input_pixel_scale, frame_of(trained.job, info).pixel_scale
    if math.isfinite(learnt) and not math.isclose(scale, learnt, rel_tol=1e-6):
        came = f"{scale:.4g} arcsec" if math.isfinite(scale) else "unknown width"
        resized = f", resized to {trained.job.data.size}" * bool(trained.job.data.size)
        raise ShardError(
            f"{info.files[0].parent}: has pixels of {came}{resized}; {trained.run.path}, which "
            f"measures lenses in pixels, takes those of {learnt:.4g} arcsec"
        )


def _check_middle(trained: Trained, info: SplitInfo) -> None:
    """Make sure that the truth of lenses is measured from the middle of what the network sees.

    Raises:
        ShardError: That is not the middle of the images.
    """
    crop, (_, *sides) = trained.job.data.crop, info.shape
    if crop is not None and any(side >= crop and (side - crop) % 2 for side in sides):
        raise ShardError(
            f"{info.files[0].parent}: the middle {crop} of {' x '.join(map(str, sides))} pixels, "
            f"which {trained.run.path} sees, lie half a pixel off the middle, from which the "
            "truth of lenses is measured"
        )
