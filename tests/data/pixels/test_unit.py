"""Whether images are in the unit of those that a network learnt from."""

from __future__ import annotations

import math

import pytest
import torch

from deeplense_batch.data.pixels.unit import about_another_unit, about_sizes


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


def test_sets_whose_values_are_of_sizes_far_apart_are_named():
    assert about_sizes({"a": 0.02, "b": 1.9, "c": 0.5}) is None
    assert about_sizes({"a": 0.02, "b": 2.5, "c": 0.5}) == (
        "the values are of size 2.5 in b and 0.02 in a (root mean square): are they in the same "
        "unit?"
    )
