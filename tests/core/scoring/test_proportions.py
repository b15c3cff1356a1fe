"""Intervals of what was counted: against scipy, and how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from deeplense_batch.core.scoring.proportions import ratio_interval, wilson


@pytest.mark.parametrize(("hits", "trials"), [(0, 7), (3, 7), (7, 7), (12, 600), (0, 1032)])
def test_a_share_has_the_interval_of_wilson(hits, trials):
    expected = binomtest(hits, trials).proportion_ci(method="wilson")
    found = [float(end) for end in wilson(hits, trials)]
    assert found == pytest.approx([expected.low, expected.high], abs=1e-12)


@pytest.mark.parametrize(
    ("trials", "share", "others", "share_of_others"),
    [(1032, 0.02, 35, 0.6), (1032, 0.001, 35, 0.3), (19455, 0.0005, 195, 0.5)],
)
def test_a_ratio_of_shares_is_held_by_its_interval(trials, share, others, share_of_others):
    """In 95 of 100 samples, also where most have no hit; 2,000 of them, to 0.005."""
    random = np.random.default_rng(0)
    truth, held = share / share_of_others, 0
    for hits, other_hits in zip(
        random.binomial(trials, share, 2000), random.binomial(others, share_of_others, 2000),
        strict=True,
    ):  # fmt: skip
        low, high = ratio_interval(int(hits), trials, int(other_hits), others)
        held += low <= truth <= high
    assert 0.93 < held / 2000 < 0.97


def test_a_ratio_to_none_has_no_upper_end():
    low, high = ratio_interval(3, 100, 0, 20)
    assert 0 < low < 0.5 and high == np.inf
    low, high = ratio_interval(0, 100, 20, 20)
    assert low == 0 and 0.03 < high < 0.06
