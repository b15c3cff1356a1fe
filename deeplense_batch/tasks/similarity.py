"""Structural similarity of images, as a score and as a loss.

Reference:
    Wang et al. 2004, IEEE TIP 13, 600.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

__all__ = ["WINDOW", "ssim", "ssim_of_each"]

WINDOW = 11  # pixels that are compared at once; the images have at least as many along a side
_SIGMA = 1.5  # of the Gaussian that weighs them, pixels


def ssim(images: Tensor, others: Tensor) -> Tensor:
    """Mean structural similarity of images, a scalar.

    Arguments:
        images: (B, C, H, W) float32.
        others: (B, C, H, W) float32; their range is that of the values.
    """
    # A tensor, which torchmetrics takes as it takes a number: to look at it, the host would wait.
    span: Any = (others.max() - others.min()).double().clamp_min(1e-6)
    value = structural_similarity_index_measure(
        images, others, kernel_size=WINDOW, sigma=_SIGMA, data_range=span
    )
    assert isinstance(value, Tensor)
    return value


def ssim_of_each(images: Tensor, others: Tensor, data_range: float) -> Tensor:
    """Structural similarity of each image with another, (B,).

    The mean over the pixels whose window lies within the image, as Wang et al. have it and
    scikit-image too; what torchmetrics averages has a border that it reflects. Both are divided
    by the range, so that numbers of any size keep their digits in float32.

    Arguments:
        images: (B, C, H, W) float32.
        others: (B, C, H, W) float32.
        data_range: That of the whole set, in the unit of the images.
    """
    found = structural_similarity_index_measure(
        images / data_range, others / data_range, kernel_size=WINDOW, sigma=_SIGMA,
        reduction="none", data_range=1.0, return_full_image=True,
    )  # fmt: skip
    _, of_pixels = found
    border = WINDOW // 2
    return of_pixels[..., border:-border, border:-border].mean((1, 2, 3))
