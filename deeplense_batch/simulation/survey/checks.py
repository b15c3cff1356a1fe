"""Make sure that every image of a survey can be made, before anything is computed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from deeplense_batch.core.job import nearest
from deeplense_batch.data.shards import ShardError
from deeplense_batch.simulation.distributions import AnyDistribution, LogNormal, Normal
from deeplense_batch.simulation.survey.objects import draw_red_galaxy
from deeplense_batch.simulation.survey.psf import measured_psfs
from deeplense_batch.simulation.survey.settings import KINDS, Survey

__all__ = ["check_survey"]

_SIZES = (16, 1024)
_MOST_BANDS = 6
_MOST_SDS = 10.0  # that a normal number is ever off
_TINY = 1e-6
_LENGTHS = ("radius", "length", "width", "height", "sigma", "distance", "opening", "pitch")
_SHARES = ("share", "bulge", "contrast")


def check_survey(survey: Survey) -> None:
    """Make sure that every image of a survey can be made.

    Raises:
        ShardError: A band that the survey does not have, a frame that cannot hold the lenses, a
            point spread function that does not fit the pixels, or a number outside its range.
    """
    where = f"preset {survey.name}"
    _check_bands(survey, where)
    for name, value, least, most in _numbers(survey):
        if not least <= value <= most:
            raise ShardError(
                f"{where}: {name}: should be from {least:g} to {most:g}, got {value:g}"
            )
    for name, law, least, most in _laws(survey):
        low, high = _range(law)
        if not (low <= high and least <= low and high <= most):
            raise ShardError(
                f"{where}: {name}: {low:g} to {high:g}; should rise within {least:g} to {most:g}"
            )
    _check_frame(survey, where)
    _check_psf(survey, where)
    _check_fractions(survey, where)
    _check_photons(survey, where)


def _check_bands(survey: Survey, where: str) -> None:
    known = survey.camera.fwhm
    for band in survey.bands:
        if band not in known:
            raise ShardError(f"{where}: bands: got '{band}'; {nearest(band, known)}")
    if len(set(survey.bands)) < len(survey.bands) or len(survey.bands) > _MOST_BANDS:
        raise ShardError(
            f"{where}: bands: got {', '.join(survey.bands)}; expected one to {_MOST_BANDS}, "
            "each once"
        )
    seen = survey.visible.band
    if seen is not None and seen not in survey.bands:
        raise ShardError(f"{where}: visible.band: got '{seen}'; {nearest(seen, survey.bands)}")


def _numbers(survey: Survey) -> Iterator[tuple[str, float, float, float]]:
    """Fields that are single numbers, and the least and the greatest value they may have."""
    camera, tiny = survey.camera, _TINY
    yield "size", survey.size, *_SIZES
    yield "pixel_scale", survey.pixel_scale, 0.005, 2.0
    yield "zero_point", survey.zero_point, 0.0, 50.0
    yield "margin", survey.margin, 4, 200
    yield "supersampling", survey.supersampling, 1, 12
    yield "oversampling", survey.oversampling, 1, 8
    yield "camera.sigmas", camera.sigmas, tiny, 1000.0
    if camera.electrons is not None:
        yield "camera.electrons", camera.electrons, tiny, 1e15
    if camera.aperture is not None:
        yield "camera.aperture", camera.aperture, survey.pixel_scale, 20.0
    yield "visible.tries", survey.visible.tries, 1, 100_000
    yield "field.density", survey.field.density, 0.0, 2.0
    for name, value in survey.fractions.items():
        yield f"fractions.{name}", value, 0.0, 1.0


def _laws(survey: Survey) -> Iterator[tuple[str, AnyDistribution, float, float]]:
    """Distributions, and the least and the greatest value that they may give."""
    camera, galaxy = survey.camera, survey.galaxy
    for band in survey.bands:
        yield f"camera.fwhm.{band}", camera.fwhm[band], _TINY, math.inf
        yield f"camera.depth.{band}", camera.depth[band], 0.0, 50.0
    yield "camera.beta", camera.beta, 1.05, 100.0
    yield "camera.flattening", camera.flattening, 0.0, 0.9
    yield "camera.correlation", camera.correlation, 0.0, 0.5
    yield "camera.jitter", camera.jitter, -survey.size / 4, survey.size / 4
    yield "galaxy.z", galaxy.z, 0.01, 10.0
    yield "galaxy.behind", galaxy.behind, 0.01, 10.0
    yield "galaxy.sigma_v", galaxy.sigma_v, 10.0, 2000.0
    yield "lens.shear", survey.lens.shear, -1.0, 1.0
    for part in ("galaxy", "source", "spiral", "mimics", "field"):
        for field in dataclasses.fields(getattr(survey, part)):
            value = getattr(getattr(survey, part), field.name)
            if bounds := _bounds(field.name) if hasattr(value, "draw") else None:
                yield f"{part}.{field.name}", value, *bounds


def _bounds(name: str) -> tuple[float, float] | None:
    """What the shape of an object allows, by the name of its number."""
    if name == "n":
        return 0.37, 10.0
    if name == "q":
        return 0.05, 1.0
    if "cos" in name:
        return 0.01, 1.0
    if any(word in name for word in _LENGTHS):
        return _TINY, math.inf
    return (0.0, 1.0) if any(word in name for word in _SHARES) else None


def _range(law: AnyDistribution) -> tuple[float, float]:
    """Least and greatest value that a distribution ever gives."""
    if isinstance(law, Normal):
        return law.mean - _MOST_SDS * law.sd, law.mean + _MOST_SDS * law.sd
    if isinstance(law, LogNormal):
        spread = math.exp(_MOST_SDS * law.scatter)
        return law.median / spread, law.median * spread
    return law.range


def _check_frame(survey: Survey, where: str) -> None:
    low, high = survey.galaxy.theta_e
    if not 0 < low < high:
        raise ShardError(f"{where}: galaxy.theta_e: [{low:g}, {high:g}] should rise, above 0")
    if survey.half < high:
        raise ShardError(
            f"{where}: size: {survey.size} pixels of {survey.pixel_scale:g} arcsec do not hold an "
            f"Einstein ring of {high:g} arcsec (galaxy.theta_e); expected at least "
            f"{math.ceil(2 * high / survey.pixel_scale)} pixels"
        )
    draw_red_galaxy(survey, np.random.default_rng(0))


def _check_psf(survey: Survey, where: str) -> None:
    """Refuse a point spread function narrower than a pixel, or wider than the frame."""
    camera, side = survey.camera, survey.padded * survey.oversampling
    if camera.psf is not None:
        largest = max(kernel.shape[-1] for kernel in measured_psfs(camera.psf, len(survey.bands)))
        if largest > side:
            raise ShardError(
                f"{where}: camera.psf: {largest} pixels do not fit the {side} of an image and its "
                "margin"
            )
        return
    for band in survey.bands:
        low = camera.fwhm[band].range[0]
        if 0 < low < survey.fine_scale:
            raise ShardError(
                f"{where}: camera.fwhm.{band}: {low:g} arcsec is below a pixel of the blur, "
                f"{survey.fine_scale:g}; raise oversampling"
            )


def _check_fractions(survey: Survey, where: str) -> None:
    total = sum(survey.fractions.values())
    if abs(total - 1) > 1e-9:
        raise ShardError(
            f"{where}: fractions: {', '.join(KINDS[1:])} add up to {total:g}; expected 1"
        )


def _check_photons(survey: Survey, where: str) -> None:
    if (survey.camera.electrons is None) == (survey.camera.sky is None):
        raise ShardError(
            f"{where}: camera.electrons and camera.sky both say how many photons there are: "
            "one of them should be null"
        )
