"""The lens-finding set: one lens among many galaxies that are none, in one survey's bands."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from deeplense_batch.data.generate import GeneratedBatch, check_images
from deeplense_batch.data.shards import ShardError
from deeplense_batch.simulation.survey.checks import check_survey
from deeplense_batch.simulation.survey.objects import draw_source
from deeplense_batch.simulation.survey.painting.painted_set import PaintedSet
from deeplense_batch.simulation.survey.painting.stamps import Stamps, read_stamps
from deeplense_batch.simulation.survey.presets import survey_of
from deeplense_batch.simulation.survey.psf import described
from deeplense_batch.simulation.survey.scenes import make
from deeplense_batch.simulation.survey.settings import CLASSES, Survey

__all__ = ["COUNTS", "LensFinding", "class_counts", "lens_finding"]

# Of the public set.
COUNTS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "train": {"nonlenses": 28_675, "lenses": 1_730},
        "test": {"nonlenses": 19_455, "lenses": 195},
    }
)


@dataclass(frozen=True)
class LensFinding:
    """A set in the proportions of the public one: a lens in 17 to train on, in 100 to test.

    Arguments:
        preset: Name of the survey, of `presets.SURVEYS`.
        set_: Values by dotted field of the survey, in place of its own.
        size: Pixels along a side of an image, by default the survey's.
        sources: Folder, shards, archive or table of real galaxies that are lensed (`stamps`), if
            they are not simulated.

    Raises:
        ShardError: There is no such survey, field or folder, or no image can be made of them.
    """

    preset: str = "hsc"
    set_: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    size: int | None = None
    sources: str | None = None

    classes: ClassVar[tuple[str, ...]] = CLASSES
    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    folders: ClassVar[str] = "{split}_{name}"
    stored: ClassVar[np.dtype] = np.dtype(np.float32)
    dtype: ClassVar[np.dtype] = np.dtype(np.float32)
    batch: ClassVar[int] = 4
    known_faults: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_survey(self.survey)

    @cached_property
    def survey(self) -> Survey:
        """The survey with its overrides."""
        survey = survey_of(self.preset, self.set_)
        return survey if self.size is None else dataclasses.replace(survey, size=self.size)

    @cached_property
    def _stamps(self) -> Stamps | None:
        return read_stamps(self.sources, self.survey) if self.sources else None

    @property
    def cautions(self) -> list[str]:
        """What is allowed, but not what one may expect, in sentences."""
        return self._stamps.cautions if self._stamps else []

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W of an image."""
        return self.survey.shape

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the channels."""
        return self.survey.bands

    @property
    def pixel_scale(self) -> float:
        """Width of a pixel, arcsec."""
        return self.survey.pixel_scale

    @property
    def about(self) -> str:
        """What the images come from, in a few words."""
        survey = "" if self.preset == "hsc" else f", survey {self.preset}"
        others = {field: value for field, value in self.set_.items() if field != "bands"}
        changes = "".join(f", {field} = {value}" for field, value in others.items())
        sources = f", sources {self.sources}" if self.sources else ""
        return f"lens_finding{survey}, bands {', '.join(self.bands)}{sources}{changes}"

    def counts(self, images: int) -> dict[str, dict[str, int]]:
        """Images of each class in ``train`` and ``test``.

        Raises:
            ShardError: Too few for one of each class in each split.
        """
        check_images(self, len(self.splits), images)
        return class_counts(images)

    def described(self) -> dict[str, Any]:
        """All settings that an image depends on, as JSON."""
        sources = {"sources": self._stamps.digest} if self._stamps else {}
        return {"laws": described(self.survey)} | sources

    def make(self, split: str, indices: Sequence[int], *, seed: int) -> GeneratedBatch:
        """Simulate the images of some indices."""
        number = self.splits.index(split)
        draw = self._stamps.draw if self._stamps else draw_source
        made = [
            make(i % len(CLASSES), np.random.default_rng([seed, number, i]), self.survey, draw)
            for i in indices
        ]
        truth = {name: np.stack([truth[name] for _, truth in made]) for name in made[0][1]}
        return GeneratedBatch(
            images=np.stack([image for image, _ in made]),
            scale=None,
            truth=truth | {"index": np.asarray(indices, np.float64)},
        )


def lens_finding(
    preset: str = "hsc",
    set_: Mapping[str, Any] = MappingProxyType({}),
    size: int | None = None,
    sources: str | None = None,
    onto: str | None = None,
) -> LensFinding | PaintedSet:
    """Simulated galaxies and lenses, or arcs painted on the galaxies of a set of shards, `onto`.

    Raises:
        ShardError: As `LensFinding` and `PaintedSet`.
    """
    if onto is None:
        return LensFinding(preset, set_, size, sources)
    if size is not None:
        raise ShardError("simulate: size: the galaxies of --onto keep theirs; leave it out")
    return PaintedSet(onto, preset, set_, sources)


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
