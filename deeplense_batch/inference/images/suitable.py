"""Whether images suit a network: their shape, and their bands in the order of its channels.

A network takes channels by their place: r, g, i instead of g, r, i gives numbers, and wrong ones.
A run keeps the names of its bands beside its weights; where either side has none, nothing is said.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Protocol

from deeplense_batch.core.result import read_metrics
from deeplense_batch.core.rundir import RunDir, RunDirError
from deeplense_batch.data.formats.filters import same_bands
from deeplense_batch.data.formats.images import ImageError
from deeplense_batch.data.header import ShardError
from deeplense_batch.data.listing.listing import Sample
from deeplense_batch.data.packing.sky import known_columns
from deeplense_batch.data.pixels.channels import Choice
from deeplense_batch.data.shards import data_digest
from deeplense_batch.data.sources.sources import Source
from deeplense_batch.models import checkpoint
from deeplense_batch.training.trainer import BEST

__all__ = [
    "Choosing",
    "Looked",
    "Shape",
    "Takes",
    "about_other_bands",
    "all_channels",
    "check_bands",
    "check_usual",
    "suitable_bands",
    "suitable_shape",
    "with_refused",
    "wrong_shape",
]

_LOOKED_AT = 100  # images whose shapes tell what is usual

_log = logging.getLogger(__name__)

Bands = Sequence[str]
Shape = tuple[int, int, int]  # C, H, W


def check_bands(place: object, came: Bands, learnt: Bands, run: object) -> None:
    """Make sure that images have the bands of a network.

    Arguments:
        place: Where the images are.
        came: Their bands, in the order of the channels; none where they are unknown.
        learnt: Those of the images that the network was trained on.
        run: Its run directory.

    Raises:
        ShardError: They have others, or the same in another order.
    """
    if suitable_bands(came, learnt):
        return
    what = "in this order " * same_bands(came, learnt, in_order=False)
    renamed = "; the set was packed again with other names: submit --force trains anew"
    raise ShardError(
        f"{place}: the channels are the bands {', '.join(came)}; {run} has learnt "
        f"{', '.join(learnt)} {what}and would take one band for another"
        f"{renamed if _has_learnt(run, place) else ''}"
    )


def _has_learnt(run: object, place: object) -> bool:
    """Whether a run was trained on the very images of a folder of shards."""
    try:
        digest = read_metrics(RunDir(Path(str(run))))["data"]["digest"]
        return bool(data_digest(str(place)) == digest)
    except (RunDirError, ShardError):  # no shards; or a run whose result is not at hand
        return False


def about_other_bands(init: Path, bands: Bands) -> str:
    """Say that a training starts from weights of other bands; nothing where it does not.

    Arguments:
        init: What `train.init` names: a run directory, or a file of weights.
        bands: Of the images that are trained on.
    """
    best = init / BEST if init.is_dir() else init
    if best.name != BEST or not best.is_file():
        return ""
    try:
        learnt = checkpoint.load(best).get("bands", ())
    except checkpoint.CheckpointError:  # of another program, which has the same name for it
        return ""
    if suitable_bands(bands, learnt):
        return ""
    return (
        f"it starts from {init.name}, which has learnt the bands {', '.join(learnt)}; these "
        f"images have {', '.join(bands)}"
    )


def suitable_bands(came: Bands, learnt: Bands) -> bool:
    """Whether channels are of the same filters in the same order, as far as both have names."""
    return not came or not learnt or same_bands(came, learnt)


def suitable_shape(came: tuple[int, ...], shape: Shape, crop: int | None) -> bool:
    """Whether a network takes images of a shape.

    Arguments:
        came: C, H, W of the images.
        shape: Those that it was trained on.
        crop: Pixels in the middle that it sees (`data.crop`): any image that has them will do.
            None: it sees all of an image, which then has to be as wide as those.
    """
    if crop is None or len(came) != len(shape):
        return came == shape
    return came[0] == shape[0] and min(came[1:]) >= crop


def wrong_shape(
    came: tuple[int, ...], shape: Shape, crop: int | None = None, *, taker: object = "this network"
) -> str:
    """Say that images have another shape than a network takes: as `suitable_shape`."""
    images, allowed = (" x ".join(map(str, sizes)) for sizes in (came, shape))
    sizes = "" if crop is None else f", or any other size of {crop} x {crop} pixels or more"
    return f"has images of {images} (channels x height x width), {taker} takes {allowed}{sizes}"


class Choosing(Protocol):
    """Says which channels of images a network sees."""

    def __call__(self, stored: int, bands: Bands) -> Choice | None:
        """The choice among so many channels, of such bands; None: all."""


def all_channels(stored: int, bands: Bands) -> Choice | None:
    """The choice of a network that sees every channel."""
    return None


class Takes(NamedTuple):
    """Images that a network takes."""

    shape: Shape  # of those that it was trained on, of the channels that it sees
    choose: Choosing
    fits: Callable[[Shape], bool]  # whether it takes a shape, of the channels that it sees
    crop: int | None = None  # pixels in the middle that it sees

    def seen(self, stored: Shape, bands: Bands) -> Shape:
        """The shape of images with such channels, of those that the network sees."""
        choice = self.choose(stored[0], bands)
        return stored if choice is None else (len(choice), *stored[1:])


def check_usual(source: Source, takes: Takes) -> Looked:
    """Refuse a source if most of its images have another shape than the network takes.

    A few images, evenly spread, are read to find out; if none of them can be read, all are tried.

    Arguments:
        source: The images.
        takes: Those that the network takes.

    Returns:
        What they look like.

    Raises:
        ShardError: Most have another shape, or none can be read.
    """
    looked = _look(source, _LOOKED_AT)
    if not looked.shapes:
        looked = _look(source, sum(map(len, source.splits.values())))
    shapes = looked.shapes
    if not shapes:
        raise ShardError(f"{source.root}: no image can be read ({looked.reason})")
    usual, count = Counter(shapes.values()).most_common(1)[0]
    seen = takes.seen(usual, looked.bands)
    if takes.fits(seen):
        return looked._replace(shape=usual)
    if 2 * count > len(shapes):
        first = next(id_ for id_, shape_of in shapes.items() if shape_of == usual)
        others = f"; so do {count} of {len(shapes)} looked at" if len(shapes) > 1 else ""
        raise ShardError(
            f"{source.root}: {first} {wrong_shape(seen, takes.shape, takes.crop)}{others}"
        )
    stored = usual[0] if takes.choose(usual[0], looked.bands) else takes.shape[0]
    return looked._replace(shape=(stored, *takes.shape[1:]))


def with_refused(source: Source) -> tuple[Source, dict[Sample, str]]:
    """Take in what `pack` would refuse: a network needs neither a label nor a split of an image.

    Returns:
        The source with the images of such objects as one more split, ``refused``; and the objects
        without an image, with the reason.
    """
    images = any if source.reading.missing_band == "zero" else all
    taken = tuple(sample for sample in source.faulty if images(sample.files))
    if taken:
        first = source.faulty[taken[0]]
        _log.warning(
            "%s: %d objects that 'pack' would refuse are taken, such as %s",
            source.root, len(taken), first,
        )  # fmt: skip
    named = set(source.faulty.values())
    if left := [*(fault for fault in source.faults if fault not in named), *source.dropped]:
        _log.warning("%s: %d objects are left out, such as %s", source.root, len(left), left[0])
    lacking = {s: fault.reason for s, fault in source.faulty.items() if not images(s.files)}
    return replace(source, splits=source.splits | {"refused": taken}), lacking


class Looked(NamedTuple):
    """What some images of a source look like."""

    shapes: dict[str, Shape]  # by their ids
    bands: tuple[str, ...]  # of the first that names some
    columns: frozenset[str]  # that headers fill: of ra, dec, object those the catalogue lacks
    reason: str  # why the last one that failed did
    shape: Shape = (0, 0, 0)  # that images must have in their files to be taken


def _look(source: Source, most: int) -> Looked:
    """Look at so many images at most."""
    shapes: dict[str, Shape] = {}
    bands: tuple[str, ...] = ()
    columns: frozenset[str] = frozenset()
    reason = "no image"
    step = max(-(-sum(map(len, source.splits.values())) // most), 1)
    for samples in source.splits.values():
        for sample in samples[::step]:
            try:
                image = source.read(sample)
            except ImageError as error:
                reason = f"{sample.id}: {error}"
                continue
            channels, height, width = image.pixels.shape
            shapes[sample.id] = channels, height, width
            bands = bands or image.bands
            columns |= known_columns(image.header, source.columns)
    return Looked(shapes, bands, columns, reason)
