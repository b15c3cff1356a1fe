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


def compared(areas, counts, number, own=0.5, spread=0.1, images=150):
    """Scores and resamples of binormal networks of these true areas, on images of two kinds."""
    random = np.random.default_rng(number)
    targets = np.repeat([0, 1], images)
    whole = np.ones((2 * images, 1), np.uint16)
    shared = random.normal(size=2 * images)  # what all networks find hard
    scores, resampled = [], []
    for area, count in zip(areas, counts, strict=True):
        statistics = []
        for _ in range(count):
            noise = (shared + own * random.normal(size=2 * images)) / np.hypot(1, own)
            apart = np.sqrt(2) * norm.ppf(area) + random.normal(0, spread)
            found = apart * targets + noise
            statistics.append(b.macro_auc(targets, np.stack([-found, found], 1)))
        scores.append([float(one(whole)[0]) for one in statistics])
        resampled.append(b.bootstrap(statistics, targets, resamples=200, seed=number))
    means = np.array([np.mean(own_scores) for own_scores in scores])
    noise = SampleNoise.of(resampled)
    return Components(scores, noise, 2 * images - 2, means * (1 - means))


@pytest.mark.parametrize(
    ("areas", "counts"),
    [([0.95] * 3, [3] * 3), ([0.985, 0.985, 0.93, 0.90, 0.85, 0.80], [2] * 6),
     ([0.97, 0.97, 0.90, 0.85], [1, 2, 2, 2]), ([0.995, 0.85, 0.85, 0.85], [1, 2, 2, 2])],
)  # fmt: skip
def test_real_resamples_of_good_and_poor_models_cover_too(areas, counts):
    """End to end on 300 images, with few seeds, and with unequal numbers of them."""
    means, differences = [], []
    for number in range(150):
        components = compared(areas, counts, number)
        found, mean = components.differences(), components.means()
        differences.append(abs(found.value[1] - (areas[1] - areas[0])) <= found.half[1])
        low, high = bounded_interval(mean.value[0], mean.half[0])
        means.append(low <= areas[0] <= high)
        assert (mean.error >= np.sqrt(np.diag(components._noise.means)) - 1e-12).all()
    assert np.mean(differences) >= 0.91 and np.mean(means) >= 0.90


def test_without_noise_of_the_test_sample_it_is_the_t_test():
    random = np.random.default_rng(1)
    scores = list(random.normal(0, 1, (2, 4)))
    found = Components(scores, SampleNoise(np.zeros((2, 2)), np.zeros(2))).differences()
    expected = ttest_ind(*scores[::-1])
    assert found.p_value[1] == pytest.approx(expected.pvalue)
    assert found.freedom[1] == pytest.approx(6)
    low, high = expected.confidence_interval()
    assert found.value[1] + found.half[1] * np.array([-1, 1]) == pytest.approx([low, high])
    assert (found.value[0], found.error[0]) == (0, 0)


def test_what_a_run_does_not_share_with_others_is_private():
    random = np.random.default_rng(0)
    common, own = random.normal(size=(2, 40_000)), random.normal(0, 0.5, (2, 3, 40_000))
    noise = SampleNoise.of([common[0] + own[0], (0.6 * common[0] + 0.8 * common[1]) + own[1]])
    assert noise.private == pytest.approx([0.25, 0.25], rel=0.03)
    assert np.diag(noise.means) == pytest.approx([1 + 0.25 / 3] * 2, rel=0.03)
    assert noise.means[0, 1] == pytest.approx(0.6, rel=0.03)
    alone = SampleNoise.of([common[:1], common[1:]])
    assert np.isnan(alone.private).all() and np.diag(alone.means) == pytest.approx(
        [1, 1], rel=0.03
    )


def test_resamples_in_which_a_score_is_not_defined_are_left_out():
    scores = np.random.default_rng(0).normal(size=(2, 2, 50))
    undefined = scores.copy()
    undefined[0, 1, 3], undefined[1, 0, 7] = -np.inf, np.nan
    rest = np.delete(scores, [3, 7], axis=2)
    for found, right in zip(SampleNoise.of(undefined), SampleNoise.of(rest), strict=True):
        assert (found == right).all()


def test_what_the_test_sample_does_to_single_runs_is_not_taken_for_training():
    """Seeds differ by as much as their private noise explains: nothing is left."""
    noise = SampleNoise(np.eye(2) * 3.0, np.full(2, 4.0))
    components = Components([[0.0, 2.0], [1.0, 3.0]], noise)
    assert components.training_variance.tolist() == [0, 0]
    assert components.differences().error[1] == pytest.approx(np.sqrt(6))
    assert components.with_more_seeds(1) == (2.0, 8.0)


def test_with_one_run_each_the_noise_is_that_of_the_test_sample():
    """And speaks of these networks: their whole noise is in it, and none of the training."""
    noise = SampleNoise(np.array([[2.0, 1], [1, 2.0]]), np.full(2, np.nan))
    components = Components([[0.1], [3.1]], noise)
    found = components.differences()
    assert found.error[1] == pytest.approx(np.sqrt(2)) == found.sample_sd[1]
    assert np.isnan(found.training_sd[1]) and np.isinf(found.freedom[1])
    assert np.isnan(components.training_variance).all()


