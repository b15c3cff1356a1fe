"""Images to predict on, piece by piece, of a folder of shards or of anything that `pack` reads.

Nothing is packed: images go from their files to the device, a few at a time, and only what one
piece needs is held. A piece and its batches are the same whoever asks, so that shares of the work
add up to the whole.
"""

from __future__ import annotations

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from deeplense_batch.core.machine import cores
from deeplense_batch.data.augment import central_crop
from deeplense_batch.data.encoding import Array
from deeplense_batch.data.formats.images import ImageError
from deeplense_batch.data.formats.parts import NO_HEADER, Header
from deeplense_batch.data.formats.reading import Reading, flags_in
from deeplense_batch.data.listing.archive import path_parts
from deeplense_batch.data.listing.layouts import meaning
from deeplense_batch.data.listing.listing import Sample
from deeplense_batch.data.loader import Loader, side_stream
from deeplense_batch.data.packing.parallel import map_in_order
from deeplense_batch.data.pixels.transform import Transform
from deeplense_batch.data.shards import (
    NAME,
    ShardError,
    Split,
    SplitInfo,
    data_digest,
    open_split,
    read_splits,
)
from deeplense_batch.data.sources.sources import Source, open_source
from deeplense_batch.inference.catalogue import ALL, Columns, columns_of_files, columns_of_shards
from deeplense_batch.inference.suitable import (
    Shape,
    check_usual,
    suitable_bands,
    with_refused,
    wrong_shape,
)

__all__ = ["InputBatch", "Inputs", "Names", "Piece", "open_inputs"]

_CHUNK = 32  # images of one task of a reading process
_MOST_PROCESSES = 8
_CACHED = 8  # images a thread that stay in a core's cache while they are transformed

_log = logging.getLogger(__name__)


