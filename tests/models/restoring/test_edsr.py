"""EDSR."""

from __future__ import annotations

import torch
from torch.nn import functional

from deeplense_batch.models.restoring.edsr import Edsr


def test_without_blocks_it_is_the_chain_of_its_layers():
    torch.manual_seed(0)
    network, images = Edsr(1, ratio=2, width=4, blocks=0), torch.randn(1, 1, 6, 6)
    features = network.head(images)
    features = features + network.body[0](features)
    grown = functional.pixel_shuffle(network.tail[0](features), 2)
    assert torch.allclose(network(images), network.tail[2](grown), atol=1e-6)


def test_what_a_block_adds_is_scaled():
    torch.manual_seed(0)
    weights = Edsr(1, width=4, blocks=1).state_dict()
    images, given = torch.randn(1, 1, 6, 6), []
    for scale in (0.0, 0.5, 1.0):
        network = Edsr(1, width=4, blocks=1, residual_scale=scale)
        network.load_state_dict(weights)
        given.append(network(images))
    assert torch.allclose(given[1] - given[0], (given[2] - given[0]) / 2, atol=1e-5)
    assert not torch.allclose(given[0], given[2], atol=1e-3)


def test_it_is_local():
    """A far pixel changes nothing: each of n convolutions reaches one pixel further."""
    torch.manual_seed(0)
    network, images = Edsr(1, ratio=1, width=4, blocks=1), torch.zeros(1, 1, 20, 20)
    changed = images.clone()
    changed[..., 0, 0] = 1
    differs = (network(images) - network(changed)).abs()[0, 0] > 1e-9
    reach = 1 + 2 + 1 + 1  # head, block, end of the body, tail
    assert differs[:, : reach + 1].any() and not differs[:, reach + 1 :].any()
