"""What is lost from one sample of images to another, and how often its interval is right."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm, t

from deeplense_batch.core.scoring.auc import auc_interval
from deeplense_batch.report.statistics.bootstrap import bootstrap, macro_auc
from deeplense_batch.report.studies.losses import OnBoth, OnOne, lost


def on_one(scores, draws, freedom=1000.0, room=0.1, width=0.0):
    return OnOne(np.array(scores), np.array(draws), freedom, room, width)


def test_the_noise_of_two_test_sets_adds_up():
    """One network: nothing is known of its training, and both samples are independent."""
    random = np.random.default_rng(0)
    own, other = random.normal(0.9, 0.02, (1, 4000)), random.normal(0.7, 0.05, (1, 4000))
    pair = OnBoth(on_one([0.9], own, 100.0), on_one([0.7], other, 20.0))
    found = lost([pair])
    assert found.value[0] == pytest.approx(0.2)
    assert found.error[0] == pytest.approx(np.hypot(0.02, 0.05), rel=0.03)
    assert np.isnan(found.training_sd[0])
    parts = np.array([own.var(ddof=1), other.var(ddof=1)])
    freedom = parts.sum() ** 2 / (parts**2 / [100, 20]).sum()
    assert found.freedom[0] == pytest.approx(freedom)
    assert found.half[0] == pytest.approx(t.ppf(0.975, freedom) * found.error[0])


def test_the_spread_over_seeds_counts_where_samples_do_not_explain_it():
    draws = np.random.default_rng(1).normal(0, 1e-4, (3, 2000))
    own, other = [0.95, 0.95, 0.95], [0.60, 0.70, 0.80]
    found = lost([OnBoth(on_one(own, draws), on_one(other, draws[::-1]))])
    assert found.error[0] == pytest.approx(0.1 / np.sqrt(3), rel=0.01)
    assert found.freedom[0] == pytest.approx(2, rel=0.01)


def test_an_area_of_one_has_the_noise_of_so_few_samples():
    low, high = auc_interval(1.0, 9, 9)
    certain = on_one([1.0], np.ones((1, 2000)), 16.0, 0.0, high - low)
    draws = np.random.default_rng(2).normal(0.7, 0.001, (1, 2000))
    found = lost([OnBoth(certain, on_one([0.7], draws))])
    assert found.error[0] == pytest.approx((high - low) / 1.96, rel=0.01)


def answers(random, skills, images):
    """Targets (N,) and probabilities (n, N, 2): noise of the images, shared, and of each network.

    Their true difference in mean AUC is that of the mean over skills.
    """
    targets = np.arange(images) % 2
    shared = random.normal(size=images)
    scores = skills[:, None] * targets + shared + 0.5 * random.normal(size=(len(skills), images))
    return targets, np.stack([-scores, scores], axis=2)


def test_intervals_of_a_loss_cover_it():
    """Made networks, three seeds; true AUCs by many images. 200 repeats: 0.95 +- 0.03."""
    random, covered = np.random.default_rng(3), []
    skill, spread = {"own": 2.5, "other": 1.2}, 0.15

    def true(mean):
        skills = random.normal(mean, spread, 400)
        return norm.cdf(skills / np.sqrt(2 * 1.25)).mean()

    truth = true(skill["own"]) - true(skill["other"])
    for repeat in range(200):
        sides = []
        for side, (name, images) in enumerate({"own": 200, "other": 60}.items()):
            skills = random.normal(skill[name], spread, 3)
            targets, scores = answers(random, skills, images)
            statistics = [macro_auc(targets, one) for one in scores]
            draws = bootstrap(statistics, targets, resamples=200, seed=2 * repeat + side)
            every = np.ones((images, 1), np.uint16)
            values = np.array([float(one(every)[0]) for one in statistics])
            room = float(values.mean() * (1 - values.mean()))
            sides.append(OnOne(values, draws, images - 2, room))
        found = lost([OnBoth(*sides)])
        covered.append(abs(found.value[0] - truth) <= found.half[0])
    assert 0.90 <= np.mean(covered) <= 0.995