class Piece(NamedTuple):
    """Samples one after another in one split."""

    split: str
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of samples."""
        return self.stop - self.start


class InputBatch(NamedTuple):
    """A batch as a network sees it."""

    images: Tensor  # (B, C, H, W) float32, on the device
    truth: dict[str, Tensor]  # (B, ...) float32 by name
    problems: dict[int, str]  # why there is no image, by its index in the batch
    headers: Sequence[Header] = ()  # of each image, where columns of headers are wanted

    @property
    def with_image(self) -> list[int]:
        """Indices of those that could be read."""
        return [i for i in range(len(self.images)) if i not in self.problems]


class Names(NamedTuple):
    """What is known of the samples of a piece; None where something is not."""

    ids: list[str]
    splits: list[str | None]
    labels: list[str | None]
    columns: dict[str, pa.Array]  # of the catalogue and of headers, by name, each (n,)


@dataclass(frozen=True)
class Inputs(ABC):
    """Images in a fixed order.

    Arguments:
        splits: Samples of each split: its name, the first, and the end.
        digest: A hash of what the images are.
        ignored: Files beside the images that are no images.
        bands: Of the channels; none where they are unknown.
        columns: Those of the catalogue and of headers that are wanted.
    """

    splits: tuple[Piece, ...]
    digest: str
    ignored: tuple[str, ...]
    bands: tuple[str, ...]
    columns: Columns

    def __len__(self) -> int:
        return sum(split.size for split in self.splits)

    def pieces(self, size: int) -> list[Piece]:
        """Cut all samples into pieces of at most `size`."""
        return [
            Piece(split, first, min(first + size, stop))
            for split, start, stop in self.splits
            for first in range(start, stop, size)
        ]

    @abstractmethod
    def names(self, piece: Piece, headers: Sequence[Header] = ()) -> Names:
        """Say what the samples of a piece are.

        Arguments:
            piece: The samples.
            headers: Of each, as `batches` gives them; what they say is null without.
        """

    @abstractmethod
    def batches(
        self, piece: Piece, transform: Transform, device: torch.device, *, size: int
    ) -> Generator[InputBatch, None, None]:
        """Make batches of at most `size` samples of a piece, in order."""

    @abstractmethod
    def firsts(self, pieces: Sequence[Piece]) -> list[tuple[Array, Names]]:
        """The first sample of each piece: values, (C, H, W), as in its file, and what it is."""


@contextmanager
def open_inputs(
    root: Path,
    slice_: str,
    shape: Shape,
    reads: Collection[str] = (),
    *,
    columns: Collection[str] = ALL,
    reading: Reading | None = None,
) -> Iterator[Inputs]:
    """Open images for a network.

    Arguments:
        root: Folder of shards, or folder, zip or .npz in a layout of `sources`.
        slice_: Of the shards, such as ``val[:100]``; empty for everything.
        shape: C, H, W that the images must have.
        reads: Truth arrays that the task uses, where the shards have them.
        columns: Of the catalogue and of headers, by name; or ``all`` or ``none``.
        reading: How files are read; None as they say themselves.

    Raises:
        ShardError: There are no images, or most have another shape; or `slice_` is none, or a
            column; or `reading` is given for shards.
    """
    if root.is_dir() and any(NAME.match(path.name) for path in root.iterdir()):
        if reading is not None:
            raise ShardError(f"--reading: {root} is a folder of shards, which are read as packed")
        yield _open_shards(root, slice_, shape, reads, columns)
        return
    if slice_:
        raise ShardError(f"{root}: is no folder of shards, so it has no slice '{slice_}'")
    with _opened(root, reading or Reading()) as source:
        for warning in source.warnings:
            _log.warning("%s: %s", root, _with_reading(warning))
        source, lacking = with_refused(source)
        looked = check_usual(source, shape)
        source = replace(source, splits=source.splits | {"lacking": tuple(lacking)})
        if bands := looked.bands:
            _log.info("the channels are the bands %s, in this order", ", ".join(bands))
        sizes = {name: len(split) for name, split in source.splits.items() if split}
        splits = tuple(Piece(name, 0, size) for name, size in sizes.items())
        wanted = columns_of_files(source, columns, looked.columns)
        about = (splits, _listing(source), source.ignored, bands, wanted)
        yield _Files(*about, source, shape, lacking)


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
    root: Path, slice_: str, shape: Shape, reads: Collection[str], columns: Collection[str]
) -> Inputs:
    infos = read_splits(root)
    slices = [open_split(root, name) for name in ([slice_] if slice_ else infos)]
    for split in slices:
        if split.info.shape != shape:
            raise ShardError(f"{root}: {wrong_shape(split.info.shape, shape)}")
    bands, wanted = slices[0].info.bands, columns_of_shards(root, slices, columns)
    splits = tuple(Piece(split.info.name, split.start, split.stop) for split in slices)
    return _Shards(splits, data_digest(root), (), bands, wanted, infos, tuple(reads))


@dataclass(frozen=True)
class _Shards(Inputs):
    infos: dict[str, SplitInfo]
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
        return Split(self.infos[piece.split], piece.start, piece.stop)


@dataclass(frozen=True)
class _Files(Inputs):
    source: Source
    shape: Shape
    lacking: Mapping[Sample, str]  # why these have no image

    def names(self, piece: Piece, headers: Sequence[Header] = ()) -> Names:
        samples, classes = self._samples(piece), self.source.classes
        headers = headers or [NO_HEADER] * len(samples)
        return Names(
            [sample.id for sample in samples],
            [sample.split if _says_split(sample) else None for sample in samples],
            [classes[sample.target] if sample.target >= 0 else None for sample in samples],
            self.columns.of_files(self.source, samples, headers),
        )

    def batches(
        self, piece: Piece, transform: Transform, device: torch.device, *, size: int
    ) -> Generator[InputBatch, None, None]:
        samples = self._samples(piece)
        chunk = min(_CHUNK, size)

        def read(task: int, block: Array) -> tuple[dict[int, str], list[Header]]:
            return self._read(samples[task * chunk : (task + 1) * chunk], block)

        chunks = map_in_order(
            read,
            -(-len(samples) // chunk),
            processes=min(cores(), _MOST_PROCESSES),
            shape=(chunk, *self.shape),
            dtype=np.dtype(np.float32),
            threads=device.type != "cpu",
        )
        left = len(samples)
        images: list[Tensor] = []  # of the batch so far, a chunk each
        problems: dict[int, str] = {}
        headers: list[Header] = []
        bring = _Bringer(transform, device)
        with closing(chunks):
            for (problems_of_chunk, headers_of_chunk), block in chunks:
                held = sum(map(len, images))
                problems |= {held + i: reason for i, reason in problems_of_chunk.items()}
                part = torch.from_numpy(block[: min(chunk, left)])
                images.append(bring(part))
                headers += headers_of_chunk
                left -= chunk
                if left <= 0 or held + 2 * chunk > size:
                    yield InputBatch(bring.together(images), {}, problems, headers)
                    images, problems, headers = [], {}, []

    def firsts(self, pieces: Sequence[Piece]) -> list[tuple[Array, Names]]:
        firsts: dict[Piece, tuple[Array, Names]] = {}
        for split in {piece.split for piece in pieces}:
            for piece in pieces:
                if piece.split == split:
                    first = piece._replace(stop=piece.start + 1)
                    image = self.source.read(self._samples(first)[0])
                    firsts[piece] = image.pixels, self.names(first, [image.header])
        return [firsts[piece] for piece in pieces]

    def _read(
        self, samples: Sequence[Sample], block: Array
    ) -> tuple[dict[int, str], list[Header]]:
        """Fill a block, (chunk, C, H, W), with images.

        Returns:
            Why some cannot be used, by their numbers; and the headers of all, if they are wanted.
        """
        problems, headers = {}, [NO_HEADER] * len(samples)
        for i, sample in enumerate(samples):
            try:
                if why := self.lacking.get(sample):
                    raise ImageError(why)
                image = self.source.read(sample)
                headers[i] = image.header
                if image.pixels.shape != self.shape:
                    raise ImageError(wrong_shape(image.pixels.shape, self.shape))
                if not suitable_bands(image.bands, self.bands):
                    came, usual = ", ".join(image.bands), ", ".join(self.bands)
                    raise ImageError(f"has the bands {came}; the other images have {usual}")
                block[i] = image.pixels
            except ImageError as error:
                block[i], problems[i] = 0.0, str(error)
                headers[i] = self.source.header(sample)  # it is somewhere all the same
        return problems, headers if self.columns.of_headers else []

    def _samples(self, piece: Piece) -> tuple[Sample, ...]:
        return self.source.splits[piece.split][piece.start : piece.stop]


class _Bringer:
    """Brings images from their files to the device, beside what the network computes there."""

    def __init__(self, transform: Transform, device: torch.device) -> None:
        self._transform, self._device = transform, device
        self._side = side_stream(device)

    def __call__(self, images: Tensor) -> Tensor:
        """A copy of images as packed, (B, C, H, W) float32: on a CPU what a network sees."""
        images = central_crop(images, self._transform.crop)
        if self._device.type == "cpu":
            few = _CACHED * torch.get_num_threads()
            return torch.cat([self._transform(part) for part in images.clone().split(few)])
        pinned = torch.empty(images.shape, pin_memory=self._side is not None)
        return pinned.copy_(images)

    def together(self, images: list[Tensor]) -> Tensor:
        """A batch as a network sees it, on the device."""
        if self._side is None:
            whole = torch.cat(images)
            return whole if self._device.type == "cpu" else self._transform(whole.to(self._device))
        with torch.cuda.stream(self._side):
            sent = [part.to(self._device, non_blocking=True) for part in images]
            whole = self._transform(torch.cat(sent))
            self._side.synchronize()
        return whole


def _says_split(sample: Sample) -> bool:
    """Whether the sample's folder or .npz names its split; `pack` assigns one otherwise."""
    *folders, file = path_parts(sample.id)
    stem = [] if sample.index is None else [PurePosixPath(file).stem]
    return sample.split in {meaning(name)[0] for name in (*folders, *stem)}


def _listing(source: Source) -> str:
    """A hash of the files and the label of each id, and of sizes and times of the files."""
    digest = hashlib.sha256()
    for samples in source.splits.values():
        for sample in samples:
            label = source.classes[sample.target] if sample.target >= 0 else None
            known = (sample.id, sample.split, label, sample.files, sample.index)
            digest.update(f"{known!r}\n".encode())
    for path in source.paths():
        state = path.stat()
        digest.update(f"{state.st_size} {state.st_mtime_ns}\n".encode())
    if source.reading != Reading():
        digest.update(repr(source.reading).encode())
    return digest.hexdigest()[:16]
