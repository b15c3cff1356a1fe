"""EDSR."""

from __future__ import annotations

import torch

from deeplense_batch.models.restoring.edsr import Edsr


def test_a_moved_image_is_restored_as_moved():
    """By as many pixels more as it has; at the borders there are zeros beside it."""
    torch.manual_seed(0)
    network, images = Edsr(1, ratio=3, width=4, blocks=1), torch.randn(1, 1, 20, 20)
    moved = network(images.roll((2, -1), (2, 3)))
    inner = (..., slice(24, -24), slice(24, -24))
    expected = network(images).roll((6, -3), (2, 3))
    assert moved.shape == (1, 1, 60, 60)
    assert torch.allclose(moved[inner], expected[inner], atol=1e-5)


def test_an_image_goes_around_blocks_that_have_learnt_nothing():
    torch.manual_seed(0)
    network, images = Edsr(1, width=4, blocks=1), torch.randn(1, 1, 6, 6)
    for values in network.body.parameters():
        torch.nn.init.zeros_(values)
    assert network(images).std() > 0.01 and not torch.allclose(network(images), network(-images))


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
