"""The sets that a job is trained on beside `data.root`: opened, and made alike or refused.

Those of `data.roots` are trained on at once, those of `data.curriculum` before all others. Classes
are matched by name, channels are chosen, and what comes out has to be of one size; nothing is made
equal that the recipe does not say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import NamedTuple

from deeplense_batch.core.job import Job, JobError
from deeplense_batch.core.sections.data import DataSection, TrainingSet
from deeplense_batch.data.batches.sampling import shared_out
from deeplense_batch.data.formats.filters import same_bands
from deeplense_batch.data.formats.parts import same_scale
from deeplense_batch.data.job_slices import as_seen, check_names, shared_by
from deeplense_batch.data.pixels.unit import about_sizes
from deeplense_batch.data.shards import ShardError, Split, SplitInfo, open_split, read_splits

__all__ = [
    "about_pixel_scales",
    "about_units",
    "mixed_info",
    "open_curriculum",
    "open_training_sets",
]


_Called = tuple[str, Split]  # a slice after what a sentence calls it


class _Named(NamedTuple):
    """Images, and the folder that a sentence calls them by."""

    root: str
    info: SplitInfo


def open_training_sets(
    job: Job,
    slices: Mapping[str, Split],
    read: Callable[[str], Mapping[str, SplitInfo]] = read_splits,
) -> tuple[Split, ...]:
    """Open the sets of ``data.roots``, numbered and chosen as those of ``data.root``.

    Arguments:
        job: The job.
        slices: Its slices of ``data.root`` (`job_slices.open_slices`).
        read: Gives the splits of a folder.

    Returns:
        One for each of ``data.roots``; none without.

    Raises:
        ShardError: A set or a slice is not there, or two do not go together.
        JobError: Two share samples, or images of one group.
    """
    data = job.data
    if not data.roots:
        return ()
    sets = [_opened(data, each, read) for each in data.roots]
    own = [_Named(data.root, split.info) for split in slices.values()]
    check_names(job, [*(split.info for split in sets), *(named.info for named in own)])
    scored = _called(data, slices)
    listed = [
        (f"data.roots '{Path(each.root).name}' {each.train}", split)
        for each, split in zip(data.roots, sets, strict=True)
    ]
    _refuse_overlaps(job, [*combinations(listed, 2), *product(listed, scored)])
    named = [_Named(e.root, s.info) for e, s in zip(data.roots, sets, strict=True)]
    for each, other in zip(data.roots, named, strict=True):
        _check_classes(own[0], other)
        if each.channels is None:
            _check_bands(own[0], other)
    _check_shapes(data, "roots", [*own, *named])
    _check_drawn(data, sets)
    classes = own[0].info.classes
    return tuple(replace(split, info=split.info.numbered_as(classes)) for split in sets)


def open_curriculum(
    job: Job,
    slices: Mapping[str, Split],
    read: Callable[[str], Mapping[str, SplitInfo]] = read_splits,
) -> tuple[Split, ...]:
    """Open the sets of ``data.curriculum``, numbered and chosen as those of ``data.root``.

    Arguments: As of `open_training_sets`.

    Returns:
        One for each of ``data.curriculum``; none without.

    Raises:
        ShardError: A set or a slice is not there, or differs from ``data.root``.
        JobError: One shares samples with those that are scored, or no epoch is left.
    """
    data, epochs = job.data, job.train.epochs
    if not data.curriculum:
        return ()
    before = sum(each.epochs for each in data.curriculum)
    if before >= epochs:
        raise JobError(
            f"{job.name}: data.curriculum: its sets take {before} of {epochs} epochs "
            f"(train.epochs); expected {before + 1} or more, so that some are left for {data.root}"
        )
    sets = [
        as_seen(open_split(each.root, each.train, read(each.root)), data, data.channels)
        for each in data.curriculum
    ]
    own = [_Named(data.root, split.info) for split in slices.values()]
    named = [_Named(e.root, s.info) for e, s in zip(data.curriculum, sets, strict=True)]
    for other in named:
        _check_classes(own[0], other)
        _check_bands(own[0], other, "choose the same with data.channels")
    _check_shapes(data, "curriculum", [*own, *named])
    listed = [
        (f"data.curriculum '{Path(each.root).name}' {each.train}", split)
        for each, split in zip(data.curriculum, sets, strict=True)
    ]
    _refuse_overlaps(job, product(listed, _called(data, slices)))
    classes = own[0].info.classes
    return tuple(replace(split, info=split.info.numbered_as(classes)) for split in sets)


def mixed_info(data: DataSection, sets: Sequence[Split], own: Iterable[Split]) -> SplitInfo:
    """What a mixture of sets is, as a network sees it.

    The pixel scale is that of all, after cropping and resizing, which is the first's; NaN where
    two differ by more than 1 %.

    Arguments:
        data: Of the job.
        sets: That are trained on.
        own: Slices of ``data.root``, if they are at hand, whose shape is that of the mixture.
    """
    infos = [split.info for split in (*own, *sets)]
    is_one = len(_scales(data, infos)) == 1
    return replace(
        infos[0],
        name=" + ".join(Path(each.root).name for each in data.roots),
        pixel_scale=infos[0].pixel_scale if is_one else math.nan,
    )


def about_pixel_scales(
    data: DataSection, sets: Sequence[Split], own: Sequence[Split]
) -> str | None:
    """Say that a network sees pixels of several widths, or may; None where it does not.

    Arguments:
        data: Of the job.
        sets: That are trained on.
        own: Slices of ``data.root``.
    """
    roots = [*(data.root for _ in own), *(each.root for each in data.roots)]
    infos = [split.info for split in (*own, *sets)]
    found = _scales(data, infos)
    if len(found) == 1:
        return None
    widths = {
        root: "unknown width" if math.isnan(width) else f"{width:.4g} arcsec"
        for root, width in zip(roots, (_scale(data, info) for info in infos), strict=True)
    }
    listed = ", ".join(f"{width} in {Path(root).name}" for root, width in widths.items())
    differ = len(found) - any(map(math.isnan, found)) > 1
    has = "has" if differ else "may have"  # where all that are known are one
    return (
        f"data.roots: a network sees pixels of {listed}, so that one lens {has} several sizes; "
        "its pixel scale is taken as unknown"
    )


def about_units(data: DataSection, sets: Sequence[Split], own: Sequence[Split]) -> str | None:
    """Say that sets seem to be in several units, by their heads; None where they do not.

    It says nothing where each image is normalised by itself, to which all units are one.

    Arguments:
        data: Of the job.
        sets: That are trained on.
        own: Slices of ``data.root``.
    """
    if data.per == "image":
        return None
    roots = [*(data.root for _ in own), *(each.root for each in data.roots)]
    infos = [split.info for split in (*own, *sets)]
    sizes = {root: _size(info) for root, info in zip(roots, infos, strict=True)}
    sentence = about_sizes(sizes)
    return sentence and f"data.roots: {sentence}"


def _size(info: SplitInfo) -> float:
    """Root mean square of the values of a whole split, as packed."""
    if info.choice is not None and info.choice.averaged:  # whose sd no head knows
        info = info.as_stored
    squares = [mean**2 + sd**2 for mean, sd in zip(info.mean, info.sd, strict=True)]
    return math.sqrt(sum(squares) / len(squares))


def _opened(
    data: DataSection, each: TrainingSet, read: Callable[[str], Mapping[str, SplitInfo]]
) -> Split:
    split = open_split(each.root, each.train, read(each.root))
    own = each.channels is not None
    channels = each.channels if own else data.channels
    try:
        split.info.with_channels(channels)
    except ShardError as error:
        if own:
            why = str(error).removeprefix("data.channels: ")
            raise ShardError(f"data.roots: channels of {each.root}: {why}") from error
        raise ShardError(
            f"{each.root}: {error}; its entry in data.roots may have channels of its own, such as "
            "channels: [0]"
        ) from error
    return as_seen(split, data, channels)


def _check_classes(own: _Named, other: _Named) -> None:
    if set(own.info.classes) == set(other.info.classes):
        return
    has, wanted = (", ".join(named.info.classes) or "none" for named in (other, own))
    raise ShardError(
        f"{other.root}: has the classes {has}; {own.root} has {wanted}; sets that are trained on "
        "together have the same, and data.classes gives some another name: {no: nonlens}"
    )


_OWN_CHANNELS = (
    "choose with data.channels, or give this one of data.roots channels of its own to take one "
    "for the other"
)


def _check_bands(own: _Named, other: _Named, advice: str = _OWN_CHANNELS) -> None:
    """Refuse other filters than those of ``data.root``, where both have names."""
    has, wanted = other.info.bands, own.info.bands
    if not has or not wanted or len(has) != len(wanted) or same_bands(has, wanted):
        return
    raise ShardError(
        f"{other.root}: the channels are the bands {', '.join(has)}, those of {own.root} "
        f"{', '.join(wanted)}; {advice}"
    )


def _check_shapes(data: DataSection, field: str, sets: Sequence[_Named]) -> None:
    """Refuse images that are of several shapes after crop and size."""
    shapes = {named: (named.info.shape[0], *_sides(data, named.info)) for named in sets}
    if len(set(shapes.values())) == 1:
        return
    listed = dict.fromkeys(
        f"{named.root} {' x '.join(map(str, shape))}" for named, shape in shapes.items()
    )
    channels = {shape[0] for shape in shapes.values()}
    advice = []
    if len(channels) > 1:
        advice.append("data.channels chooses the same number: [0], or mean")
    if len({shape[1:] for shape in shapes.values()}) > 1:
        least = min(min(named.info.shape[1:]) for named in sets)
        advice.append(f"data.crop keeps {least} pixels or less, data.size resizes to one size")
    raise ShardError(
        f"data.{field}: the images differ in channels x height x width: {', '.join(listed)}; "
        + "; ".join(advice)
    )


def _sides(data: DataSection, info: SplitInfo) -> tuple[int, int]:
    """Height and width of images after ``crop`` and ``size``, pixels."""
    edge = data.size or data.crop
    return (edge, edge) if edge else info.shape[1:]


def _called(data: DataSection, slices: Mapping[str, Split]) -> list[_Called]:
    """The slices that are scored, and what sentences call them."""
    uses = [use for use in slices if use != "train"]
    return [(f"data.{use} '{getattr(data, use)}'", slices[use]) for use in uses]


def _refuse_overlaps(job: Job, pairs: Iterable[tuple[_Called, _Called]]) -> None:
    """No image may be trained on twice at once, but by its weight, nor trained on and scored."""
    for (one, split), (other, other_split) in pairs:
        if shared := shared_by(split, other_split):
            raise JobError(f"{job.name}: {one} and {other} share {shared}")


def _check_drawn(data: DataSection, sets: Sequence[Split]) -> None:
    """Refuse a weight so small that an epoch draws nothing of its set."""
    weights = [each.weight or len(split) for each, split in zip(data.roots, sets, strict=True)]
    draws = sum(map(len, sets))
    for each, count in zip(data.roots, shared_out(draws, weights), strict=True):
        if not count:
            raise ShardError(
                f"{each.root}: its weight {each.weight:g} is none of the {draws} images that an "
                "epoch draws of data.roots; expected more, or the set left out"
            )


def _scales(data: DataSection, infos: Iterable[SplitInfo]) -> list[float]:
    """The pixel scales that differ."""
    found: list[float] = []
    for scale in (_scale(data, info) for info in infos):
        if not any(_is_one(scale, known) for known in found):
            found.append(scale)
    return found


def _scale(data: DataSection, info: SplitInfo) -> float:
    """Width of a pixel that a network sees, arcsec; NaN where unknown."""
    kept = data.crop or info.shape[1]
    return info.pixel_scale * kept / (data.size or kept)


def _is_one(one: float, other: float) -> bool:
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return same_scale(one, other)
