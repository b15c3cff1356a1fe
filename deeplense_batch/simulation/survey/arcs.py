"""A lensed source: the mass in front of it, its arc in pixels, and how well that is seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeplense_batch.data.shards import ShardError
from deeplense_batch.lensing.camera import fine_grid
from deeplense_batch.lensing.profiles import shear, sie
from deeplense_batch.simulation.distributions import draw_one
from deeplense_batch.simulation.survey.objects import (
    Light,
    Position,
    RedGalaxy,
    SourceGalaxy,
    draw_source,
)
from deeplense_batch.simulation.survey.psf import binned, pixels_of, point_spectrum, sky_spectrum
from deeplense_batch.simulation.survey.settings import Survey

__all__ = [
    "Arc",
    "DrawsSource",
    "FaintError",
    "Mass",
    "Visibility",
    "draw_arc",
    "draw_mass",
    "framed",
    "is_visible",
    "lensed",
    "render",
    "source_plane",
    "visibility",
]


DrawsSource = Callable[[Survey, float, np.random.Generator], SourceGalaxy]


class FaintError(ShardError):
    """No source was seen."""


class Mass(NamedTuple):
    """A lens: an isothermal ellipsoid in a tidal field."""

    theta_e: float  # arcsec
    q: float
    phi: float
    g1: float
    g2: float


class Visibility(NamedTuple):
    """How well a lensed source is seen in one band, as in `Visible`."""

    snr: float
    contrast: float
    share: float


class Arc(NamedTuple):
    """A lensed source that is seen."""

    pixels: Tensor  # its counts, (B, P, P)
    mass: Mass
    source: SourceGalaxy
    magnification: float
    seen: Visibility
    tries: int


def render(lights: Sequence[Light], psf: Tensor, survey: Survey) -> Tensor:
    """Blur lights and integrate them over pixels.

    Arguments:
        lights: All light in the frame.
        psf: Transform of the point spread functions, (B, F, F // 2 + 1) complex128, where F is
            the frame with the margin on both sides, in pixels of the blur.
        survey: Bands, pixels, margin and samples.

    Returns:
        Counts without noise, (B, P, P) float64, where P is the frame with its margin.
    """
    x, y = _grid(survey)
    sky = x.new_zeros(len(survey.bands), y.shape[-2], x.shape[-1])
    points = torch.zeros_like(psf)
    for light in lights:
        flux = torch.from_numpy(light.flux)[:, None, None]
        if light.shape is None:
            points += flux * point_spectrum(*light.centre, psf.shape[-2], survey.fine_scale)
            continue
        columns, rows = (
            _window(v.flatten(), at, light.reach)
            for v, at in zip((x, y), light.centre, strict=True)
        )
        shape = light.shape(x[..., columns], y[..., rows, :])
        sky[:, rows, columns] += flux * shape
    spectrum = sky_spectrum(sky, survey.supersampling, survey.fine_scale) + points
    return binned(pixels_of(spectrum * psf), survey.oversampling)


def draw_arc(
    survey: Survey,
    red: RedGalaxy,
    centre: Position,
    front: NDArray[np.float64],
    psf: Tensor,
    sky_sd: NDArray[np.float64],
    random: np.random.Generator,
    draw: DrawsSource = draw_source,
    brighter: float = 0.0,
) -> Arc:
    """Draw the mass of a lens and sources behind it, until one is visible.

    Arguments:
        survey: All settings.
        red: The lens.
        centre: Its position, arcsec.
        front: Counts of its light in the band of `Visible`, (size, size), 0 or more.
        psf: As in `render`.
        sky_sd: In each band, (B,), counts.
        random: The stream of this image.
        draw: Draws a source.
        brighter: Magnitudes by which sources are brighter than drawn.

    Raises:
        FaintError: No source was visible in `Visible.tries` draws: the sources are too faint.
    """
    visible, band = survey.visible, survey.seen_in
    mass = draw_mass(survey, red, random)
    rays = source_plane(survey, centre, mass)
    for tries in range(1, visible.tries + 1):
        source = draw(survey, red.theta_e, random)
        if brighter:
            source = replace(source, magnitudes=source.magnitudes - brighter)
        shape = source.brightness(*rays)
        magnification = _flux(shape, survey)
        if magnification <= visible.magnification:
            continue
        pixels = lensed(survey.counts(source.magnitudes), shape, psf, survey)
        seen = visibility(framed(pixels, survey)[band], front, float(sky_sd[band]), survey)
        if is_visible(seen, survey):
            return Arc(pixels, mass, source, magnification, seen, tries)
    raise FaintError(
        f"preset {survey.name}: none of {visible.tries} sources behind a lens of Einstein radius "
        f"{red.theta_e:.2f} arcsec was visible in {survey.bands[band]}: the settings give too few "
        "bright sources"
    )


def draw_mass(survey: Survey, red: RedGalaxy, random: np.random.Generator) -> Mass:
    """Draw the mass of a galaxy, like its light but for a scatter, and its shear."""
    settings = survey.lens
    q = float(np.clip(red.q + draw_one(settings.q, random), *settings.q_bounds))
    phi = red.phi + draw_one(settings.phi, random)
    g1, g2 = settings.shear.draw(random, 2).tolist()
    return Mass(red.theta_e, q, phi, g1, g2)


def source_plane(survey: Survey, centre: Position, mass: Mass) -> tuple[Tensor, Tensor]:
    """Where the rays of the fine grid left the source, counted from the lens.

    Returns:
        x, y: (1, H, H) float64 each, arcsec.
    """
    x, y = _grid(survey)
    x, y = x - centre[0], y - centre[1]
    q, phi = torch.tensor((mass.q, mass.phi), dtype=x.dtype).unbind()
    lens, tide = sie(x, y, mass.theta_e, q, phi), shear(x, y, mass.g1, mass.g2)
    return x - lens[0] - tide[0], y - lens[1] - tide[1]


def lensed(flux: NDArray[np.float64], shape: Tensor, psf: Tensor, survey: Survey) -> Tensor:
    """An arc in pixels.

    Arguments:
        flux: Of the source without a lens, (B,) counts.
        shape: Its brightness at the ends of the rays, (1 or B, H, H), of total one without a
            lens, per arcsec^2.
        psf: As in `render`.
        survey: Pixels and samples.

    Returns:
        Counts, (B, P, P) float64.
    """
    spectrum = sky_spectrum(shape, survey.supersampling, survey.fine_scale)
    counts = torch.from_numpy(flux)[:, None, None]
    return binned(pixels_of(spectrum * counts * psf), survey.oversampling)


def visibility(
    arc: NDArray[np.float64], galaxy: NDArray[np.float64], sky_sd: float, survey: Survey
) -> Visibility:
    """How well `arc` is seen against the sky and `galaxy`, (H, W) counts each."""
    bright = arc[arc > sky_sd]
    snr = float(bright.sum()) / (sky_sd * math.sqrt(len(bright))) if len(bright) else 0.0
    clear = arc > survey.visible.contrast * sky_sd
    share = float((arc[clear] / (arc[clear] + galaxy[clear])).max()) if clear.any() else 0.0
    return Visibility(snr, float(arc.max()) / sky_sd, share)


def is_visible(seen: Visibility, survey: Survey) -> bool:
    """Whether a lensed source would be taken for one."""
    least = survey.visible
    return seen.snr > least.snr and seen.contrast > least.contrast and seen.share > least.share


def framed(pixels: Tensor, survey: Survey) -> NDArray[np.float64]:
    """Without the margin, (..., size, size) float64."""
    kept = slice(survey.margin, -survey.margin)
    return pixels[..., kept, kept].numpy()


def _flux(shape: Tensor, survey: Survey) -> float:
    """Flux of a brightness on the fine grid, (1 or B, H, H), in the band of `Visible`."""
    return (
        float(shape[survey.seen_in if len(shape) > 1 else 0].sum())
        * (survey.fine_scale / survey.supersampling) ** 2
    )


def _grid(survey: Survey) -> tuple[Tensor, Tensor]:
    size = survey.padded * survey.oversampling
    return fine_grid(size, survey.fine_scale, survey.supersampling)


def _window(axis: Tensor, centre: float, reach: float) -> slice:
    """Samples of one axis within reach of a position; none if it is too far outside."""
    first, last = torch.searchsorted(
        axis, axis.new_tensor([centre - reach, centre + reach])
    ).tolist()
    return slice(first, last)
