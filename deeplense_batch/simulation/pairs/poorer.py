"""Poorer images of a sky: an image shrunk by a cubic kernel, and a sky behind another telescope.

Both are sums of few terms in a fixed order, each weight rounded to float32, so that every machine
makes the same.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

__all__ = ["behind_telescope", "binned_mean", "shrunk"]

# Keys' cubic kernel with a = -0.75, as image libraries have it, half a pixel and one and a half
# off its middle: Keys 1981, IEEE Trans. ASSP 29, 1153.
_NEAR, _FAR = 0.59375, -0.09375
_REACH = 5.0  # sigmas to which a Gaussian is summed

Images = NDArray[np.float64]


def shrunk(images: Images) -> Images:
    """Half the pixels along each side by a cubic kernel without antialiasing.

    A pixel of the result is between two of the image, of which it takes four along each axis; the
    last ones go on beyond the edges. It is ``interpolate(..., 0.5, mode="bicubic")`` of torch and
    ``resize(..., interpolation=INTER_CUBIC)`` of OpenCV.

    Arguments:
        images: (..., H, W) of even H and W.

    Returns:
        (..., H / 2, W / 2) float64.
    """
    return _halved(_halved(images, -1), -2)


def _halved(images: Images, axis: int) -> Images:
    lines = np.moveaxis(images, axis, -1)
    wide = np.concatenate([lines[..., :1], lines, lines[..., -1:]], -1)
    outer, inner = wide[..., :-2:2] + wide[..., 3::2], wide[..., 1:-1:2] + wide[..., 2::2]
    return np.moveaxis(_NEAR * inner + _FAR * outer, -1, axis)


def behind_telescope(
    image: Images, *, sigma: float, shift: NDArray[np.float64], ratio: int
) -> Images:
    """A sky blurred, shifted and in larger pixels.

    Arguments:
        image: Brightness, (H, W); the last pixels go on beyond the edges.
        sigma: Of the Gaussian, pixels of the image.
        shift: By which the content moves along rows and columns, (2,), pixels of the image.
        ratio: Pixels of the image along one of the result.

    Returns:
        Mean brightness of the larger pixels, (H / ratio, W / ratio) float64.
    """
    for axis, by in enumerate(shift.tolist()):
        image = correlate1d(image, _kernel(sigma, by), axis=axis, mode="nearest")
    return binned_mean(image, ratio)


def binned_mean(images: Images, ratio: int) -> Images:
    """Means over ratio x ratio pixels of images, (..., H, W)."""
    *most, height, width = images.shape
    return images.reshape(*most, height // ratio, ratio, width // ratio, ratio).mean((-3, -1))


def _kernel(sigma: float, shift: float) -> NDArray[np.float64]:
    """Weights of a Gaussian at whole pixels around a middle that is off by the shift."""
    reach = math.ceil(_REACH * sigma + abs(shift))
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-((offsets + shift) ** 2) / (2 * sigma**2))
    return (weights / weights.sum()).astype(np.float32).astype(np.float64)
