"""What a telescope makes of a sky: pixels, blur, counts and noise.

A frame of N pixels of width p is centred on the origin: pixel i covers (i - N/2) p to
(i + 1 - N/2) p; rows are y, columns are x, and no axis is flipped. The sky is sampled on a grid
`supersampling` times finer. A Gaussian point spread function of width sigma and the integration
over pixels are separable, so both are one matrix A of (N, N supersampling),

    image = A sky A^T    A_ij ~ Phi((t_i + p/2 - s_j) / sigma) - Phi((t_i - p/2 - s_j) / sigma)

for a pixel centred on t_i and a sample at s_j. The rows of A sum to one: a constant sky keeps its
brightness, at the edges too.

Some generators average the samples of a pixel and then convolve with the Gaussian as it is at the
middles of pixels, cut off to a small square; `kernel_matrix` is the A of those.

Noise comes from the random generator of each image, so that an image does not depend on what else
is simulated.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = [
    "blurred",
    "camera_matrix",
    "fine_grid",
    "kernel_matrix",
    "photon_counts",
    "readout_counts",
]

_NO_WEIGHT = 1e-17  # of a pixel's brightness: below the resolution of float64
_BAND = 30  # rows of a camera's matrix that are multiplied at once


def fine_grid(size: int, pixel_scale: float, supersampling: int) -> tuple[Tensor, Tensor]:
    """Positions at which the sky is sampled.

    Returns:
        x: Columns, (1, 1, W) float64, arcsec, with W = size supersampling.
        y: Rows, (1, H, 1) float64, arcsec.
    """
    samples = _centred(size * supersampling, pixel_scale / supersampling)
    return samples.view(1, 1, -1), samples.view(1, -1, 1)


@lru_cache(maxsize=8)
def camera_matrix(size: int, pixel_scale: float, supersampling: int, psf_sigma: float) -> Tensor:
    """Blur by a Gaussian and integrate over pixels, along one axis.

    Arguments:
        size: Pixels along a side.
        pixel_scale: Their width, arcsec.
        supersampling: Samples of the sky along a side of a pixel.
        psf_sigma: Width of the Gaussian, above 0, arcsec.

    Returns:
        A, (size, size supersampling) float64, kept: not to be changed; an image is A @ sky @ A.T.
    """
    pixels = _centred(size, pixel_scale)[:, None]
    samples = _centred(size * supersampling, pixel_scale / supersampling)[None, :]
    upper = torch.special.ndtr((pixels + pixel_scale / 2 - samples) / psf_sigma)
    lower = torch.special.ndtr((pixels - pixel_scale / 2 - samples) / psf_sigma)
    weights = upper - lower
    weights[weights < _NO_WEIGHT] = 0
    return weights / weights.sum(1, keepdim=True)


@lru_cache(maxsize=8)
def kernel_matrix(
    size: int, pixel_scale: float, supersampling: int, psf_sigma: float, kernel_size: int
) -> Tensor:
    """Average over pixels and convolve with a sampled, truncated Gaussian, along one axis.

    Arguments:
        size: Pixels along a side.
        pixel_scale: Their width, arcsec.
        supersampling: Samples of the sky along a side of a pixel.
        psf_sigma: Width of the Gaussian, above 0, arcsec.
        kernel_size: Pixels along a side of the kernel, odd.

    Returns:
        A, (size, size supersampling) float64, kept: not to be changed; an image is A @ sky @ A.T.
    """
    pixels = torch.arange(size)
    steps = (pixels[:, None] - pixels).abs()
    weights = torch.exp(-0.5 * (steps.double() * (pixel_scale / psf_sigma)) ** 2)
    weights *= steps <= kernel_size // 2
    weights = weights / weights.sum(1, keepdim=True)
    return weights.repeat_interleave(supersampling, 1) / supersampling


def blurred(sky: Tensor, matrix: Tensor) -> Tensor:
    """The image A sky A^T, by those parts of A that are not zero.

    Arguments:
        sky: Brightness, (B, W, W) float.
        matrix: A, (N, W) float64 on the CPU, near whose diagonal all weights are; kept, as that
            of `camera_matrix` is.

    Returns:
        (B, N, N) float.
    """
    bands = _bands(matrix, sky.device, sky.dtype)
    half = torch.cat([rows @ sky[:, columns] for rows, columns in bands], 1)
    return torch.cat([half[..., columns] @ rows.T for rows, columns in bands], 2)


@lru_cache(maxsize=8)  # a tensor is found again by what it is, not by its values
def _bands(matrix: Tensor, device: torch.device, dtype: torch.dtype) -> list[tuple[Tensor, slice]]:
    """Some rows of a matrix at a time, and the columns in which they have weights."""
    bands = []
    for rows in matrix.split(_BAND):
        used = torch.nonzero(rows.sum(0))[:, 0].tolist()
        columns = slice(used[0], used[-1] + 1)
        bands.append((rows[:, columns].to(device, dtype), columns))
    return bands


def photon_counts(
    expected: NDArray[np.float64], sky: float, random: np.random.Generator
) -> NDArray[np.int64]:
    """Count photons of the signal and of a uniform sky together.

    Arguments:
        expected: Mean counts of the signal, (H, W) float.
        sky: Mean counts of the sky in a pixel.

    Returns:
        Poisson counts of their sum, (H, W) int64.
    """
    return random.poisson(expected + sky)


def readout_counts(
    rate: NDArray[np.float64],
    *,
    exposure: float,
    sky_sd: float,
    counts_per_sky_sd: float,
    random: np.random.Generator,
) -> NDArray[np.int64]:
    """Read out a background-subtracted frame in whole counts.

    The photons of the source are counted over the exposure, variance rate / exposure; the sky
    adds Gaussian noise of mean zero, which is never clipped. Rounding to counts adds a variance
    of 1 / (12 counts_per_sky_sd^2) of the sky's: 2e-5 at 64 counts.

    Arguments:
        rate: Brightness of the source, (H, W) float, photons per unit of time.
        exposure: Length of the exposure, units of time.
        sky_sd: Standard deviation of the sky in one pixel, in the unit of `rate`.
        counts_per_sky_sd: Counts into which one `sky_sd` is divided.

    Returns:
        Counts, (H, W) int64, below zero in half of an empty sky.
    """
    frame = random.poisson(rate * exposure) / exposure
    frame += random.normal(0.0, sky_sd, rate.shape)
    return np.rint(frame * (counts_per_sky_sd / sky_sd)).astype(np.int64)


def _centred(count: int, step: float) -> Tensor:
    return (torch.arange(count, dtype=torch.float64) - (count - 1) / 2) * step
