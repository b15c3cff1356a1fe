"""How near images are to the truth: squared error, PSNR and SSIM of each, by one stated range.

The range is that of the set. One taken from an image, or from what a network makes, gives scores
that mean something else for every image, and cannot be compared.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deeplense_batch.tasks.similarity import ssim_of_each

__all__ = ["MEASURES", "key", "quality"]

MEASURES = ("psnr", "ssim", "mse")
_LEAST = 1e-20  # of the mean squared error over the squared range: 200 dB


def quality(images: Tensor, truth: Tensor, data_range: float) -> dict[str, Tensor]:
    """The `MEASURES` of each image, (B,): dB, from -1 to 1, and squared units of the set.

    Arguments:
        images: (B, C, H, W), in units of the set.
        truth: (B, C, H, W), in units of the set.
        data_range: Of the set, in its units: PSNR is 10 log10(range^2 / MSE), the mean over all
            pixels and channels of an image.
    """
    error = ((images - truth) / data_range).square().mean((1, 2, 3))
    return {
        "psnr": -10 * torch.log10(error.clamp_min(_LEAST)),
        "ssim": ssim_of_each(images, truth, data_range),
        "mse": error * data_range**2,
    }


def key(measure: str, method: str = "", truth: str = "") -> str:
    """The name of a measure among outputs and scores: ``psnr``, ``psnr_bicubic_clean``.

    Arguments:
        measure: One of `MEASURES`.
        method: That made the images; of the network, empty.
        truth: ``clean`` for the image without noise; of the image as it is, empty.
    """
    return "_".join(filter(None, (measure, method, truth)))