def test_a_model_of_one_run_takes_the_spread_of_the_others():
    noise = SampleNoise(np.eye(3) * 1.5, np.array([0.0, 0.0, np.nan]))
    found = Components([[0, 1, 2], [3, 4, 5], [9]], noise)
    assert found.training_variance == pytest.approx([1, 1, 1])
    assert found.means().error[2] == pytest.approx(np.sqrt(1.5 + 1.0))


def test_a_model_that_is_unlike_the_others_keeps_its_own_spread():
    random = np.random.default_rng(6)
    scores = [random.normal(0, 1, 4) for _ in range(8)] + [random.normal(0, 30, 4)]
    noise = SampleNoise(np.eye(9) * 0.1, np.zeros(9))
    found = Components(scores, noise)
    assert found.own_spread.tolist() == [False] * 8 + [True]
    assert found.training_variance[8] == pytest.approx(np.var(scores[8], ddof=1))
    assert np.ptp(found.training_variance[:8]) == 0 and found.training_variance[0] < 2
    assert found.differences().freedom[8] < 4 < 15 < found.differences().freedom[7]
    two = Components(scores[-2:], SampleNoise(np.eye(2) * 0.1, np.zeros(2)))
    assert not two.own_spread.any()


def test_spreads_are_pooled_in_units_of_the_room_that_scores_have():
    scores = [[0.50, 0.52], [0.980, 0.9816], [1.0, 1.0]]
    means = np.array([np.mean(own) for own in scores])
    noise = SampleNoise(np.zeros((3, 3)), np.zeros(3))
    found = Components(scores, noise, room=means * (1 - means))
    assert found.training_variance[0] / found.training_variance[1] == pytest.approx(
        (0.51 * 0.49 / (0.9808 * 0.0192)) ** 2
    )
    assert found.training_variance[2] == 0
    assert found.differences().freedom[1] == pytest.approx(2)  # the third says nothing


def test_a_poor_model_changes_no_verdict_on_good_ones():
    """Of three regressions: the R2 of the last is spread over seeds seven times as wide."""
    good = [[0.68, 0.69, 0.70], [0.55, 0.60, 0.56]]
    p_values = []
    for scores in (good, [*good, [-0.11, 0.10, 0.02]]):
        room = 1 - np.array([np.mean(own) for own in scores])
        noise = SampleNoise(np.eye(len(scores)) * 1e-5, np.zeros(len(scores)))
        p_values.append(Components(scores, noise, room=room).differences().p_value[1])
    assert p_values[0] < 0.05 and p_values[1] < 0.05


@pytest.mark.parametrize(("difference", "seeds"), [(1, 17), (2, 6), (3, 4), (4, 3)])
def test_seeds_for_a_power_of_80_percent(difference, seeds):
    """As in tables of the t-test of two samples, in sd of the seeds."""
    assert seeds_for(difference, 0.0, 2.0) == seeds
    assert seeds_for(difference, 0.0, 2.0, models=10) <= seeds


def test_no_number_of_seeds_makes_up_for_a_small_test_sample():
    assert seeds_for(1.0, 1.0, 1.0) is None
    assert seeds_for(3.0, 1.0, 0.0) == 2
    assert seeds_for(0.0, 0.0, 0.0) is None
    assert seeds_for(2.0, 0.0, 2.0, tests=12) > seeds_for(2.0, 0.0, 2.0)


@pytest.mark.parametrize("models", [2, 3, 13])
def test_what_could_be_seen_is_seen_four_times_in_five(models):
    """The adjustment for the number of models included; of these only one differs."""
    noise = SampleNoise(np.eye(models) * (0.5 + 0.2 / 3), np.full(models, 0.2))
    scores = [[0.0, 1.0, 2.0]] * models
    visible = float(Components(scores, noise).differences().visible(models - 1)[1])
    random, resolved = np.random.default_rng(models), 0
    for _ in range(1500):
        centres = random.normal(0, np.sqrt(0.5), models)
        centres[1] -= visible
        runs = centres[:, None] + random.normal(0, 1, (models, 3))
        resolved += (
            holm(Components(list(runs), noise).differences().p_value[1:].tolist())[0] < 0.05
        )
    assert 0.74 <= resolved / 1500 <= 0.88


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


def test_the_noise_of_each_model_may_have_its_own_degrees_of_freedom():
    noise = SampleNoise(np.diag([0.01, 0.01]), np.full(2, np.nan))
    found = Components([[0.9], [0.8]], noise, [10.0, 40.0]).means()
    assert found.freedom == pytest.approx([10, 40])
    alone = [Components([[0.9]], SampleNoise(np.array([[0.01]]), np.array([np.nan])), f).means()
             for f in (10.0, 40.0)]  # fmt: skip
    assert found.half == pytest.approx([one.half[0] for one in alone])
