"""Atmosphere and noise of a coadd: correlated from pixel to pixel, as deep as the survey says.

Coadds are resampled exposures, so that neighbours share noise: white noise is smoothed along both
axes by (a, 1, a), which correlates neighbours by r = 2 a / (1 + 2 a^2), and scaled back to its
standard deviation.

The depth is the magnitude of a point of 5 sigma in PSF flux, F = sum(P d) / sum(P^2) over the
pixels d, where P is the point spread function in pixels. That is how HSC's pipeline measures
stars, and its quoted depths are of stars. The noise of F is that of the sky, with correlation:

    sd(F) = sky_sd |K P| / sum(P^2)         K: the smoothing above

Where the survey quotes its depth for a circle instead, the noise is that of the sum over the
circle, and what a point of 5 sigma in PSF flux would be follows from it.

A filter that also heeds the correlation would gain 1 % at most, so F is as good as optimal.

References:
    Bosch et al. 2018, PASJ 70, S5 (PSF flux); Aihara et al. 2019, PASJ 71, 114 (depths).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeplense_batch.simulation.distributions import draw_one, rounded
from deeplense_batch.simulation.survey.psf import (
    binned,
    measured_psfs,
    pixels_of,
    point_spectrum,
    psf_spectrum,
    shape_of_kernel,
    spectrum_of_kernel,
)
from deeplense_batch.simulation.survey.settings import Survey

__all__ = [
    "GRAINS",
    "SIGMAS",
    "Conditions",
    "draw_conditions",
    "electrons_in_count",
    "noise",
    "sky_sd",
    "star",
]

GRAINS = 64  # into which the noise of the sky is divided where values are rounded
SIGMAS = 5.0  # of a point as bright as the depth


@dataclass(frozen=True)
class Conditions:
    """Atmosphere and sky of one image, (B,) float64 unless it says otherwise."""

    fwhm: NDArray[np.float64]
    shape: NDArray[np.float64]  # (B, 3): beta q phi of each band; beta is 0 for a measured kernel
    psf: Tensor  # its transform, as in `render`
    depth: NDArray[np.float64]  # magnitude of a point of 5 sigma in PSF flux
    correlation: float
    sky_sd: NDArray[np.float64]
    electrons: NDArray[np.float64]  # in a count
    kernel: int | None  # number of the measured kernels, in the order of their files


def draw_conditions(survey: Survey, random: np.random.Generator) -> Conditions:
    """Draw atmosphere and sky of one image."""
    settings, kernel = survey.camera, None
    if settings.psf is None:
        fwhm, shape, psf = _draw_moffats(survey, random)
    else:
        kernels = measured_psfs(settings.psf, len(survey.bands))
        kernel = int(random.integers(len(kernels)))
        fwhm, shape, psf = _measured(survey, kernels[kernel])
    depth = np.array([draw_one(settings.depth[band], random) for band in survey.bands])
    correlation = draw_one(settings.correlation, random)
    sky = rounded(sky_sd(depth, psf, correlation, survey))
    if (settings.sigmas, settings.aperture) != (SIGMAS, None):
        depth = survey.magnitudes(SIGMAS * sky * _noise_of_flux(psf, correlation, survey))
    electrons = electrons_in_count(survey, sky)
    return Conditions(fwhm, shape, psf, depth, correlation, sky, electrons, kernel)


def _draw_moffats(
    survey: Survey, random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], Tensor]:
    """FWHM, (B,), beta, q and phi, (B, 3), and transform of Moffats."""
    settings, bands = survey.camera, len(survey.bands)
    fwhm = np.array([draw_one(settings.fwhm[band], random) for band in survey.bands])
    beta = settings.beta.draw(random, bands)
    q = 1 - settings.flattening.draw(random, bands)
    phi = survey.angle.draw(random, bands)
    named = {"fwhm": fwhm, "beta": beta, "q": q, "phi": phi}
    moffats = {name: torch.from_numpy(values) for name, values in named.items()}
    psf = psf_spectrum(survey.padded * survey.oversampling, survey.fine_scale, **moffats)
    return fwhm, np.stack([beta, q, phi], 1), psf


def _measured(
    survey: Survey, kernel: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], Tensor]:
    """The same of measured kernels, (B, K, K), whose beta is 0."""
    fwhm, q, phi = shape_of_kernel(kernel, survey.fine_scale)
    psf = spectrum_of_kernel(kernel, survey.padded * survey.oversampling)
    return fwhm, np.stack([np.zeros(len(q)), q, phi], 1), psf


def star(psf: Tensor, survey: Survey, x: float = 0.0, y: float = 0.0) -> NDArray[np.float64]:
    """A point of flux one in pixels, (bands, P, P) float64.

    Arguments:
        psf: Transform of the point spread functions, (bands, F, F // 2 + 1) complex128.
        survey: Whose pixels they are.
        x, y: Where it lies, from the middle of the frame, arcsec.
    """
    point = point_spectrum(x, y, psf.shape[-2], survey.fine_scale)
    return binned(pixels_of(psf * point), survey.oversampling).numpy()


def sky_sd(
    depth: NDArray[np.float64], psf: Tensor, correlation: float, survey: Survey
) -> NDArray[np.float64]:
    """Noise of the sky in a pixel that is as deep as `depth` says.

    Arguments:
        depth: Magnitudes, (bands,), of which the counts are ``camera.sigmas`` times the noise of
            PSF flux, or of that within ``camera.aperture``.
        psf: As in `star`.
        correlation: Of the noise of neighbours, in [0, 0.5].
        survey: Whose depth it is.

    Returns:
        Standard deviations, (bands,), counts.
    """
    camera = survey.camera
    if camera.aperture is None:
        of_flux = _noise_of_flux(psf, correlation, survey)
    else:
        circle = _circle(camera.aperture / survey.pixel_scale)
        of_flux = np.sqrt((_correlated(circle[None], correlation) ** 2).sum((1, 2)))
    return survey.counts(depth) / (camera.sigmas * of_flux)


def _noise_of_flux(psf: Tensor, correlation: float, survey: Survey) -> NDArray[np.float64]:
    """Sd of the PSF flux of a star over that of the sky in a pixel, (bands,)."""
    point = star(psf, survey)
    smoothed = _correlated(np.pad(point, ((0, 0), (1, 1), (1, 1))), correlation)
    return np.sqrt((smoothed**2).sum((1, 2))) / (point**2).sum((1, 2))


def _circle(diameter: float) -> NDArray[np.float64]:
    """Share of each pixel that lies within a circle of that many pixels, and two rows of none."""
    fine, size = 10, math.ceil(diameter) + 4
    axis = (np.arange(size * fine) + 0.5) / fine - size / 2
    inside = np.hypot(axis[:, None], axis[None, :]) < diameter / 2
    return inside.reshape(size, fine, size, fine).mean((1, 3))


def electrons_in_count(survey: Survey, sky: NDArray[np.float64]) -> NDArray[np.float64]:
    """Electrons in a count: as said, or such that the noise of the sky is that of its photons."""
    camera = survey.camera
    if camera.electrons is not None:
        return np.full(len(sky), camera.electrons)
    assert camera.sky is not None
    brightness = np.array([camera.sky[band] for band in survey.bands])
    return survey.counts(brightness) * survey.pixel_scale**2 / sky**2


def noise(
    counts: NDArray[np.float64],
    sky: NDArray[np.float64],
    correlation: float,
    electrons: NDArray[np.float64] | float,
    random: np.random.Generator,
) -> NDArray[np.float64]:
    """Draw noise of the sky and of the photons of the objects.

    Arguments:
        counts: Of the objects, (bands, H, W).
        sky: Standard deviation of the sky in a pixel, (bands,), counts.
        correlation: As in `sky_sd`.
        electrons: In a count, of all bands or (bands,).
        random: Where it is drawn from.

    Returns:
        (bands, H, W), counts.
    """
    bands, height, width = counts.shape
    white = random.standard_normal((bands, height + 2, width + 2))
    photons = np.maximum(counts, 0) / np.reshape(electrons, (-1, 1, 1))
    return np.sqrt(sky[:, None, None] ** 2 + photons) * _correlated(white, correlation)


def _correlated(white: NDArray[np.float64], r: float) -> NDArray[np.float64]:
    """Smooth (B, H + 2, W + 2) to (B, H, W) of equal sd, where neighbours correlate by r."""
    a = r / (1 + math.sqrt(1 - 2 * r * r))
    rows = white[:, 1:-1] + a * (white[:, :-2] + white[:, 2:])
    both = rows[:, :, 1:-1] + a * (rows[:, :, :-2] + rows[:, :, 2:])
    return both / (1 + 2 * a * a)
