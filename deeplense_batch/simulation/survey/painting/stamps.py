"""Real galaxies as sources: cutouts without their sky, read at the ends of the rays.

A cutout becomes a source so: the median of its border is taken off each band; what is connected to
the brightest pixel near its middle (within an eighth of its sides), above three sds of the sky
after a blur by one pixel, is kept with a soft edge, and what is below zero in it is set to zero.
One whose peak, blurred so, is below ten sds is no source; nor is one whose light reaches the
border, or has half of itself outside of three sixteenths of the side.

Its place, brightness and direction are drawn as those of a simulated source, and so is the radius
of half of its light, to which it is shrunk or stretched: neither the distance nor the pixel scale
of a cutout is needed. Its own blur shrinks with it. Where its bands are those of the survey, each
band has its own shape, and the colours are its own too, if all bands have one zero point, unless
they were scaled from 0 to 1 each; otherwise the sum of its bands is the shape in all of them, and
colours are drawn, which is said.

Brightness between pixels is bilinear: the flux of a source, times its magnification, is kept.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, label
from torch import Tensor

from deeplense_batch.data.encoding import Array
from deeplense_batch.data.formats.counted import counted
from deeplense_batch.data.formats.filters import band_as_written, same_bands
from deeplense_batch.data.formats.images import ImageError
from deeplense_batch.data.formats.reading import flags_in
from deeplense_batch.data.shards import NAME, ShardError, Split, read_splits
from deeplense_batch.data.sources.sources import Source, open_source
from deeplense_batch.simulation.survey.objects import SourceGalaxy, draw_source
from deeplense_batch.simulation.survey.painting.measured_light import sky_of
from deeplense_batch.simulation.survey.settings import Survey

__all__ = ["Stamp", "StampSource", "Stamps", "cleaned", "is_scaled", "read_stamps"]

_MOST = 4096  # cutouts that are held in memory
_CUT = 3.0  # sds of the sky
_PEAK = 10.0
_BLUR = 1.0  # pixels
_WIDEST = 3 / 16  # radius of half of the light over the side


@dataclass(frozen=True)
class Stamp:
    """One galaxy on its own pixels."""

    light: NDArray[np.float64]  # (B, h, w), each band of total one
    flux: NDArray[np.float64]  # of each band before that, (B,)
    centre: tuple[float, float]  # of its light, pixels from the middle of `light`
    radius: float  # of half of its light, pixels


@dataclass(frozen=True)
class StampSource(SourceGalaxy):
    """A real galaxy that is lensed; `n` is 0, and `phi` the angle by which it is turned."""

    _: KW_ONLY

    light: Tensor  # (1 or B, h, w) float64
    middle: tuple[float, float]  # of its light, pixels from the middle of `light`
    pixel: float  # arcsec

    def brightness(self, x: Tensor, y: Tensor) -> Tensor:
        """Shape of total one at a position of the source plane, (1 or B, H, W), per arcsec^2."""
        dx, dy = x - self.centre[0], y - self.centre[1]
        cos, sin = math.cos(self.phi) / self.pixel, math.sin(self.phi) / self.pixel
        column, row = cos * dx + sin * dy + self.middle[0], cos * dy - sin * dx + self.middle[1]
        height, width = self.light.shape[-2:]
        grid = torch.stack([column * (2 / width), row * (2 / height)], -1)
        read = F.grid_sample(self.light[None], grid.reshape(1, *grid.shape[-3:]),
                             padding_mode="zeros", align_corners=False)  # fmt: skip
        return read[0] / self.pixel**2


@dataclass(frozen=True)
class Stamps:
    """The galaxies of some cutouts, cleaned, for the bands of a survey."""

    root: str
    stamps: tuple[Stamp, ...]
    colours: NDArray[np.float64] | None  # magnitudes over that of the first band, (N, B)
    digest: str  # of all cutouts
    left_out: int  # cutouts that are no sources
    about_colours: str  # why those of the cutouts are lost; empty where they are not

    @property
    def cautions(self) -> list[str]:
        """How many cutouts are no sources, and why colours are drawn, in sentences."""
        found = []
        if self.left_out:
            found.append(
                f"{self.left_out} of {self.left_out + len(self.stamps)} images are no sources: no "
                "bright galaxy in their middle, or one that is cut off"
            )
        if self.about_colours:
            found.append(f"{self.about_colours}: colours are drawn")
        return [f"sources: {self.root}: {said}" for said in found]

    def draw(self, survey: Survey, theta_e: float, random: np.random.Generator) -> StampSource:
        """Draw a galaxy behind a lens, as `objects.draw_source` does."""
        number = int(random.integers(len(self.stamps)))
        drawn, stamp = draw_source(survey, theta_e, random), self.stamps[number]
        magnitudes = drawn.magnitudes
        if self.colours is not None:
            colours = self.colours[number]
            magnitudes = colours - colours[survey.seen_in] + magnitudes[survey.seen_in]
        return StampSource(
            centre=drawn.centre,
            radius=drawn.radius,
            n=0.0,
            q=1.0,
            phi=drawn.phi,
            magnitudes=magnitudes,
            clumps=np.zeros_like(drawn.clumps),
            light=torch.from_numpy(stamp.light),
            middle=stamp.centre,
            pixel=drawn.radius / stamp.radius,
            stamp=number + 1,
        )


def read_stamps(root: str, survey: Survey) -> Stamps:
    """Read and clean the galaxies of cutouts, for the bands of a survey.

    Arguments:
        root: Folder of shards; or images in any layout that `pack` reads without flags: a folder,
            an archive or a table.
        survey: Whose bands are wanted.

    Raises:
        ShardError: There are no such images, too many, or none of them is a source; or `pack`
            needs flags to read them.
    """
    stamps: list[Stamp] = []
    digest, count, is_flux, first = hashlib.sha256(), 0, False, None
    for name, image, bands in _cutouts(Path(root).expanduser()):
        count += 1
        first = first or (bands, len(image))
        _check_cutout(root, name, (bands, len(image)), first, count)
        digest.update(f"{image.dtype} {image.shape}".encode() + image.tobytes())
        is_flux = is_flux or not is_scaled(image)
        stamp = cleaned(_chosen(image, bands, survey.bands))
        stamps += [stamp] if stamp else []
    if not stamps or first is None:
        raise ShardError(
            f"simulate: sources: {root}: none of {counted(count, 'image')} shows a galaxy in its "
            f"middle that is {_PEAK:g} sds above the sky and ends before the border"
        )
    has_colours = is_flux and not _lacks(first[0], survey.bands)
    colours = -2.5 * np.log10([s.flux / s.flux[0] for s in stamps]) if has_colours else None
    lost = "" if has_colours else _about_colours(first, survey.bands)
    return Stamps(root, tuple(stamps), colours, digest.hexdigest()[:16], count - len(stamps), lost)


_Form = tuple[tuple[str, ...], int]  # bands, where known, and number of channels


def _about_colours(form: _Form, wanted: Sequence[str]) -> str:
    """Why cutouts that have colours lose them; nothing of images of one channel."""
    bands, channels = form
    if channels == 1:
        return ""
    if not bands:
        return "cutouts do not name their bands"
    if lacks := _lacks(bands, wanted):
        return f"cutouts have the bands {', '.join(bands)}, but no {', '.join(lacks)}"
    return "each band of the cutouts is scaled from 0 to 1"


def _check_cutout(root: str, name: str, form: _Form, first: _Form, count: int) -> None:
    """Refuse a cutout of other bands than the first, and too many of them."""
    if form[1] != first[1] or not same_bands(form[0], first[0]):
        of, others = (
            "+".join(bands) or counted(channels, "channel") for bands, channels in (form, first)
        )
        raise ShardError(
            f"simulate: sources: {root}: {name}: {of}, where the first image has {others}; "
            "expected the same in all"
        )
    if count > _MOST:
        raise ShardError(
            f"simulate: sources: {root}: more than {_MOST} images, which are held in memory; "
            "name a folder of fewer"
        )


def cleaned(image: NDArray[np.float64]) -> Stamp | None:
    """The galaxy in the middle of a cutout, (B, H, W), without its sky; None where none is."""
    sky = sky_of(image)
    light = image - sky.level[:, None, None]
    noise = np.where(sky.sd > 0, sky.sd, np.abs(light).max((1, 2)) / 1000)  # made without noise
    detection = gaussian_filter((light / np.maximum(noise, 1e-300)[:, None, None]).sum(0), _BLUR)
    of_sky = sky_of(detection[None])
    detection -= of_sky.level[0]
    sd = float(of_sky.sd[0]) or 1.0
    height, width = detection.shape
    rows, columns = (slice(3 * side // 8, 5 * side // 8 + 1) for side in detection.shape)
    at = np.unravel_index(int(detection[rows, columns].argmax()), detection[rows, columns].shape)
    row, column = int(at[0]) + rows.start, int(at[1]) + columns.start
    pieces, _ = label(detection > _CUT * sd)
    if detection[row, column] < _PEAK * sd:
        return None
    is_own = pieces == pieces[row, column]
    if is_own[[0, -1]].any() or is_own[:, [0, -1]].any():
        return None
    kept = np.maximum(light * gaussian_filter(is_own.astype(np.float64), _BLUR), 0)
    flux = kept.sum((1, 2))
    stamp = _stamp(_window(kept, is_own), flux) if (flux > 0).all() else None
    return stamp if stamp and stamp.radius < _WIDEST * min(height, width) else None


def is_scaled(image: Array) -> bool:
    """Whether each band of an image, (B, H, W), was scaled from 0 to 1, so that flux is lost."""
    return bool((image.min((1, 2)) == 0).all() and (image.max((1, 2)) == 1).all())


def _stamp(kept: NDArray[np.float64], flux: NDArray[np.float64]) -> Stamp:
    """Centre and radius of half of the light of all bands together, each counted alike."""
    light = kept / flux[:, None, None]
    mean = light.mean(0)
    height, width = mean.shape
    x, y = np.arange(width) - (width - 1) / 2, np.arange(height)[:, None] - (height - 1) / 2
    centre = float((mean * x).sum()), float((mean * y).sum())
    distance = np.hypot(x - centre[0], y - centre[1]).ravel()
    order = np.argsort(distance, kind="stable")
    half = int(np.searchsorted(np.cumsum(mean.ravel()[order]), 0.5))
    return Stamp(light, flux, centre, max(float(distance[order[half]]), 0.5))


def _window(kept: NDArray[np.float64], is_own: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The pixels around a galaxy, with a few of none around it, to which it falls off."""
    margin = 5
    rows, columns = np.flatnonzero(is_own.any(1)), np.flatnonzero(is_own.any(0))
    padded = np.pad(kept, ((0, 0), (margin, margin), (margin, margin)))
    return padded[
        :, rows[0] : rows[-1] + 1 + 2 * margin, columns[0] : columns[-1] + 1 + 2 * margin
    ]


