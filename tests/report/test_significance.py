"""Intervals and tests, against scikit-learn, closed forms and each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, average_precision_score, r2_score, roc_auc_score

from deeplense_batch.core.scoring.metrics import softmax
from deeplense_batch.report import bootstrap as b
from deeplense_batch.report.significance import (
    auc_standard_error,
    delong,
    delong_difference,
    holm,
    interval,
    sign_p_value,
)


def sample(classes=3, each=40, *, seed=0, levels=None):
    random = np.random.default_rng(seed)
    targets = np.repeat(np.arange(classes), each)
    logits = random.normal(size=(len(targets), classes)) + 1.2 * np.eye(classes)[targets]
    scores = softmax(logits)
    return targets, np.round(scores * levels) / levels if levels else scores


def drawn(strata, resamples=50, seed=0):
    """The resamples as lists of places, for a loop to use."""
    for counts in b._resamples(np.asarray(strata), resamples, seed):
        for column in counts.T:
            yield np.repeat(np.arange(len(column)), column)


@pytest.mark.parametrize("levels", [None, 7])  # seven levels: many ties
def test_every_resample_scores_as_scikit_learn_does(levels):
    targets, scores = sample(levels=levels)
    found = b.bootstrap(
        [b.macro_auc(targets, scores), b.accuracy(targets, scores)], targets, resamples=50
    )
    for (auc, accuracy), places in zip(found.T, drawn(targets), strict=True):
        t, s = targets[places], scores[places]
        expected = np.mean([roc_auc_score(t == k, s[:, k]) for k in range(3)])
        assert auc == pytest.approx(expected, abs=1e-12)
        assert accuracy == pytest.approx(accuracy_score(t, s.argmax(1)), abs=1e-12)


@pytest.mark.parametrize("levels", [None, 9])
def test_resampled_average_precision_is_that_of_scikit_learn(levels):
    targets, scores = sample(2, 60, levels=levels)
    targets[:40] = 0
    positive, lens = targets == 1, scores[:, 1]
    (found,) = b.bootstrap([b.average_precision(positive, lens)], positive, resamples=50)
    for value, places in zip(found, drawn(positive), strict=True):
        expected = average_precision_score(positive[places], lens[places])
        assert value == pytest.approx(expected, abs=1e-12)


def test_resampled_r2_is_that_of_scikit_learn():
    random = np.random.default_rng(1)
    true = random.normal(-22, 0.5, 80)
    predicted = true + random.normal(0, 0.3, 80)
    strata = np.zeros(80, int)
    (found,) = b.bootstrap([b.r2(true, predicted)], strata, resamples=50)
    for value, places in zip(found, drawn(strata), strict=True):
        assert value == pytest.approx(r2_score(true[places], predicted[places]), abs=1e-9)


def test_resamples_keep_the_sizes_of_the_classes_and_repeat_under_their_seed():
    targets = np.array([0] * 5 + [1] * 90 + [2])
    for places in drawn(targets, 30):
        assert np.bincount(targets[places]).tolist() == [5, 90, 1]
    statistic = b.mean_of(np.arange(96))
    again = [b.bootstrap([statistic], targets, resamples=30, seed=s)[0] for s in (3, 3, 4)]
    assert np.array_equal(again[0], again[1]) and not np.array_equal(again[0], again[2])


def test_a_long_slice_comes_in_blocks_and_all_resamples_are_there(monkeypatch):
    monkeypatch.setattr(b, "_CELLS", 1000)
    targets, scores = sample()
    blocks = [*b._resamples(targets, 40, 0)]
    assert [block.shape for block in blocks] == [(120, 8)] * 5
    (found,) = b.bootstrap([b.macro_auc(targets, scores)], targets, resamples=40)
    assert found.shape == (40,)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Scores of two classes one sd apart: the true AUC is Phi(1 / sqrt(2))."""
    truth, inside = 0.7602, 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        targets = np.repeat([0, 1], 100)
        score = random.normal(targets)
        resampled = b.bootstrap(
            [b.macro_auc(targets, np.stack([-score, score], 1))], targets, resamples=400, seed=seed
        )
        low, high = interval(resampled[0])
        inside += low <= truth <= high
    assert 178 <= inside <= 198  # of 200: 95% give 190 +- 3


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
    assert sign_p_value(np.zeros(2000)) == 1


def test_delong_needs_two_of_each_kind():
    with pytest.raises(ValueError, match="two samples of each kind or more, got 1 and 4"):
        delong([1, 0, 0, 0, 0], [[1, 2, 3, 4, 5]])


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def test_a_p_value_never_claims_more_than_the_resamples_can_tell():
    assert sign_p_value(np.ones(1999)) == pytest.approx(2 / 2000)


def test_the_standard_error_of_a_known_auc():
    """Hanley and McNeil 1982, table II: AUC 0.893 of 51 abnormal and 58 normal, error 0.032."""
    assert auc_standard_error(0.893, 51, 58) == pytest.approx(0.032, abs=0.001)


def test_no_sample_no_bootstrap():
    with pytest.raises(ValueError, match="no sample"):
        b.bootstrap([b.mean_of([])], [])


def test_resamples_in_which_a_score_is_not_defined_are_left_out():
    (found,) = b.bootstrap([b.r2([0.0, 1.0], [0.1, 0.8])], [0, 0], resamples=200)
    assert not np.isfinite(found).all() and np.isfinite(found).any()
    assert np.isfinite(interval(found)).all()
