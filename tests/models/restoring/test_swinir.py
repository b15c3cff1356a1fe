"""SwinIR."""

from __future__ import annotations

import pytest
import torch

from deeplense_batch.models.restoring.swinir import SwinIr


def test_images_of_any_size_are_padded_and_cut_again():
    """What lies far from the padding is as in a larger image."""
    torch.manual_seed(0)
    network = SwinIr(1, ratio=2, width=6, groups=1, blocks=1, heads=2, window=4).eval()
    images = torch.randn(1, 1, 16, 16)
    with torch.inference_mode():
        whole, part = network(images), network(images[..., :14, :14])
    assert part.shape == (1, 1, 28, 28)
    assert torch.allclose(part[..., :12, :12], whole[..., :12, :12], atol=1e-5)


def test_its_size_is_that_of_the_paper():
    with torch.device("meta"):
        network = SwinIr(3, ratio=2)
    parameters = sum(p.numel() for p in network.parameters())
    assert parameters == pytest.approx(0.878e6, rel=0.06)  # table 2: 878 K


def test_a_width_that_heads_do_not_share_is_refused():
    with pytest.raises(ValueError, match="width: expected a multiple of heads, 6, got 32"):
        SwinIr(1, width=32)
