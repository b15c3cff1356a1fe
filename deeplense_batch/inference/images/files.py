"""Images in files of any layout that `pack` reads, decoded by processes beside the network."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import torch
from torch import Tensor

from deeplense_batch.core.machine import cores
from deeplense_batch.data.augment import central_crop
from deeplense_batch.data.batches.loader import side_stream
from deeplense_batch.data.encoding import Array
from deeplense_batch.data.formats.images import ImageError
from deeplense_batch.data.formats.parts import NO_HEADER, Header
from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.listing.archive import path_parts
from deeplense_batch.data.listing.layouts import meaning
from deeplense_batch.data.listing.listing import Sample
from deeplense_batch.data.packing.parallel import map_in_order
from deeplense_batch.data.pixels.channels import Choice
from deeplense_batch.data.pixels.transform import Transform
from deeplense_batch.data.sources.sources import Source
from deeplense_batch.inference.images.piecewise import InputBatch, Inputs, Names, Piece
from deeplense_batch.inference.images.suitable import (
    Shape,
    suitable_bands,
    suitable_shape,
    wrong_shape,
)

__all__ = ["InputFiles", "listing_digest"]

_CHUNK = 32  # images of one task of a reading process
_MOST_PROCESSES = 8
_CACHED = 8  # images a thread that stay in a core's cache while they are transformed


@dataclass(frozen=True)
class InputFiles(Inputs):
    """Images in files.

    Arguments:
        source: The files.
        shape: C, H, W that the images must have in their files.
        lacking: Objects without an image, and why.
        stored_bands: Of the channels in files; none where they are unknown.
        choice: Which of these channels a network sees; None: all.
        crop: Pixels in the middle that are read; then the images may be of any size that has them.
    """

    source: Source
    shape: Shape
    lacking: Mapping[Sample, str]
    stored_bands: tuple[str, ...] = ()
    choice: Choice | None = None
    crop: int | None = None

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
        chunk, (channels, *sides) = min(_CHUNK, size), self.shape
        kept = sides if self.crop is None else (self.crop, self.crop)

        def read(task: int, block: Array) -> tuple[dict[int, str], list[Header]]:
            return self._read(samples[task * chunk : (task + 1) * chunk], block)

        chunks = map_in_order(
            read,
            -(-len(samples) // chunk),
            processes=min(cores(), _MOST_PROCESSES),
            shape=(chunk, channels, *kept),
            dtype=np.dtype(np.float32),
            threads=device.type != "cpu",
        )
        left = len(samples)
        images: list[Tensor] = []  # of the batch so far, a chunk each
        problems: dict[int, str] = {}
        headers: list[Header] = []
        bring = _Bringer(transform, device, self.choice)
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
                    firsts[piece] = self._seen(image.pixels), self.names(first, [image.header])
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
                if not suitable_shape(image.pixels.shape, self.shape, self.crop):
                    raise ImageError(wrong_shape(image.pixels.shape, self.shape, self.crop))
                if not suitable_bands(image.bands, self.stored_bands):
                    came, usual = ", ".join(image.bands), ", ".join(self.stored_bands)
                    raise ImageError(f"has the bands {came}; the other images have {usual}")
                block[i] = central_crop(image.pixels, self.crop)
            except ImageError as error:
                block[i], problems[i] = 0.0, str(error)
                headers[i] = self.source.header(sample)  # it is somewhere all the same
        return problems, headers if self.columns.of_headers else []

    def _seen(self, pixels: Array) -> Array:
        """The chosen channels of an image, (C, H, W)."""
        if self.choice is None:
            return pixels
        return self.choice(torch.from_numpy(np.asarray(pixels, np.float32))[None])[0].numpy()

    def _samples(self, piece: Piece) -> tuple[Sample, ...]:
        return self.source.splits[piece.split][piece.start : piece.stop]


class _Bringer:
    """Brings images from their files to the device, beside what the network computes there."""

    def __init__(self, transform: Transform, device: torch.device, choice: Choice | None) -> None:
        self._transform, self._device, self._choice = transform, device, choice
        self._side = side_stream(device)

    def __call__(self, images: Tensor) -> Tensor:
        """A copy of images as packed, (B, C, H, W) float32: on a CPU what a network sees."""
        images = central_crop(images, self._transform.crop)
        if self._choice is not None:
            images = self._choice(images)
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


def listing_digest(source: Source) -> str:
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
