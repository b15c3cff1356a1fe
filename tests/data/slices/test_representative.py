"""Images that stand for all of a slice."""

from __future__ import annotations

import numpy as np
import pytest

from deeplense_batch.data.slices.representative import representative


def test_of_a_shuffled_slice_they_are_the_first():
    assert representative(100, 5, in_groups=False).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("in_groups", [False, True])
@pytest.mark.parametrize(("samples", "most"), [(7, 7), (7, 100), (1, 1), (0, 5)])
def test_of_a_small_slice_they_are_all(samples, most, in_groups):
    found = representative(samples, most, in_groups=in_groups)
    assert found.tolist() == list(range(samples))


@pytest.mark.parametrize(("samples", "most"), [(8, 7), (1001, 1000), (10_000, 64), (8192, 2048)])
def test_of_groups_they_are_drawn_evenly_and_none_twice(samples, most):
    found = representative(samples, most, in_groups=True)
    assert len(found) == most and (np.diff(found) > 0).all()
    assert (np.abs(found - np.arange(most) * samples / most) <= samples / most).all()
    assert np.array_equal(found, representative(samples, most, in_groups=True))


def test_of_classes_that_alternate_both_are_drawn():
    kinds = representative(8192, 2048, in_groups=True) % 2
    assert kinds.mean() == pytest.approx(0.5, abs=0.05)
