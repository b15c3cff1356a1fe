"""Variance components, by simulation: how often they raise a false alarm, and what they miss."""

from __future__ import annotations

import numpy as np
import pytest
from made_comparisons import RATIOS, SEEDS, simulated
from scipy.stats import norm, ttest_ind

from deeplense_batch.core.scoring.auc import auc_interval
from deeplense_batch.report.statistics import bootstrap as b
from deeplense_batch.report.statistics.variance import (
    Components,
    SampleNoise,
    bounded_interval,
    holm,
    seeds_for,
)


@pytest.mark.parametrize(("models", "times"), [(3, 2000), (13, 600), (60, 300)])
@pytest.mark.parametrize("seeds", SEEDS)
def test_size_and_coverage(models, times, seeds):
    """One difference in twenty is a false alarm, whatever the seeds, the noise and the models."""
    for ratio in RATIOS:
        p_values, coverage = simulated(models, seeds, ratio, times)
        assert 0.03 <= (p_values < 0.05).mean() <= 0.07, ratio
        assert 0.93 <= coverage <= 0.97, ratio


@pytest.mark.parametrize("seeds", SEEDS)
def test_one_false_alarm_in_twenty_comparisons_of_thirteen_models(seeds):
    """Of all twelve differences together, after Holm."""
    p_values, _ = simulated(13, seeds, 1.0, 600)
    assert np.mean([min(holm(list(own))) < 0.05 for own in p_values]) <= 0.08


@pytest.mark.parametrize(
    ("seeds", "ratio", "least"), [(2, 0.3, 0.85), (2, 1, 0.60), (3, 1, 0.79), (5, 2, 0.62),
                                  (10, 2, 0.80)],
)  # fmt: skip
def test_power_for_a_difference_of_four_sd_of_the_test_sample(seeds, ratio, least):
    p_values, coverage = simulated(3, seeds, ratio, 1500, difference=4.0)
    assert (p_values < 0.05).mean() >= least and 0.93 <= coverage <= 0.97


def test_real_resamples_of_real_scores_give_the_same_size():
    """Three recipes of equal networks, three seeds, 240 images: AUC about .96, end to end."""
    random = np.random.default_rng(2)
    targets = np.repeat([0, 1], 120)
    alarms, covered = [], []
    for number in range(250):
        images = random.normal(2.0 * targets, 1.0)
        scores, resampled = [], []
        for _ in range(3):
            recipe = images + random.normal(0, 0.6, len(targets))  # what its networks share
            runs = [recipe + random.normal(0, random.uniform(0.2, 0.5), len(targets))
                    for _ in range(3)]  # fmt: skip
            statistics = [b.macro_auc(targets, np.stack([-run, run], 1)) for run in runs]
            whole = np.ones((len(targets), 1), np.uint16)
            scores.append([float(one(whole)[0]) for one in statistics])
            resampled.append(b.bootstrap(statistics, targets, resamples=200, seed=number))
        found = Components(scores, SampleNoise.of(resampled), 238, bounded=True).differences()
        alarms.append(found.p_value[1:] < 0.05)
        covered.append(np.abs(found.value[1:]) <= found.half[1:])
    assert 0.025 <= np.mean(alarms) <= 0.08 and 0.92 <= np.mean(covered) <= 0.975


def test_without_noise_of_the_test_sample_it_is_the_t_test():
    random = np.random.default_rng(1)
    scores = list(random.normal(0, 1, (2, 4)))
    nothing = SampleNoise(np.zeros(2), np.zeros(2), np.zeros((2, 2)))
    found = Components(scores, nothing).differences()
    expected = ttest_ind(*scores[::-1])
    assert found.p_value[1] == pytest.approx(expected.pvalue)
    assert found.freedom[1] == pytest.approx(6)
    low, high = expected.confidence_interval()
    assert found.value[1] + found.half[1] * np.array([-1, 1]) == pytest.approx([low, high])
    assert (found.value[0], found.error[0]) == (0, 0)


def test_covariances_are_those_of_different_runs():
    random = np.random.default_rng(0)
    common, own = random.normal(size=(2, 40_000)), random.normal(0, 0.5, (2, 3, 40_000))
    noise = SampleNoise.of([common[0] + own[0], (0.6 * common[0] + 0.8 * common[1]) + own[1]])
    assert noise.single == pytest.approx([1.25, 1.25], rel=0.03)
    assert noise.within == pytest.approx([1.0, 1.0], rel=0.03)
    assert noise.between[0, 1] == pytest.approx(0.6, rel=0.03)
    alone = SampleNoise.of([common[:1], common[1:]])
    assert np.isnan(alone.within).all() and alone.single == pytest.approx([1, 1], rel=0.03)


def test_with_one_run_each_the_noise_is_that_of_the_test_sample():
    """And speaks of these networks: their whole noise is in it, and none of the training."""
    noise = SampleNoise(np.array([2.0, 2.0]), np.full(2, np.nan), np.array([[2.0, 1], [1, 2.0]]))
    components = Components([[0.1], [3.1]], noise)
    found = components.differences()
    assert found.error[1] == pytest.approx(np.sqrt(2)) == found.sample_sd[1]
    assert np.isnan(found.training_sd[1]) and np.isinf(found.freedom[1])
    assert np.isnan(components.seed_variance).all()


