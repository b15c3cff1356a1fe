"""The UNet that restores."""

from __future__ import annotations

import torch
from tiny_networks import UNET
from torch import nn
from torch.nn import functional

from deeplense_batch.models.restoring.unet import RestoringUnet


def test_it_is_the_denoiser_of_the_interpolated_image():
    torch.manual_seed(0)
    network = RestoringUnet(1, ratio=2, **UNET).eval()
    nn.init.normal_(network.denoiser.network.conv_out.weight, std=0.1)
    images = torch.randn(2, 1, 9, 9)
    enlarged = functional.interpolate(images, size=(18, 18), mode="bicubic")
    with torch.inference_mode():
        assert torch.allclose(network(images), network.denoiser(enlarged), atol=1e-5)
