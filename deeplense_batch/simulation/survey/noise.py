"""Noise of a coadd: correlated from pixel to pixel, and as deep as the survey says.

Coadds are resampled exposures, so that neighbours share noise: white noise is smoothed along both
axes by (a, 1, a), which correlates neighbours by r = 2 a / (1 + 2 a^2), and scaled back to its
standard deviation.

The depth is the magnitude of a point of 5 sigma in PSF flux, F = sum(P d) / sum(P^2) over the
pixels d, where P is the point spread function in pixels. That is how HSC's pipeline measures
stars, and its quoted depths are of stars. The noise of F is that of the sky, with correlation:

    sd(F) = sky_sd |K P| / sum(P^2)         K: the smoothing above

A filter that also heeds the correlation would gain 1 % at most, so F is as good as optimal.

References:
    Bosch et al. 2018, PASJ 70, S5 (PSF flux); Aihara et al. 2019, PASJ 71, 114 (depths).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from deeplense_batch.simulation.survey.objects import counts_of
from deeplense_batch.simulation.survey.psf import pixels_of, point_spectrum
from deeplense_batch.simulation.survey.settings import PIXEL_SCALE

__all__ = ["SIGMAS", "noise", "sky_sd", "star"]

SIGMAS = 5.0  # of a point as bright as the depth


def star(psf: Tensor, x: float = 0.0, y: float = 0.0) -> NDArray[np.float64]:
    """A point of flux one in pixels, (bands, P, P) float64.

    Arguments:
        psf: Transform of the point spread functions, (bands, P, P // 2 + 1) complex128.
        x, y: Where it lies, from the middle of the frame, arcsec.
    """
    return pixels_of(psf * point_spectrum(x, y, psf.shape[-2], PIXEL_SCALE)).numpy()


def sky_sd(depth: NDArray[np.float64], psf: Tensor, correlation: float) -> NDArray[np.float64]:
    """Noise of the sky in a pixel that makes a point of that depth one of 5 sigma.

    Arguments:
        depth: Magnitudes, (bands,).
        psf: As in `star`.
        correlation: Of the noise of neighbours, in [0, 0.5].

    Returns:
        Standard deviations, (bands,), counts.
    """
    point = star(psf)
    smoothed = _correlated(np.pad(point, ((0, 0), (1, 1), (1, 1))), correlation)
    of_flux = np.sqrt((smoothed**2).sum((1, 2))) / (point**2).sum((1, 2))
    return counts_of(depth) / (SIGMAS * of_flux)


def noise(
    counts: NDArray[np.float64],
    sky: NDArray[np.float64],
    correlation: float,
    electrons: float,
    random: np.random.Generator,
) -> NDArray[np.float64]:
    """Draw noise of the sky and of the photons of the objects.

    Arguments:
        counts: Of the objects, (bands, H, W).
        sky: Standard deviation of the sky in a pixel, (bands,), counts.
        correlation: As in `sky_sd`.
        electrons: In a count.
        random: Where it is drawn from.

    Returns:
        (bands, H, W), counts.
    """
    bands, height, width = counts.shape
    white = random.standard_normal((bands, height + 2, width + 2))
    photons = np.maximum(counts, 0) / electrons
    return np.sqrt(sky[:, None, None] ** 2 + photons) * _correlated(white, correlation)


def _correlated(white: NDArray[np.float64], r: float) -> NDArray[np.float64]:
    """Smooth (B, H + 2, W + 2) to (B, H, W) of equal sd, where neighbours correlate by r."""
    a = r / (1 + math.sqrt(1 - 2 * r * r))
    rows = white[:, 1:-1] + a * (white[:, :-2] + white[:, 2:])
    both = rows[:, :, 1:-1] + a * (rows[:, :, :-2] + rows[:, :, 2:])
    return both / (1 + 2 * a * a)
