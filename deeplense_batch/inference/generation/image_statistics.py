"""What a set of lens images is like, in numbers that need no network.

All of them are made of images (N, C, H, W), channels averaged, and held against those of another
set by a distance in a unit that means something.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter
from scipy.stats import wasserstein_distance

from deeplense_batch.core.scoring.images.rings import einstein_radii

__all__ = [
    "Statistics",
    "distances",
    "measure",
    "peak_counts",
    "power_spectrum",
    "sky_of",
]

Floats = NDArray[np.float64]

_MOST_PIXELS = 10_000_000  # of a histogram; more of one set are more of the same
_BORDER = 0.1  # of the size, on each side, where there is sky alone
_ABOVE = 5.0  # sd of the sky: the least height of a peak that is counted


@dataclass(frozen=True)
class Statistics:
    """Of one set of N images."""

    wavenumbers: Floats  # (K,) cycles a pixel
    power: Floats  # (K,) mean power at each
    pixels: NDArray[np.float32]  # (P,) values of the pixels of the first images
    einstein_radii: Floats  # (N,) pixels; NaN where there is no ring
    fluxes: Floats  # (N,) sums of the pixels
    peaks: NDArray[np.int64]  # (N,) peaks of each image


def measure(images: NDArray[np.float32], sky: tuple[float, float]) -> Statistics:
    """Measure a set.

    Arguments:
        images: (N, C, H, W).
        sky: Level and noise above which peaks are counted (`sky_of`): one for all sets.
    """
    flat = np.asarray(images, np.float32).mean(1)
    first = max(_MOST_PIXELS // flat[0].size, 1)
    return Statistics(
        *power_spectrum(flat),
        pixels=flat[:first].ravel(),
        einstein_radii=einstein_radii(flat),
        fluxes=flat.sum((1, 2), dtype=np.float64),
        peaks=peak_counts(flat, sky),
    )


def distances(of: Statistics, others: Statistics, pixel_scale: float) -> dict[str, float | None]:
    """How far one set is from another.

    Arguments:
        of: The set that is judged.
        others: The set that it is held against, which gives the units.
        pixel_scale: Width of a pixel, arcsec; NaN where unknown.

    Returns:
        ``power_spectrum``: root mean square over the wavenumbers of the logarithm (base 10) of the
        ratio. Of distributions the Wasserstein distance, how far the mean sample has to move:
        ``pixels`` and ``flux`` in standard deviations of the other set, ``einstein_radius`` in
        arcsec, or pixels where their width is unknown (None where a set shows no rings), ``peaks``
        in peaks an image.
    """
    ratio = np.log10(of.power / others.power)
    arcsec = pixel_scale if np.isfinite(pixel_scale) else 1.0
    radii = [s.einstein_radii[np.isfinite(s.einstein_radii)] * arcsec for s in (of, others)]
    moved = wasserstein_distance
    return {
        "power_spectrum": float(np.sqrt(np.mean(ratio**2))),
        "pixels": float(moved(of.pixels, others.pixels) / others.pixels.std()),
        "einstein_radius": float(moved(*radii)) if all(map(len, radii)) else None,
        "flux": float(moved(of.fluxes, others.fluxes) / others.fluxes.std()),
        "peaks": float(moved(of.peaks, others.peaks)),
    }


def power_spectrum(images: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Mean power of images (N, H, W) by wavenumber: |FFT|^2 a pixel, averaged over directions.

    Returns:
        Wavenumbers in cycles a pixel, above 0 up to 1/2, and powers, both (K,).
    """
    height, width = images.shape[1:]
    power = np.zeros((height, width))
    for block in np.array_split(images, -(-len(images) // 256)):
        power += (np.abs(np.fft.fft2(block)) ** 2).sum(0)
    power /= len(images) * height * width
    count = min(height, width) // 2
    k = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)) * 2 * count
    ring = np.rint(k).astype(int).ravel()
    means = np.bincount(ring, power.ravel()) / np.maximum(np.bincount(ring), 1)
    return np.arange(1, count + 1) / (2 * count), means[1 : count + 1]


def sky_of(images: NDArray[np.float32]) -> tuple[float, float]:
    """Level and noise of the sky of images (N, C, H, W): median and scaled MAD near the border."""
    flat = np.asarray(images, np.float32).mean(1)
    edge = max(round(_BORDER * min(flat.shape[1:])), 1)
    inside = np.zeros(flat.shape[1:], bool)
    inside[edge:-edge, edge:-edge] = True
    values = flat[:, ~inside]
    level = float(np.median(values))
    return level, 1.4826 * float(np.median(np.abs(values - level)))


def peak_counts(images: NDArray[np.float32], sky: tuple[float, float]) -> NDArray[np.int64]:
    """Count the peaks of each image (N, H, W): pixels above their 8 neighbours, 5 sd over the sky.

    Their number tells clumps and noise on the arcs, which a spectrum has without their phases.
    """
    level, noise = sky
    ring = np.ones((1, 3, 3), bool)
    ring[0, 1, 1] = False
    higher = images > maximum_filter(images, footprint=ring, mode="constant", cval=np.inf)
    return (higher & (images > level + _ABOVE * noise)).sum((1, 2))