def test_a_model_of_one_run_takes_the_spread_of_the_others():
    noise = SampleNoise(np.full(3, 1.5), np.array([1.0, 1.0, np.nan]), np.eye(3) * 1.0)
    found = Components([[0, 1, 2], [3, 4, 5], [9]], noise)
    assert found.seed_variance == pytest.approx([1, 1, 1])
    assert found.means().error[2] == pytest.approx(np.sqrt(1.0 + 1.0))  # 1.5 less 0.5, and s^2


def test_a_model_that_is_unlike_the_others_keeps_its_own_spread():
    random = np.random.default_rng(6)
    scores = [random.normal(0, 1, 4) for _ in range(8)] + [random.normal(0, 30, 4)]
    noise = SampleNoise(np.full(9, 0.1), np.full(9, 0.1), np.zeros((9, 9)))
    found = Components(scores, noise)
    assert found.own_spread.tolist() == [False] * 8 + [True]
    assert found.seed_variance[8] == pytest.approx(np.var(scores[8], ddof=1))
    assert np.ptp(found.seed_variance[:8]) == 0 and found.seed_variance[0] < 2
    assert found.differences().freedom[8] < 4 < 15 < found.differences().freedom[7]
    assert not Components(
        scores[-2:], SampleNoise(*(v[:2] for v in noise[:2]), noise.between[:2, :2])
    ).own_spread.any()


def test_what_is_pooled_of_scores_up_to_1_is_the_spread_of_their_logits():
    scores = [[0.50, 0.52], [0.980, 0.9816], [1.0, 1.0]]
    noise = SampleNoise(np.zeros(3), np.zeros(3), np.zeros((3, 3)))
    found = Components(scores, noise, bounded=True)
    assert found.seed_variance[0] / found.seed_variance[1] == pytest.approx(
        (0.51 * 0.49 / (0.9808 * 0.0192)) ** 2
    )
    assert found.seed_variance[2] == 0
    assert found.differences().freedom[1] == pytest.approx(2)  # the third says nothing


@pytest.mark.parametrize(("difference", "seeds"), [(1, 17), (2, 6), (3, 4), (4, 3)])
def test_seeds_for_a_power_of_80_percent(difference, seeds):
    """As in tables of the t-test of two samples, in sd of the seeds."""
    assert seeds_for(difference, 0.0, 1.0) == seeds
    assert seeds_for(difference, 0.0, 1.0, models=10) <= seeds


def test_no_number_of_seeds_makes_up_for_a_small_test_sample():
    assert seeds_for(1.0, 1.0, 0.5) is None
    assert seeds_for(3.0, 1.0, 0.0) == 2
    assert seeds_for(0.0, 0.0, 0.0) is None


def test_what_could_be_seen_is_seen_four_times_in_five():
    noise = SampleNoise(np.full(3, 0.6), np.full(3, 0.5), np.eye(3) * 0.5)
    scores = [[0.0, 1.0, 2.0]] * 3
    visible = float(Components(scores, noise).differences().visible[1])
    p_values, _ = simulated(3, 3, 1.0, 2000, difference=visible)
    assert 0.74 <= (p_values < 0.05).mean() <= 0.86


def test_an_interval_stays_within_0_and_1():
    low, high = bounded_interval(0.99, 0.02)
    assert 0.9 < low < 0.97 and 0.99 < high < 1
    assert bounded_interval(0.5, 0.02) == pytest.approx((0.48, 0.52), abs=1e-4)
    assert bounded_interval(1.0, 0.0) is None and bounded_interval(0.0, 0.1) is None


@pytest.mark.parametrize(("auc", "least"), [(0.942, 0.93), (0.99, 0.92), (0.998, 0.90)])
def test_coverage_of_a_single_auc_near_1(auc, least):
    """Of 300 images; percentiles of the same resamples cover .925, .910 and .853."""
    random = np.random.default_rng(4)
    targets = np.repeat([0, 1], 150)
    covered, by_percentiles = [], []
    separation = np.sqrt(2) * norm.ppf(auc)
    for number in range(600):
        scores = random.normal(separation * targets, 1.0)
        statistic = b.macro_auc(targets, np.stack([-scores, scores], 1))
        area = float(statistic(np.ones((300, 1), np.uint16))[0])
        (values,) = b.bootstrap([statistic], targets, resamples=400, seed=number)
        bounds = bounded_interval(area, 1.96 * values.std(ddof=1)) or auc_interval(area, 150, 150)
        covered.append(bounds[0] <= auc <= bounds[1])
        low, high = np.quantile(values, (0.025, 0.975))
        by_percentiles.append(low <= auc <= high)
    assert np.mean(covered) >= least
    if auc > 0.98:
        assert np.mean(covered) > np.mean(by_percentiles)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []
