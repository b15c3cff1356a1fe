"""What restoring networks share."""

from __future__ import annotations

import pytest
import torch

from deeplense_batch.models.restoring.parts import upsampling


@pytest.mark.parametrize(
    ("ratio", "convolutions"), [(1, 1), (2, 2), (3, 2), (4, 3), (6, 3), (8, 4)]
)
def test_a_ratio_is_reached_in_steps_of_two_where_it_can(ratio, convolutions):
    layers = upsampling(4, 1, ratio)
    assert sum(isinstance(layer, torch.nn.Conv2d) for layer in layers) == convolutions
    assert layers(torch.zeros(1, 4, 5, 5)).shape == (1, 1, 5 * ratio, 5 * ratio)
