"""Images to predict on, piece by piece, of a folder of shards or of anything that `pack` reads.

Nothing is packed: images go from their files to the device, a few at a time, and only what one
piece needs is held. A piece and its batches are the same whoever asks, so that shares of the work
add up to the whole.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.encoding import Array
from deeplense_batch.data.formats.parts import Header
from deeplense_batch.data.formats.reading import Reading, flags_in
from deeplense_batch.data.pixels.transform import Transform
from deeplense_batch.data.shards import (
    NAME,
    ShardError,
    Split,
    data_digest,
    open_split,
    read_splits,
)
from deeplense_batch.data.sources.sources import Source, open_source
from deeplense_batch.inference.images.catalogue import (
    ALL,
    columns_of_files,
    columns_of_shards,
)
from deeplense_batch.inference.images.files import InputFiles, listing_digest
from deeplense_batch.inference.images.piecewise import InputBatch, Inputs, Names, Piece
from deeplense_batch.inference.images.suitable import (
    Choosing,
    Shape,
    Takes,
    all_channels,
    check_usual,
    suitable_shape,
    with_refused,
    wrong_shape,
)

__all__ = ["open_inputs"]

_log = logging.getLogger(__name__)


@contextmanager
def open_inputs(
    root: Path,
    slice_: str,
    shape: Shape,
    reads: Collection[str] = (),
    *,
    crop: int | None = None,
    columns: Collection[str] = ALL,
    reading: Reading | None = None,
    choose: Choosing = all_channels,
    fits: Callable[[Shape], bool] | None = None,
    of_pairs: str = "images",
) -> Iterator[Inputs]:
    """Open images for a network.

    Arguments:
        root: Folder of shards, or folder, zip or .npz in a layout of `sources`.
        slice_: Of the shards, such as ``val[:100]``; empty for everything.
        shape: C, H, W that the images must have, of the channels that are seen.
        crop: Pixels in the middle that the network sees; then any image that has them will do.
        reads: Truth arrays that the task uses, where the shards have them.
        columns: Of the catalogue and of headers, by name; or ``all`` or ``none``.
        reading: How files are read; None as they say themselves.
        choose: Which of so many channels, of such bands, the network sees.
        fits: Whether it takes images of a shape, where that is not `shape` alone.
        of_pairs: What is opened of shards of pairs: their ``images`` or ``inputs``.

    Raises:
        ShardError: There are no images, or most have another shape; or `slice_` is none, or a
            column; or `reading` is given for shards.
    """
    alike = partial(suitable_shape, shape=shape, crop=crop)
    takes = Takes(shape, choose, fits or alike, crop)
    if root.is_dir() and any(NAME.match(path.name) for path in root.iterdir()):
        if reading is not None:
            raise ShardError(f"--reading: {root} is a folder of shards, which are read as packed")
        yield _open_shards(root, slice_, takes, reads, columns, of_pairs)
        return
    if slice_:
        raise ShardError(f"{root}: is no folder of shards, so it has no slice '{slice_}'")
    with _opened(root, reading or Reading()) as source:
        for warning in source.warnings:
            _log.warning("%s: %s", root, _with_reading(warning))
        source, lacking = with_refused(source)
        looked = check_usual(source, takes)
        source = replace(source, splits=source.splits | {"lacking": tuple(lacking)})
        if bands := looked.bands:
            _log.info("the channels are the bands %s, in this order", ", ".join(bands))
        sizes = {name: len(split) for name, split in source.splits.items() if split}
        splits = tuple(Piece(name, 0, size) for name, size in sizes.items())
        wanted = columns_of_files(source, columns, looked.columns)
        choice = choose(looked.shape[0], bands)
        seen = bands if choice is None else choice.bands(bands)
        about = (splits, listing_digest(source), source.ignored, seen, wanted)
        yield InputFiles(*about, source, looked.shape, lacking, bands, choice, crop)


@contextmanager
def _opened(root: Path, reading: Reading) -> Iterator[Source]:
    """Open images in files; errors say how flags of `pack` are given here."""
    with ExitStack() as stack:
        try:
            source = stack.enter_context(open_source(root, reading=reading))
        except ShardError as error:
            raise ShardError(_with_reading(str(error))) from error
        yield source


def _with_reading(sentence: str) -> str:
    """A sentence on files; if it names a flag of `pack`, with how that is given here."""
    for name in flags_in(sentence):
        return f"{sentence}; a flag such as --{name} is given here as --reading '{{{name}: ...}}'"
    return sentence


def _open_shards(
    root: Path,
    slice_: str,
    takes: Takes,
    reads: Collection[str],
    columns: Collection[str],
    of_pairs: str,
) -> Inputs:
    stored = {
        name: info.of("inputs") if of_pairs == "inputs" and info.inputs is not None else info
        for name, info in read_splits(root).items()
    }
    infos = {
        name: info.with_choice(takes.choose(info.shape[0], info.bands))
        for name, info in stored.items()
    }
    slices = [open_split(root, name, infos) for name in ([slice_] if slice_ else infos)]
    for split in slices:
        if not takes.fits(split.info.shape):
            raise ShardError(f"{root}: {wrong_shape(split.info.shape, takes.shape, takes.crop)}")
    bands, wanted = slices[0].info.bands, columns_of_shards(root, slices, columns)
    splits = tuple(Piece(split.info.name, 0, len(split)) for split in slices)
    by_name = {split.info.name: split for split in slices}
    return _Shards(splits, data_digest(root), (), bands, wanted, by_name, tuple(reads))


@dataclass(frozen=True)
class _Shards(Inputs):
    slices: dict[str, Split]  # by the name of the split
    reads: tuple[str, ...]

    def names(self, piece: Piece, headers: Sequence[Header] = ()) -> Names:
        split = self._split(piece)
        classes, targets = split.info.classes, split.targets().tolist()
        labels = [classes[target] if target >= 0 else None for target in targets]
        return Names(split.ids(), [piece.split] * len(split), labels, self.columns.of(split))

    def batches(
        self, piece: Piece, transform: Transform, device: torch.device, *, size: int
    ) -> Generator[InputBatch, None, None]:
        loader = Loader(
            self._split(piece),
            transform=transform,
            device=device,
            resident="off",
            truths=self.reads,
        )
        samples = np.arange(len(loader))
        batches_of = [samples[first : first + size] for first in range(0, len(samples), size)]
        with closing(loader.batches(batches_of)) as batches:
            for images, _, index in batches:
                yield InputBatch(images, loader.truth_of(index), {})

    def firsts(self, pieces: Sequence[Piece]) -> list[tuple[Array, Names]]:
        firsts = [piece._replace(stop=piece.start + 1) for piece in pieces]
        return [(self._split(first).images()[0], self.names(first)) for first in firsts]

    def _split(self, piece: Piece) -> Split:
        return self.slices[piece.split].part(piece.start, piece.stop)
