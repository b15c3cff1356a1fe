"""What a cutout shows of the galaxy in its middle: sky, place, shape and brightness.

The shape is that of adaptive moments: the second moments of the light under an elliptical Gaussian
that has, in the end, those moments itself. Light far out, where neighbours are, hardly counts.

Positions are in pixels from the middle of the frame, x along columns and y along rows; directions
in rad from x towards y. B is the number of bands.

References:
    Bernstein and Jarvis 2002, AJ 123, 583; Hirata and Seljak 2003, MNRAS 343, 459 (moments).
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
_ROUNDS = 60
_REACH = 4.0  # sds of the weight
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
    centre, covariance = _adaptive(band, start, psf_sigma, search)
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


def _adaptive(
    band: NDArray[np.float64], start: tuple[float, float], sigma: float, search: float
) -> tuple[tuple[float, float], NDArray[np.float64]]:
    """Centre and covariance of the Gaussian that has the moments of the light under it."""
    x, y = _axes(band.shape)
    centre, covariance = np.array(start), sigma**2 * np.eye(2)
    most = (min(band.shape) / 6) ** 2
    for _ in range(_ROUNDS):
        offset = np.stack(np.broadcast_arrays(x - centre[0], y - centre[1]))
        squared = np.einsum("iyx,ij,jyx->yx", offset, np.linalg.inv(covariance), offset)
        weight = np.where(squared < _REACH**2, np.exp(-squared / 2), 0.0) * band
        total = weight.sum()
        if total <= 0:
            break  # no light here: what was found last stays
        shift = (weight * offset).sum((1, 2)) / total
        offset = offset - shift[:, None, None]
        # A Gaussian under its own weight has half of its variance, and half of its offset.
        found = 2 * np.einsum("yx,iyx,jyx->ij", weight, offset, offset) / total
        limited = _limited(found, sigma**2, most)
        moved = centre + 2 * shift
        if np.hypot(*(moved - start)) > max(search, 2 * sigma):
            break
        done = np.abs(limited - covariance).max() < 1e-4 * limited[0, 0]
        centre, covariance = moved, limited
        if done:
            break
    return (float(centre[0]), float(centre[1])), covariance


def _limited(covariance: NDArray[np.float64], least: float, most: float) -> NDArray[np.float64]:
    """The covariance with variances along its axes between two bounds."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.clip(values, least, most)) @ vectors.T


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
