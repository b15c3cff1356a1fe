"""Means over the runs of a model, and their intervals."""

from __future__ import annotations

import numpy as np
import pytest
from made_arrays import sample

from deeplense_batch.core.scoring.auc import auc_interval
from deeplense_batch.core.scoring.proportions import wilson
from deeplense_batch.report.predictions import Predictions
from deeplense_batch.report.studies.selection.bins import Bins
from deeplense_batch.report.studies.selection.measures import InBins
from deeplense_batch.report.studies.selection.numbers import numbers

N = 200


def run_of(probability, targets, threshold=0.5):
    """A run of a search, by its probability of class 1."""
    both = np.stack([1 - probability, probability], 1)
    called = None if threshold is None else probability >= threshold
    return Predictions(np.arange(N).astype(str), targets, ("no", "lens"), both, called=called)


@pytest.fixture
def images():
    targets = np.arange(N) % 2
    bins = Bins(np.where(targets == 1, np.arange(N) // 100, -1), ("low", "high"))
    return InBins(bins, targets, (1,), 1)


def test_a_number_is_the_mean_over_runs_and_its_interval_that_of_resamples(images):
    random, targets = np.random.default_rng(0), images.targets
    found = [np.clip(0.5 + 0.2 * (targets - 0.5) + 0.2 * random.normal(size=N), 0.01, 0.99)
             for _ in range(2)]  # fmt: skip
    answers = {"a": [run_of(one, targets) for one in found]}
    names, (row,) = numbers(answers, images, targets, None)
    assert names == ["completeness", "auc"] and (row["label"], row["runs"]) == ("a", 2)
    for k, cell in enumerate(row["numbers"]["completeness"]):
        here = images.holds(k)
        each = [(one[here] >= 0.5).mean() for one in found]
        assert cell["runs"] == pytest.approx(each) and cell["value"] == pytest.approx(
            sum(each) / 2
        )
        means = np.mean([one[here] >= 0.5 for one in found], 0)  # of 50 lenses
        drawn = random.choice(means, (20_000, len(means))).mean(1)
        expected = np.quantile(drawn, [0.025, 0.975])
        assert [cell["low"], cell["high"]] == pytest.approx(expected, abs=0.02)


def test_without_noise_the_interval_is_that_by_the_number_of_images(images):
    targets = images.targets
    answers = {"a": [run_of(np.where(targets == 1, 0.9, 0.1), targets)]}
    _, (row,) = numbers(answers, images, targets, None)
    first, _ = row["numbers"]["completeness"]
    low, high = map(float, wilson(50, 50))
    assert (first["value"], first["low"], first["high"]) == pytest.approx((1, low, high))
    first, _ = row["numbers"]["auc"]
    assert (first["low"], first["high"]) == pytest.approx(auc_interval(1.0, 50, 100))


def test_groups_are_drawn_as_wholes(images):
    """Each of 20 groups is right or wrong throughout: the interval is that of 20 draws, wider."""
    targets = images.targets
    groups = np.arange(N) // 10
    answers = {"a": [run_of(np.where(groups % 3 == 0, 0.9, 0.1), targets)]}
    single = numbers(answers, images, targets, None)[1][0]["numbers"]["completeness"][0]
    whole = numbers(answers, images, targets, groups)[1][0]["numbers"]["completeness"][0]
    assert whole["value"] == single["value"]
    assert whole["high"] - whole["low"] > 1.5 * (single["high"] - single["low"])


def test_a_run_without_a_threshold_leaves_the_mean_to_the_others(images):
    targets = images.targets
    half = np.where(np.arange(N) % 4 == 1, 0.9, 0.1)
    answers = {"a": [run_of(half, targets, None), run_of(half, targets)]}
    _, (row,) = numbers(answers, images, targets, None)
    first = row["numbers"]["completeness"][0]
    assert first["runs"] == [None, 0.5] and first["value"] == 0.5
    _, (row,) = numbers({"a": [run_of(half, targets, None)]}, images, targets, None)
    assert set(row["numbers"]) == {"auc"}


def test_nothing_to_measure_gives_no_number():
    targets, scores = sample(2, N)
    bins = Bins(np.where(np.arange(len(targets)) < 3, 0, -1), ("three",))
    samples = Predictions(np.arange(len(targets)).astype(str), targets, ("a", "b"), scores)
    images = InBins(bins, targets, (0, 1), None)
    names, (row,) = numbers({"m": [samples]}, images, targets, None)
    assert row["numbers"] == {name: [None] for name in names}
