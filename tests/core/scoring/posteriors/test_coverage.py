"""Coverage of uniform probabilities, and what it varies by."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from deeplense_batch.core.scoring.posteriors.coverage import (
    central,
    coverage,
    coverage_band,
    coverage_error,
    error_floor,
)


def test_coverage_is_the_share_up_to_a_level():
    assert coverage([0.1, 0.4, 0.4, 0.9], [0.05, 0.4, 1]).tolist() == [0, 0.75, 1]
    assert central([0, 0.25, 0.5, 1]).tolist() == [1, 0.5, 0, 1]


def test_the_error_is_the_mean_distance_from_the_levels():
    exact = (np.arange(20_000) + 0.5) / 20_000
    assert coverage_error(exact) < 1e-4
    # Everything inside every interval: 1 - level on average over 0.05 ... 0.95.
    assert coverage_error(np.zeros(10)) == pytest.approx(0.5)


def test_a_right_posterior_is_below_the_floor_and_within_the_band_as_often_as_said():
    random, levels, images = np.random.default_rng(0), np.array([0.1, 0.5, 0.68, 0.95]), 300
    sets = random.uniform(size=(1000, images))
    below = np.mean([coverage_error(own) < error_floor(images) for own in sets])
    assert below == pytest.approx(0.95, abs=0.025)
    low, high = coverage_band(levels, images)
    shares = np.array([coverage(own, levels) for own in sets])
    inside = ((shares >= low) & (shares <= high)).mean(0)
    assert (np.abs(inside - 0.95) < 0.03).all()
    assert high[1] - low[1] == pytest.approx(
        np.ptp(stats.binom.ppf([0.025, 0.975], images, 0.5)) / images, abs=0.005
    )
