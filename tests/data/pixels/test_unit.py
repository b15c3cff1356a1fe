"""Whether images are in the unit of those that a network learnt from."""

from __future__ import annotations

import math

import pytest
import torch

from deeplense_batch.data.pixels.unit import about_another_unit


@pytest.fixture
def images():
    return torch.randn(8, 2, 16, 16, generator=torch.Generator().manual_seed(0))


def test_nothing_is_said_of_another_depth_or_sky(images):
    for others in (images, 3 * images, images / 3, images + 2):
        assert about_another_unit(others, "asinh") is None


@pytest.mark.parametrize(("factor", "level"), [(100, 0), (0.01, 0), (1, 50), (1, math.nan)])
def test_another_unit_is_named_by_mean_and_sd(images, factor, level):
    sentence = about_another_unit(factor * images + level, "asinh")
    others = (factor * images + level).double()
    assert sentence == (
        f"stretched (asinh) and normalised like the training images, these have mean "
        f"{others.mean():.3g} and sd {others.std():.3g} where those had 0 and 1: "
        "are they in the same unit?"
    )
