"""The radius of the ring of a lens, read off its image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

__all__ = ["einstein_radii"]

Floats = NDArray[np.float64]

_SMOOTHING = 1.0  # pixels, of a radial profile
_LEAST_RISE = 0.05  # of a profile's range: less is no ring


def einstein_radii(images: NDArray[np.float32]) -> Floats:
    """Estimate the Einstein radius of each image (N, H, W), (N,) pixels; NaN where there is none.

    It is where the light averaged over circles about the centre has its most prominent peak: the
    ring of the source, and not the galaxy that lenses it, whose light only falls. A source off
    the axis, a lens off the centre and shear shift it by a part of the width of the arcs, in
    every set alike.
    """
    height, width = images.shape[1:]
    y, x = np.mgrid[:height, :width]
    radius = np.rint(np.hypot(y - (height - 1) / 2, x - (width - 1) / 2)).astype(int).ravel()
    size = min(height, width) // 2
    on_ring = (radius == np.arange(size)[:, None]).astype(np.float32)
    on_ring /= on_ring.sum(1, keepdims=True).clip(1)  # none is nearest the centre of even sizes
    profiles = images.reshape(len(images), -1) @ on_ring.T
    if not (radius == 0).any():
        profiles[:, 0] = profiles[:, 1]
    profiles = gaussian_filter1d(profiles.astype(np.float64), _SMOOTHING, axis=1)
    return np.array([_peak(profile) for profile in profiles])


def _peak(profile: Floats) -> float:
    """Position of the most prominent peak, between the samples; NaN if the profile only falls."""
    rise = _LEAST_RISE * float(np.ptp(profile))
    peaks, properties = find_peaks(profile, prominence=max(rise, 1e-12))
    if not len(peaks):
        return float("nan")
    top = int(peaks[np.argmax(properties["prominences"])])
    left, middle, right = profile[top - 1 : top + 2]
    return top + 0.5 * (left - right) / (left - 2 * middle + right)  # of the parabola