def _chosen(image: Array, names: Sequence[str], bands: Sequence[str]) -> NDArray[np.float64]:
    """The channels of some bands, in their order; the sum of all where they are others."""
    whole = image.astype(np.float64)
    if _lacks(names, bands):
        return whole.sum(0, keepdims=True)
    return whole[[names.index(band_as_written(band, names) or "") for band in bands]]


def _lacks(names: Sequence[str], bands: Sequence[str]) -> list[str]:
    """The bands that are of none of some channels: HSC-G is g."""
    return [band for band in bands if not band_as_written(band, names)]


def _cutouts(root: Path) -> Iterator[tuple[str, Array, tuple[str, ...]]]:
    """Name, image, (C, H, W), and bands of all images of shards or of files, in a fixed order."""
    if root.is_dir() and any(NAME.match(path.name) for path in root.iterdir()):
        for info in read_splits(root).values():
            images = Split(info, 0, min(len(info), _MOST + 1))
            for name, image in zip(images.ids(), images.images(), strict=True):
                yield name, image, info.bands
        return
    with _opened(root) as source:
        for samples in source.splits.values():
            for sample in samples:
                try:
                    read = source.read(sample)
                except ImageError as error:
                    raise ShardError(f"simulate: sources: {root}: {sample.id}: {error}") from error
                yield sample.id, read.pixels, read.bands or source.bands


@contextmanager
def _opened(root: Path) -> Iterator[Source]:
    """Open images that `pack` reads without flags."""
    with ExitStack() as stack:
        try:
            source = stack.enter_context(open_source(root))
        except ShardError as error:
            if not (flags := flags_in(str(error))):
                raise
            raise ShardError(
                f"simulate: sources: {error}; pack it first, simulate has no flag --{flags[0]} "
                f"(pack {root} sources --{flags[0]} ...), and give --sources sources"
            ) from error
        if source.faults:
            first = source.faults[0]
            raise ShardError(
                f"simulate: sources: {root}: {len(source.faults)} of its objects cannot be read, "
                f"such as {first.id} ({first.reason}); pack it first without them "
                f"(pack {root} sources --skip_bad) and give --sources sources"
            )
        yield source
