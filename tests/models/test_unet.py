"""The network of diffusion."""

from __future__ import annotations

import pytest
import torch
from tiny_networks import UNET
from torch import nn

from deeplense_batch.models import build


class TestDenoiser:
    @pytest.mark.parametrize("size", [64, 128, 150])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_it_gives_images_of_any_size(self, size, channels):
        with torch.device("meta"):
            model = build("unet", channels=channels, classes=3, size=size)
            shape = (2, channels, size, size)
            assert model(torch.empty(shape), torch.empty(2)).shape == shape

    def test_every_parameter_learns_and_every_condition_counts(self):
        torch.manual_seed(0)
        model = build("unet", channels=1, classes=3, size=26, radius=True, **UNET)
        nn.init.normal_(model.network.conv_out.weight, std=0.1)
        images = torch.randn(3, 1, 26, 26)
        t, labels = torch.tensor([0.2, 0.5, 0.9]), torch.tensor([0, 2, -1])
        radii = torch.tensor([0.1, torch.nan, 0.3])
        conditioned = model(images, t, labels, radii)
        conditioned.square().sum().backward()
        assert [n for n, p in model.named_parameters() if p.grad is None] == []
        free = model(images, t)
        differ = (conditioned - free).abs().amax((1, 2, 3)) > 1e-6
        assert differ.tolist() == [True, True, True]  # by class and radius, class, radius
        assert torch.equal(model(images, t, torch.full((3,), -1)), free)
        assert not torch.allclose(free, model(images, 1 - t))

    def test_inputs_are_further_channels_and_zero_where_there_are_none(self):
        torch.manual_seed(0)
        model = build("unet", channels=2, classes=0, size=26, inputs=True, **UNET)
        nn.init.normal_(model.network.conv_out.weight, std=0.1)
        images, t = torch.randn(3, 2, 26, 26), torch.tensor([0.2, 0.5, 0.9])
        free = model(images, t)
        assert free.shape == images.shape
        assert torch.equal(model(images, t, inputs=torch.zeros_like(images)), free)
        conditioned = model(images, t, None, None, torch.randn_like(images))
        assert ((conditioned - free).abs().amax((1, 2, 3)) > 1e-3).all()
