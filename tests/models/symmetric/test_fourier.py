"""The Fourier neural operator."""

from __future__ import annotations

import math

import pytest
import torch

from deeplense_batch.models.symmetric.fourier import FourierOperator, fno_small


def smooth(size: int) -> torch.Tensor:
    """Two images of up to five cycles a side, sampled by so many pixels."""
    waves = torch.randn(2, 1, 6, 6, 2, generator=torch.Generator().manual_seed(1))
    at = torch.arange(size) / size * 2 * math.pi
    images = torch.zeros(2, 1, size, size)
    for a in range(6):
        for b in range(6):
            y, x = a * at[:, None], b * at[None, :]
            even, odd = waves[:, :, a, b].unbind(-1)
            images += even[..., None, None] * torch.cos(y + x)
            images += odd[..., None, None] * torch.sin(y - x)
    return images / 6


def trained_network(**options: object) -> FourierOperator:
    """One whose norms have seen images."""
    torch.manual_seed(0)
    network = FourierOperator(1, 3, width=8, modes=6, layers=2, **options).train()
    network(smooth(32))
    return network.eval()


def test_a_cyclic_shift_changes_nothing():
    network, images = trained_network(), smooth(32)
    with torch.no_grad():
        logits = network(images)
        moved = network(images.roll((5, -9), (-2, -1)))
    assert (logits[0] - logits[1]).abs().max() > 1e-4
    torch.testing.assert_close(moved, logits, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [24, 45, 64])
def test_a_finer_sampling_of_the_same_image_changes_little(size):
    network = trained_network()
    with torch.no_grad():
        coarse, other = network(smooth(32)), network(smooth(size))
    spread = (coarse[0] - coarse[1]).abs().max()
    assert (other - coarse).abs().max() < 0.05 * spread


def test_a_layer_multiplies_each_of_the_lowest_modes_and_drops_the_others():
    """By a sum over modes, written out."""
    layer = trained_network().layers[0].spectral
    features = torch.randn(1, 8, 16, 16)
    found = layer(features)[0, 0, 3, 7].item()
    weight = torch.view_as_complex(layer.weight.detach())
    y, x = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    expected = 0.0
    for a in range(-5, 6):
        for b in range(6):
            wave = torch.exp(-2j * math.pi * (a * y + b * x) / 16)
            modes = (features[0] * wave).sum((1, 2)) / 256  # (C,)
            value = (modes * weight[a + 5, b, :, 0]).sum()
            value = value * torch.exp(torch.tensor(2j * math.pi * (3 * a + 7 * b) / 16))
            expected += (1 if b == 0 else 2) * value.real.item()
    # across frequency 0 both a and -a are there, and the inverse makes their mean real
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_images_of_few_pixels_have_fewer_modes():
    network = FourierOperator(1, 3, width=4, modes=12, layers=1)
    assert network(torch.randn(2, 1, 9, 9)).shape == (2, 3)


def test_modes_are_float32_in_half_precision():
    network, images = trained_network(), smooth(32)
    spectral = network.layers[0].spectral
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        features = network.lift(images)
        assert features.dtype == torch.bfloat16
        half = spectral(features)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, spectral(features.float()).detach())


def test_nobody_has_published_its_weights():
    with pytest.raises(RuntimeError, match="nobody has published weights of fno_small"):
        fno_small(pretrained=True)
