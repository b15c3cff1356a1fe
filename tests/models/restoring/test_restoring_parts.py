"""What restoring networks share."""

from __future__ import annotations

import pytest
import torch

from deeplense_batch.models.restoring.parts import restoring_options, upsampling


@pytest.mark.parametrize(
    ("ratio", "convolutions"), [(1, 1), (2, 2), (3, 2), (4, 3), (6, 3), (8, 4)]
)
def test_a_ratio_is_reached_in_steps_of_two_where_it_can(ratio, convolutions):
    layers = upsampling(4, 1, ratio)
    assert sum(isinstance(layer, torch.nn.Conv2d) for layer in layers) == convolutions
    assert layers(torch.zeros(1, 4, 5, 5)).shape == (1, 1, 5 * ratio, 5 * ratio)


def test_classes_are_none_of_its_options_and_weights_are_nowhere():
    given = {"in_chans": 1, "num_classes": 3, "width": 8, "cache_dir": None}
    options = restoring_options(given, pretrained=False, name="edsr")
    assert options == {"in_chans": 1, "width": 8}
    with pytest.raises(RuntimeError, match="nobody has published weights of edsr"):
        restoring_options(given, pretrained=True, name="edsr")
