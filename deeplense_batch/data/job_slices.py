"""The slices that a job trains on, is validated by and is tested on."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from deeplense_batch.core.job import Job, JobError
from deeplense_batch.data.shards import ShardError, Split, SplitInfo, open_split, read_splits

__all__ = ["open_slices"]

_USES = ("train", "valid", "test")


def open_slices(job: Job, splits: Mapping[str, SplitInfo] | None = None) -> dict[str, Split]:
    """Open the slices ``train``, ``valid`` and ``test`` of a job.

    Arguments:
        job: The job.
        splits: Those of its data, if they have been read already.

    Raises:
        ShardError: The data or a slice are not there, or the crop is larger than the images.
        JobError: Two slices share samples, or images of one group.
    """
    root = job.data.root
    splits = read_splits(root) if splits is None else splits
    slices = {use: open_split(root, getattr(job.data, use), splits) for use in _USES}
    for use, other in combinations(_USES, 2):
        if shared := _shared_by(slices[use], slices[other]):
            raise JobError(
                f"{job.name}: data.{use} '{getattr(job.data, use)}' and data.{other} "
                f"'{getattr(job.data, other)}' share {shared}"
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


def _shared_by(one: Split, other: Split) -> str:
    """What two slices share that they must not: samples, or a group; nothing if all is well."""
    first, second = sorted((one, other), key=lambda split: split.start)
    if one.info.name != other.info.name:
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
