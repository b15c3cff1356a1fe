"""What a cutout shows of the galaxy in its middle: sky, place, shape and brightness.

Centre and shape are those of the light under a round Gaussian weight twice as wide as the point
spread function, so that neighbours hardly count. For light that is a Gaussian of covariance C, and
a weight of covariance W, the moments M under the weight obey 1/M = 1/C + 1/W, and the centre is
C/M times as far away as it seems; what is not Gaussian is taken to be one there. The covariance of
the point spread function is taken off C.

Positions are in pixels from the middle of the frame, x along columns and y along rows; directions
in rad from x towards y. B is the number of bands.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

__all__ = ["CentralLight", "Sky", "central_light", "flux_within", "sky_of"]

_BORDER = 16  # the border is a part of this of the frame wide
_MAD = 1.482602218505602  # sd of a Gaussian over its median absolute deviation
_ROUNDS = 8
_WEIGHT = 2.0  # sd of the weight over that of the point spread function
_LEAST = 0.05  # of the variance of the point spread function, below which no shape is left

Image = NDArray[np.float64]


class Sky(NamedTuple):
    """The sky around a galaxy, (B,) float64 each, in the unit of the image."""

    level: NDArray[np.float64]
    sd: NDArray[np.float64]  # 0 where the border is constant


class CentralLight(NamedTuple):
    """The galaxy in the middle of one band."""

    centre: tuple[float, float]  # x y
    sigma: float  # geometric mean of the sds along both axes, with the blur, pixels
    q: float  # axis ratio without the blur, in (0, 1]
    phi: float  # of the major axis, in [0, pi)
    peak: float  # of the light, blurred by a Gaussian like the point spread function


def sky_of(image: Image) -> Sky:
    """Median and scatter (by the median absolute deviation) of the pixels along the border.

    Arguments:
        image: (B, H, W) float64.
    """
    height, width = image.shape[1:]
    wide = max(2, min(height, width) // _BORDER)
    is_border = np.ones((height, width), bool)
    is_border[wide:-wide, wide:-wide] = False
    border = image[:, is_border]
    level = np.median(border, 1)
    return Sky(level, _MAD * np.median(np.abs(border - level[:, None]), 1))


def central_light(band: NDArray[np.float64], psf_sigma: float, search: float) -> CentralLight:
    """Find the brightest light near the middle, and measure it.

    Arguments:
        band: (H, W) float64, without the level of the sky.
        psf_sigma: Sd of a Gaussian as wide as the point spread function, pixels.
        search: How far from the middle it may be, pixels.
    """
    x, y = _axes(band.shape)
    smooth = gaussian_filter(band, psf_sigma, mode="nearest")
    near = np.where(np.hypot(x, y) <= search, smooth, -np.inf)
    row, column = np.unravel_index(int(near.argmax()), near.shape)
    start = float(x[0, column]), float(y[row, 0])
    centre, covariance = _weighted(band, start, psf_sigma)
    area = math.sqrt(max(float(np.linalg.det(covariance)), 0.0))
    q, phi = _shape(covariance - psf_sigma**2 * np.eye(2), _LEAST * psf_sigma**2)
    return CentralLight(centre, math.sqrt(area), q, phi, float(near[row, column]))


def flux_within(image: Image, centre: tuple[float, float], radius: float) -> NDArray[np.float64]:
    """Sum of the pixels of each band whose middle is in a circle, (B,).

    Arguments:
        image: (B, H, W), without the level of the sky.
        centre: x y, pixels.
        radius: Pixels.
    """
    x, y = _axes(image.shape[1:])
    return image[:, np.hypot(x - centre[0], y - centre[1]) <= radius].sum(1)


def _weighted(
    band: NDArray[np.float64], start: tuple[float, float], psf_sigma: float
) -> tuple[tuple[float, float], NDArray[np.float64]]:
    """Centre and covariance of the light around a place."""
    x, y = _axes(band.shape)
    sigma, least, most = _WEIGHT * psf_sigma, psf_sigma**2, (min(band.shape) / 4) ** 2
    centre, covariance = np.array(start), least * np.eye(2)
    for _ in range(_ROUNDS):
        offset = np.stack(np.broadcast_arrays(x - centre[0], y - centre[1]))
        weight = band * np.exp((offset**2).sum(0) / (-2 * sigma**2))
        total = weight.sum()
        if total <= 0:
            break  # no light here: what was found last stays
        shift = (weight * offset).sum((1, 2)) / total
        apart = offset - shift[:, None, None]
        moments = np.einsum("yx,iyx,jyx->ij", weight, apart, apart) / total
        covariance = _without_weight(moments, sigma**2, least, most)
        step = covariance @ np.linalg.pinv(moments) @ shift
        centre = centre + step * min(1.0, psf_sigma / max(float(np.hypot(*step)), 1e-9))
    return (float(centre[0]), float(centre[1])), covariance


def _without_weight(
    moments: NDArray[np.float64], weight: float, least: float, most: float
) -> NDArray[np.float64]:
    """Covariance of the light from that under a weight; variances are between two bounds."""
    values, vectors = np.linalg.eigh(moments)
    inverse = 1 / np.maximum(values, 1e-9) - 1 / weight
    return (vectors / np.clip(inverse, 1 / most, 1 / least)) @ vectors.T


def _shape(covariance: NDArray[np.float64], least: float) -> tuple[float, float]:
    """Axis ratio and direction of a covariance whose variances are at least so large."""
    (xx, xy), (_, yy) = covariance.tolist()
    mean, spread = (xx + yy) / 2, math.hypot((xx - yy) / 2, xy)
    minor, major = max(mean - spread, least), max(mean + spread, least)
    return math.sqrt(minor / major), (math.atan2(2 * xy, xx - yy) / 2) % math.pi


def _axes(shape: tuple[int, ...]) -> tuple[Image, Image]:
    """x, (1, W), and y, (H, 1), of the pixels."""
    rows, columns = (np.arange(side, dtype=np.float64) - (side - 1) / 2 for side in shape)
    return columns[None, :], rows[:, None]
