"""What makes the images of a set: the contract of simulations and of networks that draw."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.data.encoding import Array
from deeplense_batch.data.pairs.pair_arrays import PairArrays
from deeplense_batch.data.shards import ShardError

__all__ = [
    "GeneratedBatch",
    "GroupedGenerator",
    "ImageGenerator",
    "PairedGenerator",
    "StreamingGenerator",
    "check_images",
    "made_in_order",
]


@dataclass(frozen=True)
class GeneratedBatch:
    """A batch of generated images as shards hold them."""

    images: Array  # (n, C, H, W), stored form
    scale: NDArray[np.float64] | None  # (n, C), beside counts
    truth: Mapping[str, NDArray[np.float64]]  # (n, ...) by name
    digests: Sequence[bytes] | None = None  # sha256 of each image, where it is known already
    ids: Sequence[str] | None = None  # where images have names of their own
    catalogue: Mapping[str, Array] | None = None  # columns, (n,), as of `ShardWriter.append`
    pairs: PairArrays | None = None  # of a set of pairs


class ImageGenerator(Protocol):
    """Makes the images of a set, of any number and from any seed."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of their numbers; none without labels."""

    @property
    def folders(self) -> str:
        """Folder of the images of one ``{split}`` and class ``{name}`` in the public layout."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W of an image."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the channels; empty where they have none."""

    @property
    def stored(self) -> np.dtype:
        """Type in which shards hold the images."""

    @property
    def dtype(self) -> np.dtype:
        """Type of their values."""

    @property
    def batch(self) -> int:
        """Images that are best made at once."""

    @property
    def pixel_scale(self) -> float:
        """Width of a pixel, arcsec."""

    @property
    def about(self) -> str:
        """What the images come from, in a few words."""

    @property
    def known_faults(self) -> tuple[str, ...]:
        """Faults that the images have on purpose."""

    def counts(self, images: int) -> dict[str, dict[str, int]]:
        """Images of each class in each split.

        Raises:
            ShardError: Too few.
        """

    def described(self) -> dict[str, Any]:
        """All settings that an image depends on, as JSON."""

    def make(self, split: str, indices: Sequence[int], *, seed: int) -> GeneratedBatch:
        """Make images. Image j of class c of K has the index j K + c; it is a function of
        (seed, split, index) alone.
        """


@runtime_checkable
class GroupedGenerator(ImageGenerator, Protocol):
    """One whose images belong to groups, such as cutouts of one tile, which slices keep whole."""

    @property
    def group(self) -> str:
        """Column of the catalogue whose equal values name a group; empty where none does."""

    def groups(self, split: str, indices: Sequence[int], *, seed: int) -> NDArray[np.int64] | None:
        """Number of the group of some images, from 0 without gaps, (n,); None without groups."""


@runtime_checkable
class PairedGenerator(ImageGenerator, Protocol):
    """One that makes pairs: its batches have `GeneratedBatch.pairs`."""

    @property
    def inputs_dtype(self) -> np.dtype:
        """Type of the values of the inputs before packing."""


@runtime_checkable
class StreamingGenerator(ImageGenerator, Protocol):
    """One that is faster batch after batch than batch by batch."""

    def stream(
        self, asked: Iterable[tuple[str, Sequence[int]]], *, seed: int
    ) -> Generator[GeneratedBatch, None, None]:
        """Make a batch of each split and indices, in order, as `make` does.

        What is asked for may be read ahead of use, in another thread. Close the iterator.
        """


def made_in_order(
    generator: ImageGenerator, asked: Iterable[tuple[str, Sequence[int]]], *, seed: int
) -> Generator[GeneratedBatch, None, None]:
    """Batches of any generator, as `StreamingGenerator.stream` gives them."""
    if isinstance(generator, StreamingGenerator):
        yield from generator.stream(asked, seed=seed)
        return
    for split, indices in asked:
        yield generator.make(split, indices, seed=seed)


def check_images(generator: ImageGenerator, splits: int, images: int) -> None:
    """Make sure that there is an image of each class in each split.

    Raises:
        ShardError: There are too few.
    """
    least = splits * len(generator.classes)
    if images < least:
        raise ShardError(
            f"simulate: images: expected a whole number from {least}, one of each class in each "
            f"split; got {images}"
        )
