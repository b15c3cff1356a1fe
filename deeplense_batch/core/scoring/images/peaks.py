"""Peaks that one image has and another lacks: what a restoration invents, and what it loses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

__all__ = ["peaks_without_partner"]

_WINDOW = 5  # pixels along a side: a peak may be so far from its partner that both are in one


def peaks_without_partner(
    images: NDArray[np.floating], others: NDArray[np.floating], least: float
) -> NDArray[np.int64]:
    """Count the local maxima of images that other images lack.

    A maximum is a pixel that no other in the 5 x 5 pixels around it exceeds. The other image
    lacks it where none of its values there comes closer to it than `least`, from below.

    Arguments:
        images: (N, H, W).
        others: (N, H, W), in the same unit.
        least: Height, in that unit; a few times the noise.

    Returns:
        (N,).
    """
    window = (1, _WINDOW, _WINDOW)
    is_peak = images == maximum_filter(images, window)
    return (is_peak & (images > maximum_filter(others, window) + least)).sum((1, 2))
