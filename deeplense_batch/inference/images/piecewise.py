"""Images that are read piece by piece: what a piece is, and what is known of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa
import torch
from torch import Tensor

from deeplense_batch.data.encoding import Array
from deeplense_batch.data.formats.parts import Header
from deeplense_batch.data.pixels.transform import Transform
from deeplense_batch.inference.images.catalogue import (
    Columns,
)

__all__ = ["InputBatch", "Inputs", "Names", "Piece"]


class Piece(NamedTuple):
    """Samples one after another in one split, or in a slice of one."""

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
