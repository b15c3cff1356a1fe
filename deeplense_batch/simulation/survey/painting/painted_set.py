"""Arcs on the galaxies of a set of shards: lenses that differ from them by their arcs alone.

Half of the images are galaxies as they are, the other half galaxies with an arc (`painter`); no
galaxy is in both, and each stays in the split that it was packed in. Images have the names and the
catalogue of their galaxies, and their groups; of the truth, ``onto`` is the row of the galaxy in
its split.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.data.generate import GeneratedBatch
from deeplense_batch.data.shards import ShardError
from deeplense_batch.data.slices.edges import group_numbers
from deeplense_batch.simulation.survey.checks import check_survey
from deeplense_batch.simulation.survey.noise import draw_conditions
from deeplense_batch.simulation.survey.objects import draw_source
from deeplense_batch.simulation.survey.painting.canvas import (
    Canvas,
    Columns,
    dispersion,
    read_canvas,
)
from deeplense_batch.simulation.survey.painting.measured_light import sky_of
from deeplense_batch.simulation.survey.painting.painter import (
    SEARCH,
    Painter,
    light_of_galaxy,
    reddest,
)
from deeplense_batch.simulation.survey.painting.stamps import Stamps, is_scaled, read_stamps
from deeplense_batch.simulation.survey.presets import survey_of
from deeplense_batch.simulation.survey.psf import described
from deeplense_batch.simulation.survey.settings import CLASSES, Survey

__all__ = ["PaintedSet"]

_SAMPLE = 64  # galaxies that are looked at before anything is made
_FAR = 5.0  # arcsec beyond two Einstein radii, where the arc has ended
_SEEN = 5.0  # sds of the sky of a galaxy that is there
_DOUBTFUL = 1.5  # magnitudes between the noise of the sky and that of the preset


class _Sample(NamedTuple):
    """The first galaxies."""

    is_scaled: bool
    sd: NDArray[np.float64]  # of the sky, (B,)
    empty: int  # without a galaxy near the middle
    size: int


@dataclass(frozen=True)
class PaintedSet:
    """Lenses and non-lenses, in equal numbers, of the galaxies of a set of shards.

    Arguments:
        onto: Folder of the shards.
        preset: Name of the survey whose laws are used, of `presets.SURVEYS`.
        set_: Values by dotted field of the survey, in place of its own; ``bands`` and
            ``pixel_scale`` where the shards do not have them.
        sources: Folder, shards, archive or table of real galaxies that are lensed (`stamps`), if
            they are not simulated.

    Raises:
        ShardError: There are no such shards, survey, field or sources, or no arcs can be painted.
    """

    onto: str
    preset: str = "hsc"
    set_: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    sources: str | None = None

    classes: ClassVar[tuple[str, ...]] = CLASSES
    folders: ClassVar[str] = "{split}_{name}"
    batch: ClassVar[int] = 4
    known_faults: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_survey(self.survey)

    @cached_property
    def _all_galaxies(self) -> Canvas:
        return read_canvas(self.onto)

    @cached_property
    def _chosen(self) -> tuple[Canvas, list[str]]:
        return self._all_galaxies.for_survey(self.survey)

    @property
    def canvas(self) -> Canvas:
        """The galaxies that may be lenses of the survey."""
        return self._chosen[0]

    @property
    def splits(self) -> tuple[str, ...]:
        """Those of the shards."""
        return tuple(self.canvas.splits)

    @cached_property
    def survey(self) -> Survey:
        """The survey with its overrides, and with bands and pixels of the shards.

        Its frame is the part of an image in which there can be an arc.
        """
        survey = survey_of(self.preset, self.set_)
        info = self._all_galaxies.first
        bands = self._agreed("bands", self._known_bands(info.bands, survey) or None, survey.bands)
        scale = info.pixel_scale
        pixel_scale = self._agreed(
            "pixel_scale", None if math.isnan(scale) else scale, survey.pixel_scale
        )
        channels, *sides = info.shape
        if len(bands) != channels:
            raise ShardError(
                f"simulate: onto: {self.onto}: its images have {channels} bands; got "
                f"{len(bands)}, {', '.join(bands)}"
            )
        wide = 2 * (2 * survey.galaxy.theta_e[1] + _FAR) / pixel_scale
        size = min(math.ceil(wide), max(sides))
        return dataclasses.replace(survey, bands=bands, pixel_scale=pixel_scale, size=size)

    def _known_bands(self, bands: Sequence[str], survey: Survey) -> tuple[str, ...]:
        """The bands of the galaxies as the survey writes them, such as g for HSC-G.

        Raises:
            ShardError: It does not have one of them.
        """
        known = survey.camera.fwhm
        written = survey.as_written(bands)
        if lacks := [band for band, name in zip(bands, written, strict=True) if name not in known]:
            raise ShardError(
                f"simulate: onto: {self.onto}: its shards have the bands {', '.join(bands)}; "
                f"preset {self.preset} has {', '.join(known)}, but no {', '.join(lacks)}"
            )
        return written

    def _agreed(self, name: str, known: Any, asked: Any) -> Any:
        """What the shards say, or where they do not, what was asked for by ``--set``."""
        is_asked = name in self.set_
        if known is None and not is_asked:
            example = "[g,r,i], in their order" if name == "bands" else "0.2, in arcsec"
            raise ShardError(
                f"simulate: onto: {self.onto}: its shards do not say their {name}; "
                f"give it: --set {name}={example}"
            )
        if known is not None and is_asked and known != asked:
            raise ShardError(
                f"simulate: onto: {self.onto}: its shards say {name} {_word(known)}; got "
                f"--set {name}={_word(asked)}"
            )
        return asked if known is None else known

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W of an image: as it was."""
        return self._all_galaxies.first.shape

    @property
    def dtype(self) -> np.dtype:
        """As it was; float32 in place of whole numbers."""
        own = self._all_galaxies.first.dtype
        return own if own.kind == "f" else np.dtype(np.float32)

    @property
    def stored(self) -> np.dtype:
        """The type of the values."""
        return self.dtype

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the channels, as the preset writes them."""
        return self.survey.bands

    @property
    def group(self) -> str:
        """Column of the catalogue that names groups; empty where none does."""
        return self._all_galaxies.first.group

    @property
    def pixel_scale(self) -> float:
        """Width of a pixel, arcsec."""
        return self.survey.pixel_scale

    @property
    def about(self) -> str:
        """What the images come from, in a few words."""
        sources = f", sources {self.sources}" if self.sources else ""
        changes = "".join(f", {field} = {value}" for field, value in self.set_.items())
        return f"lens_finding on {self.onto}, survey {self.preset}{sources}{changes}"

    @property
    def cautions(self) -> list[str]:
        """What is allowed, but not what one may expect, in sentences."""
        sample, found = self._sample, [*self.canvas.said, *self._chosen[1]]
        if sample.is_scaled:
            found.append(
                f"onto: {self.onto}: each band of its images is scaled from 0 to 1, so that their "
                "flux is not known: it is taken from the columns mag_g and so on, and without "
                f"them such that the sky is as noisy as that of preset {self.preset}"
            )
        elif said := self._about_depth(sample.sd):
            found.append(said)
        if sample.empty:
            found.append(
                f"onto: {self.onto}: {sample.empty} of the first {sample.size} images show no "
                f"galaxy within {SEARCH:g} arcsec of their middle; an arc there is around nothing"
            )
        found += self._stamps.cautions if self._stamps else []
        return found

    def counts(self, images: int) -> dict[str, dict[str, int]]:
        """Images of each class in each split, in the proportions of the splits.

        Raises:
            ShardError: More than there are galaxies, or too few for one of each class in each.
        """
        have = {name: len(galaxies.rows) for name, galaxies in self.canvas.splits.items()}
        whole, least = sum(have.values()), 2 * len(have)
        if not least <= images <= whole or min(have.values()) < 2:
            each = ", ".join(f"{name} {count}" for name, count in have.items())
            raise ShardError(
                f"simulate: images: expected {least} to {whole}, as {self.onto} has {whole} "
                f"galaxies ({each}) and each split needs one of each class; got {images}"
            )
        parts = {name: max(2, images * count // whole) for name, count in have.items()}
        while (left := images - sum(parts.values())) != 0:  # by what is furthest from its share
            step = int(math.copysign(1, left))
            free = [n for n in parts if 2 <= parts[n] + step <= have[n]]
            parts[max(free, key=lambda n: step * (images * have[n] / whole - parts[n]))] += step
        return {
            name: {CLASSES[0]: count - count // 2, CLASSES[1]: count // 2}
            for name, count in parts.items()
        }

    def described(self) -> dict[str, Any]:
        """All settings that an image depends on, as JSON."""
        # Of all galaxies: the catalogue decides which of them may be lenses.
        onto = self._all_galaxies.digest_with(self.bands)
        sources = {"sources": self._stamps.digest} if self._stamps else {}
        return {"laws": described(self.survey), "onto": onto} | sources

    def groups(self, split: str, indices: Sequence[int], *, seed: int) -> NDArray[np.int64] | None:
        """Number of the group of the galaxy of some images, (n,); None without groups."""
        if not self.group:
            return None
        of_galaxies = self.canvas.splits[split].catalogue[self.group]
        return group_numbers(of_galaxies[self._rows(split, indices, seed)])

    def make(self, split: str, indices: Sequence[int], *, seed: int) -> GeneratedBatch:
        """Paint the images of some indices, or leave them as they are."""
        number, galaxies = self.splits.index(split), self.canvas.splits[split]
        rows = self._rows(split, indices, seed)
        known = self._known[split]
        made = []
        for i, row, image in zip(indices, rows, galaxies.images(rows), strict=True):
            of_row = {name: float(values[row]) for name, values in known.items()}
            random = np.random.default_rng([seed, number, i])
            try:
                made.append(self._painter.make(image, of_row, is_lens=i % 2 == 1, random=random))
            except ShardError as error:
                raise ShardError(
                    f"simulate: onto: {self.onto}: {galaxies.ids[row]}: {error}; leave it out"
                ) from error
        truth = {name: np.stack([truth[name] for _, truth in made]) for name in made[0][1]}
        return GeneratedBatch(
            images=np.stack([image for image, _ in made]),
            scale=None,
            truth=truth | {"onto": rows.astype(np.float64), "index": np.asarray(indices, float)},
            ids=[galaxies.ids[row] for row in rows],
            catalogue={name: values[rows] for name, values in galaxies.catalogue.items()},
        )

    def _rows(self, split: str, indices: Sequence[int], seed: int) -> NDArray[np.int64]:
        """The galaxies of some images.

        Lenses come from one end of a shuffled list, and non-lenses from the other.
        """
        rows = self.canvas.splits[split].rows
        order = _shuffled(len(rows), (seed, self.splits.index(split), 0, 1))
        return rows[order[[i // 2 if i % 2 else -1 - i // 2 for i in indices]]]

    @cached_property
    def _stamps(self) -> Stamps | None:
        return read_stamps(self.sources, self.survey) if self.sources else None

    @cached_property
    def _painter(self) -> Painter:
        draw = self._stamps.draw if self._stamps else draw_source
        sample = self._sample
        return Painter(self.survey, draw, sample.is_scaled, sample.sd, self.dtype)

    @cached_property
    def _sample(self) -> _Sample:
        """The first galaxies, measured at the survey's usual seeing."""
        galaxies = next(iter(self.canvas.splits.values()))
        images = galaxies.images(galaxies.rows[:_SAMPLE]).astype(np.float64)
        skies = [sky_of(image) for image in images]
        sds = np.array([sky.sd for sky in skies])
        sd = np.array([np.median(of[of > 0]) if (of > 0).any() else 0.0 for of in sds.T])
        for band, value in zip(self.bands, sd, strict=True):
            if value == 0:
                raise ShardError(
                    f"simulate: onto: {self.onto}: band {band} has no noise along the borders of "
                    f"the first {len(images)} images, so that it is not known how faint an arc "
                    "may be"
                )
        fwhm = draw_conditions(self.survey, np.random.default_rng(0)).fwhm
        red = reddest(self.bands)
        peaks = [
            light_of_galaxy(image, sky, fwhm, self.survey).peak
            for image, sky in zip(images, skies, strict=True)
        ]
        empty = sum(peak < _SEEN * sd[red] for peak in peaks)
        return _Sample(all(map(is_scaled, images)), sd, empty, len(images))

    def _about_depth(self, sd: NDArray[np.float64]) -> str:
        """Doubt a sky that is far from that of the survey."""
        usual = draw_conditions(self.survey, np.random.default_rng(0)).sky_sd
        off = 2.5 * np.log10(sd / usual)
        worst = int(np.abs(off).argmax())
        if abs(off[worst]) < _DOUBTFUL:
            return ""
        return (
            f"onto: {self.onto}: band {self.bands[worst]}: the noise of its sky is that of images "
            f"{abs(off[worst]):.1f} magnitudes {'shallower' if off[worst] > 0 else 'deeper'} than "
            f"preset {self.preset}, if magnitude {self.survey.zero_point:g} is one count; was "
            "another zero_point (--set zero_point=...) or preset meant?"
        )

    @cached_property
    def _known(self) -> dict[str, Columns]:
        """What the catalogue says of the galaxies of each split, dispersions by magnitude too."""
        columns = {name: of.known(self.bands) for name, of in self.canvas.splits.items()}
        return {
            name: known | {"sigma_v": dispersion(known, self.survey)}
            for name, known in columns.items()
        }


@lru_cache(maxsize=8)
def _shuffled(count: int, key: tuple[int, ...]) -> NDArray[np.int64]:
    """An order of the galaxies of a split, kept for the next batch."""
    return np.random.default_rng(key).permutation(count)


def _word(value: Any) -> str:
    return f"[{','.join(value)}]" if isinstance(value, tuple) else f"{value:g}"
