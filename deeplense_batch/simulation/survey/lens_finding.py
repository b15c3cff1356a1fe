"""The lens-finding set: one lens among many galaxies that are none, in three bands (`survey`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from deeplense_batch.data.generate import GeneratedBatch, check_images
from deeplense_batch.simulation.survey.scenes import make
from deeplense_batch.simulation.survey.settings import CLASSES, PIXEL_SCALE, SHAPE, described

__all__ = ["COUNTS", "LensFinding", "class_counts"]

# Of the public set.
COUNTS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "train": {"nonlenses": 28_675, "lenses": 1_730},
        "test": {"nonlenses": 19_455, "lenses": 195},
    }
)


@dataclass(frozen=True)
class LensFinding:
    """A set in the proportions of the public one: a lens in 17 to train on, in 100 to test."""

    classes: ClassVar[tuple[str, ...]] = CLASSES
    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    folders: ClassVar[str] = "{split}_{name}"
    shape: ClassVar[tuple[int, int, int]] = SHAPE
    stored: ClassVar[np.dtype] = np.dtype(np.float32)
    dtype: ClassVar[np.dtype] = np.dtype(np.float32)
    pixel_scale: ClassVar[float] = PIXEL_SCALE
    batch: ClassVar[int] = 4
    about: ClassVar[str] = "lens_finding, bands g, r, i"
    known_faults: ClassVar[tuple[str, ...]] = ()

    def counts(self, images: int) -> dict[str, dict[str, int]]:
        """Images of each class in ``train`` and ``test``.

        Raises:
            ShardError: Too few for one of each class in each split.
        """
        check_images(self, len(self.splits), images)
        return class_counts(images)

    def described(self) -> dict[str, Any]:
        """All settings that an image depends on, as JSON."""
        return {"laws": described()}

    def make(self, split: str, indices: Sequence[int], *, seed: int) -> GeneratedBatch:
        """Simulate the images of some indices."""
        number = self.splits.index(split)
        made = [make(i % len(CLASSES), np.random.default_rng([seed, number, i])) for i in indices]
        truth = {name: np.stack([truth[name] for _, truth in made]) for name in made[0][1]}
        return GeneratedBatch(
            images=np.stack([image for image, _ in made]),
            scale=None,
            truth=truth | {"index": np.asarray(indices, np.float64)},
        )


def class_counts(images: int) -> dict[str, dict[str, int]]:
    """Images of each class in each split: those of the public set in proportion, at least one.

    Arguments:
        images: Images of all together; 50,055 is the public set, and 4 is the least.
    """
    whole = sum(sum(split.values()) for split in COUNTS.values())
    exact = {
        (split, name): max(1.0, images * count / whole)
        for split, classes in COUNTS.items()
        for name, count in classes.items()
    }
    counts = {key: int(count) for key, count in exact.items()}
    # What rounding left goes, one by one, to the class that is furthest below its share.
    while sum(counts.values()) < images:
        counts[max(counts, key=lambda key: exact[key] - counts[key])] += 1
    while sum(counts.values()) > images:
        counts[max((k for k in counts if counts[k] > 1), key=lambda k: counts[k] - exact[k])] -= 1
    return {split: {name: counts[split, name] for name in COUNTS[split]} for split in COUNTS}
