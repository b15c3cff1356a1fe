"""The unlabelled images that a classification is adapted to: opened, and made alike or refused.

They are cropped, resized, stretched and normalised as the labelled ones, with what was measured on
those, and have the same channels. Their classes do not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from deeplense_batch.core.job import Job, JobError
from deeplense_batch.core.sections.adapt import Adaptation
from deeplense_batch.data.formats.filters import same_bands
from deeplense_batch.data.job_slices import as_seen, shared_by
from deeplense_batch.data.shards import ShardError, Split, SplitInfo, open_split, read_splits

__all__ = ["open_target"]

_FIELD = "task.options.adapt.to"


def open_target(
    job: Job,
    adaptation: Adaptation,
    slices: Mapping[str, Split],
    sets: Sequence[Split] = (),
    read: Callable[[str], Mapping[str, SplitInfo]] = read_splits,
) -> Split:
    """Open the images that a job is adapted to.

    Arguments:
        job: The job.
        adaptation: Its option.
        slices: Its slices of ``data.root`` (`job_slices.open_slices`).
        sets: Those of ``data.roots``.
        read: Gives the splits of a folder.

    Raises:
        ShardError: They are not there, or do not go with the others.
        JobError: They share images with those that are learnt from or scored.
    """
    root = adaptation.to.root
    split = open_split(root, adaptation.to.slice, read(root))
    data = job.data.model_copy(update={"classes": {}})  # which name labels
    split = as_seen(split, data, data.channels)
    _refuse_overlaps(job, adaptation, split, slices, sets)
    own = next(iter(slices.values())).info
    _check_alike(job, root, split.info, own)
    return split


def _check_alike(job: Job, root: str, info: SplitInfo, own: SplitInfo) -> None:
    """Refuse other channels, or another size after crop and resizing."""
    source = job.data.root
    if info.shape[0] != own.shape[0]:
        raise ShardError(
            f"{_FIELD}: {root} has {info.shape[0]} channels, {source} {own.shape[0]}; "
            "data.channels chooses the same number of both: [0], or mean"
        )
    if info.bands and own.bands and not same_bands(info.bands, own.bands):
        raise ShardError(
            f"{_FIELD}: the channels of {root} are the bands {', '.join(info.bands)}, those of "
            f"{source} {', '.join(own.bands)}; choose the same with data.channels"
        )
    if not (job.data.crop or job.data.size) and info.shape != own.shape:
        sizes = (" x ".join(map(str, one.shape[1:])) for one in (info, own))
        raise ShardError(
            f"{_FIELD}: the images of {root} have {next(sizes)} pixels, those of {source} "
            f"{next(sizes)}; data.crop or data.size makes them one size"
        )


def _refuse_overlaps(
    job: Job,
    adaptation: Adaptation,
    target: Split,
    slices: Mapping[str, Split],
    sets: Sequence[Split],
) -> None:
    """No image may be adapted to and scored, nor be source and target at once."""
    others = [(f"data.{use} '{getattr(job.data, use)}'", split) for use, split in slices.items()]
    roots = zip(job.data.roots, sets, strict=True)
    others += [(f"data.roots '{Path(each.root).name}' {each.train}", s) for each, s in roots]
    for name, other in others:
        if shared := shared_by(target, other):
            own = f"{_FIELD} '{Path(adaptation.to.root).name}' {adaptation.to.slice}"
            raise JobError(f"{job.name}: {own} and {name} share {shared}")
