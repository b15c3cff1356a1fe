"""The slices that a job trains on, is validated by and is tested on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from deeplense_batch.core.job import Job, JobError, nearest
from deeplense_batch.core.sections.data import Channels, DataSection
from deeplense_batch.data.shards import ShardError, Split, SplitInfo, open_split, read_splits

__all__ = ["as_seen", "check_names", "open_slices", "shared_by"]

_USES = ("train", "valid", "test")


def open_slices(job: Job, splits: Mapping[str, SplitInfo] | None = None) -> dict[str, Split]:
    """Open the slices ``train``, ``valid`` and ``test`` of a job, as its recipe has them seen.

    Arguments:
        job: The job. One with ``data.roots`` has no slice ``train`` (`mixed_sets`).
        splits: Those of its data, if they have been read already.

    Raises:
        ShardError: The data, a slice or a channel are not there, or the crop is larger than the
            images.
        JobError: Two slices share samples, or images of one group; or a class that gets another
            name is not there.
    """
    root = job.data.root
    splits = read_splits(root) if splits is None else splits
    uses = [use for use in _USES if use != "train" or not job.data.roots]
    slices = {use: open_split(root, getattr(job.data, use), splits) for use in uses}
    slices = {use: as_seen(split, job.data, job.data.channels) for use, split in slices.items()}
    for use, other in combinations(uses, 2):
        if shared := shared_by(slices[use], slices[other]):
            raise JobError(
                f"{job.name}: data.{use} '{getattr(job.data, use)}' and data.{other} "
                f"'{getattr(job.data, other)}' share {shared}"
            )
    first = slices[uses[0]].info
    for split in slices.values():
        if split.info.shape != first.shape or split.info.classes != first.classes:
            raise ShardError(
                f"{job.data.root}: splits {first.name} and {split.info.name} "
                "differ in shape or classes"
            )
    if not job.data.roots:
        check_names(job, [first])
    return slices


def as_seen(split: Split, data: DataSection, channels: Channels) -> Split:
    """A slice with the class names of a recipe and with chosen channels.

    Arguments:
        split: As its shards have it.
        data: Of the recipe, whose crop has to fit.
        channels: ``data.channels``, or those of one set.

    Raises:
        ShardError: A channel is not there, or the crop is larger than the images.
    """
    root, (_, height, width) = split.info.files[0].parent, split.info.shape
    if data.crop is not None and data.crop > min(height, width):
        raise ShardError(
            f"{root}: data.crop asks for {data.crop} pixels, the images have {height} x {width}"
        )
    try:
        info = split.info.renamed(data.classes).with_channels(channels)
    except ShardError as error:
        raise ShardError(f"{root}: {error}") from error
    return replace(split, info=info)


def check_names(job: Job, infos: Sequence[SplitInfo]) -> None:
    """Make sure that every class that ``data.classes`` names is one of some set.

    Raises:
        JobError: One is not.
    """
    known = dict.fromkeys(name for info in infos for name in info.as_stored.classes)
    for name in job.data.classes:
        if name not in known:
            raise JobError(
                f"{job.name}: data.classes: there is no class '{name}'; {nearest(name, known)}"
            )


def shared_by(one: Split, other: Split) -> str:
    """What two slices share that they must not: samples, or a group; nothing if all is well.

    Slices of two folders are of the same images where their splits have the same content.
    """
    first, second = sorted((one, other), key=lambda split: split.start)
    if not _same_split(one.info, other.info):
        return ""
    of_folds = one.picked is not None or other.picked is not None
    if second.start < first.stop and (
        not of_folds or len(np.intersect1d(one.places, other.places))
    ):
        return "samples; no image may be in two of them"
    groups = None if of_folds else first.info.groups()  # of which folds hold all or nothing
    if groups is None or groups.at(first.stop - 1) != (cut := groups.at(second.start)):
        return ""
    name = f"group '{groups.names[cut]}' (column {groups.column})"
    return f"{name}; a percentage, such as train[:70%], ends where a group does"


def _same_split(one: SplitInfo, other: SplitInfo) -> bool:
    if one.files[0].parent == other.files[0].parent:
        return one.name == other.name
    return one.content == other.content
