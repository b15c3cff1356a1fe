"""Areas and their noise, against scikit-learn, closed forms and the bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_arrays import sample
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from deeplense_batch.core.scoring.auc import (
    auc_interval,
    auc_standard_error,
    delong,
    delong_difference,
)
from deeplense_batch.report.statistics import bootstrap as b
from deeplense_batch.report.statistics.bootstrap import interval, sign_p_value


def test_delong_reproduces_a_worked_example():
    """Three positives, two negatives, by hand: placements 1, 1/2, 1 and 1, 2/3."""
    positive = np.array([1, 1, 1, 0, 0], bool)
    areas, covariance = delong(positive, [0.9, 0.4, 0.8, 0.1, 0.5])
    assert areas == pytest.approx([5 / 6])
    by_hand = np.var([1, 0.5, 1], ddof=1) / 3 + np.var([1, 2 / 3], ddof=1) / 2
    assert covariance == pytest.approx(np.array([[by_hand]]))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 5]))
def test_delong_areas_are_the_areas_and_placements_those_of_all_pairs(seed, levels):
    targets, scores = sample(2, 15, seed=seed, levels=levels)
    positive, models = targets == 1, np.stack([scores[:, 1], scores[::-1, 0]])
    areas, covariance = delong(positive, models)
    pairs = [
        (np.sign(m[positive][:, None] - m[~positive][None]) + 1) / 2 for m in models
    ]  # 1, 1/2 for a tie, 0
    assert areas == pytest.approx([p.mean() for p in pairs])
    by_pairs = np.cov([p.mean(1) for p in pairs]) / 15 + np.cov([p.mean(0) for p in pairs]) / 15
    assert covariance == pytest.approx(by_pairs)


def test_delong_and_the_bootstrap_agree_on_a_paired_difference():
    random = np.random.default_rng(5)
    targets = np.repeat([0, 1], [600, 300])
    shared = random.normal(targets)
    one, other = (shared + random.normal(0, sd, 900) for sd in (0.6, 0.9))
    difference, error, p = delong_difference(targets == 1, one, other)
    found = b.bootstrap(
        [b.macro_auc(targets, np.stack([-s, s], 1)) for s in (one, other)], targets
    )
    resampled = found[0] - found[1]
    assert difference == pytest.approx(roc_auc_score(targets, one) - roc_auc_score(targets, other))
    assert resampled.std() == pytest.approx(error, rel=0.06)
    low, high = interval(resampled)
    assert (low, high) == pytest.approx(
        (difference - 1.96 * error, difference + 1.96 * error), abs=0.12 * error
    )
    assert (p < 0.05) == (sign_p_value(resampled) < 0.05) == (low > 0 or high < 0)


def test_equal_models_do_not_differ():
    targets, scores = sample(2)
    assert delong_difference(targets == 1, scores[:, 1], scores[:, 1]) == (0, 0, 1)


def test_delong_needs_two_of_each_kind():
    with pytest.raises(ValueError, match="two samples of each kind or more, got 1 and 4"):
        delong([1, 0, 0, 0, 0], [[1, 2, 3, 4, 5]])


def test_the_standard_error_of_a_known_auc():
    """Hanley and McNeil 1982, table II: AUC 0.893 of 51 abnormal and 58 normal, error 0.032."""
    assert auc_standard_error(0.893, 51, 58) == pytest.approx(0.032, abs=0.001)


@pytest.mark.parametrize(("auc", "each"), [(0.9, 40), (0.98, 40), (0.98, 150)])
def test_the_interval_of_an_auc_covers_it_near_1_too(auc, each):
    """Of 2,000 binormal samples; the symmetric interval misses the last by .09 instead of .05."""
    random = np.random.default_rng(3)
    separation = np.sqrt(2) * norm.ppf(auc)
    above, below = random.normal(separation, 1, (2000, each)), random.normal(0, 1, (2000, each))
    found = (above[:, :, None] > below[:, None, :]).mean(axis=(1, 2))
    bounds = [auc_interval(area, each, each) for area in found]
    assert 0.93 <= np.mean([low <= auc <= high for low, high in bounds]) <= 0.99


def test_two_kinds_that_are_separated_have_an_interval_too():
    low, high = auc_interval(1.0, 50, 50)
    assert high == 1 and 0.9 < low < 0.99
    assert auc_interval(1.0, 5000, 5000)[0] > 0.999
    assert auc_interval(0.0, 50, 50) == pytest.approx((0.0, 1 - low), abs=0.03)


def test_more_samples_say_more():
    wide, narrow = (np.ptp(auc_interval(0.8, n, 10 * n)) for n in (20, 200))
    assert wide / narrow == pytest.approx(10**0.5, rel=0.1)
