"""How the power of images is distributed over sizes: radial power spectra, one for each image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["power_spectra", "wavenumbers"]


def wavenumbers(height: int, width: int) -> NDArray[np.float64]:
    """Wavenumbers of the spectra of images, (K,) cycles a pixel: above 0, up to 1/2."""
    count = min(height, width) // 2
    return np.arange(1, count + 1) / (2 * count)


def power_spectra(images: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mean power by wavenumber: |FFT|^2 a pixel, averaged over directions.

    Images, less their mean, are first weighed by Hann's window, without which the jump from one
    border to the opposite one would hide faint power at large wavenumbers. White noise of variance
    1 has power 1 at every wavenumber.

    Arguments:
        images: (N, H, W).

    Returns:
        (N, K), at `wavenumbers`.
    """
    height, width = images.shape[1:]
    count = min(height, width) // 2
    window = np.hanning(height)[:, None] * np.hanning(width)
    varying = images - images.mean((1, 2), keepdims=True)
    powers = np.abs(np.fft.fft2(varying * window)) ** 2 / (window**2).sum()
    k = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)) * 2 * count
    ring = np.rint(k).astype(int).ravel()
    size = np.maximum(np.bincount(ring), 1)
    means = [np.bincount(ring, power.ravel()) / size for power in powers]
    return np.stack(means)[:, 1 : count + 1]
