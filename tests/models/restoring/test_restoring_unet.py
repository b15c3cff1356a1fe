"""The UNet that restores."""

from __future__ import annotations

import numpy as np
import torch
from tiny_networks import UNET
from torch import nn

from deeplense_batch.models.restoring.unet import RestoringUnet


def doubled(images: np.ndarray, axis: int) -> np.ndarray:
    """Twice the pixels, by the cubic kernel of a = -0.75 (Keys 1981, IEEE TASSP 29, 1153)."""
    a, near, far = -0.75, np.array([0.25, 0.75]), np.array([1.25, 1.75])
    inner = (a + 2) * near**3 - (a + 3) * near**2 + 1
    outer = a * far**3 - 5 * a * far**2 + 8 * a * far - 4 * a
    before = np.array([outer[1], inner[1], inner[0], outer[0], 0])  # of the pixels from -2 to 2
    halves = [
        np.apply_along_axis(np.correlate, axis, padded(images, axis), weights, "valid")
        for weights in (before, before[::-1])
    ]
    return np.stack(halves, axis + 1).reshape(
        *images.shape[:axis], 2 * images.shape[axis], *images.shape[axis + 1 :]
    )


def padded(images: np.ndarray, axis: int) -> np.ndarray:
    return np.pad(images, [(2, 2) if d == axis else (0, 0) for d in range(images.ndim)], "edge")


def test_it_restores_the_interpolated_image_as_one_that_needs_no_more_pixels():
    torch.manual_seed(0)
    networks = [RestoringUnet(1, ratio=ratio, **UNET).eval() for ratio in (1, 2)]
    nn.init.normal_(networks[0].denoiser.network.conv_out.weight, std=0.1)
    networks[1].load_state_dict(networks[0].state_dict())
    images = torch.randn(2, 1, 8, 8)
    enlarged = torch.from_numpy(doubled(doubled(images.numpy(), 2), 3)).float()
    with torch.inference_mode():
        same, more = networks[0](enlarged), networks[1](images)
    assert more.shape == (2, 1, 16, 16) and more.std() > 0.01
    assert torch.allclose(more, same, atol=1e-4)
