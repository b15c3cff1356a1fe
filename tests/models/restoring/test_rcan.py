"""RCAN."""

from __future__ import annotations

import pytest
import torch

from deeplense_batch.models.restoring.rcan import Rcan


def test_its_attention_looks_at_the_whole_image():
    torch.manual_seed(0)
    network = Rcan(1, ratio=1, width=8, groups=1, blocks=1, reduction=2)
    images = torch.zeros(1, 1, 30, 30)
    changed = images.clone()
    changed[..., 0, 0] = 50
    assert (network(images) - network(changed)).abs()[0, 0, -1, -1] > 1e-7


def test_the_published_size_has_its_blocks():
    with torch.device("meta"):
        network = Rcan(3, ratio=2)
    parameters = sum(p.numel() for p in network.parameters())
    assert parameters == pytest.approx(15.4e6, rel=0.01)  # the authors' network has 16 M at x4


def test_more_reduction_than_channels_is_refused():
    with pytest.raises(ValueError, match="reduction: expected at most width, 8, got 16"):
        Rcan(1, width=8)
