"""What is measured in a bin, against scikit-learn and numpy on the images of the bin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, r2_score, recall_score, roc_auc_score

from deeplense_batch.report.predictions import Predictions
from deeplense_batch.report.studies.selection.bins import Bins, bins_between
from deeplense_batch.report.studies.selection.measures import InBins, measures

N = 300
RANDOM = np.random.default_rng(5)
THETA = RANDOM.uniform(0.5, 2, N)
EDGES = (0.5, 1.0, 1.5, 2.0)


def answered(classes, *, skill=1.5):
    """Predictions of rotating classes, and their numbers."""
    targets = np.arange(N) % classes
    logits = skill * np.eye(classes)[targets] + RANDOM.normal(size=(N, classes))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    names = tuple("abc"[:classes])
    return Predictions(np.arange(N).astype(str), targets, names, probabilities), targets


def calling(samples, threshold):
    """The same, with what reaches a threshold of the second class."""
    return replace(samples, called=samples.probabilities[:, 1] >= threshold)


def sorted_by(values, targets, have, searched=None):
    own = np.isin(targets, have) if have else np.ones(N, bool)
    return InBins(bins_between(np.where(own, values, np.nan), EDGES), targets, have, searched)


def values_of(found, name):
    """The numbers of the whole test slice, bin by bin."""
    return [None if one is None else float(one.statistic(np.ones((N, 1), np.uint16))[0])
            for one in found[name]]  # fmt: skip


def inside(bin_):
    return (EDGES[bin_] <= THETA) & ~(EDGES[bin_ + 1] < THETA)


def test_of_a_search_for_what_alone_has_the_quantity():
    samples, targets = answered(2)
    score, lens = samples.probabilities[:, 1], targets == 1
    found = measures(calling(samples, 0.6), sorted_by(THETA, targets, (1,), 1))
    assert set(found) == {"completeness", "auc"}
    for k in range(3):
        here = lens & inside(k)
        assert values_of(found, "completeness")[k] == pytest.approx((score[here] >= 0.6).mean())
        some = here | ~lens  # against all others
        expected = roc_auc_score(lens[some], score[some])
        assert values_of(found, "auc")[k] == pytest.approx(expected)


def test_of_a_search_for_what_shares_the_quantity_with_others():
    samples, targets = answered(2)
    score, lens = samples.probabilities[:, 1], targets == 1
    found = measures(calling(samples, 0.6), sorted_by(THETA, targets, (0, 1), 1))
    assert set(found) == {"completeness", "purity", "auc"}
    for k in range(3):
        here = inside(k)
        recall = recall_score(lens[here], score[here] >= 0.6)
        assert values_of(found, "completeness")[k] == pytest.approx(recall)
        assert values_of(found, "purity")[k] == pytest.approx(lens[here & (score >= 0.6)].mean())
        expected = roc_auc_score(lens[here], score[here])
        assert values_of(found, "auc")[k] == pytest.approx(expected)


def test_of_a_search_where_only_the_others_have_the_quantity():
    samples, targets = answered(2)
    score, lens = samples.probabilities[:, 1], targets == 1
    found = measures(calling(samples, 0.6), sorted_by(THETA, targets, (0,), 1))
    assert set(found) == {"false_positive_rate", "auc"}
    for k in range(3):
        here = ~lens & inside(k)
        assert values_of(found, "false_positive_rate")[k] == pytest.approx(
            (score[here] >= 0.6).mean()
        )
        some = here | lens
        expected = roc_auc_score(lens[some], score[some])
        assert values_of(found, "auc")[k] == pytest.approx(expected)


def test_without_a_threshold_nothing_is_found_but_the_area():
    samples, targets = answered(2)
    assert set(measures(samples, sorted_by(THETA, targets, (1,), 1))) == {"auc"}


def test_of_classes_that_all_have_the_quantity():
    samples, targets = answered(3)
    found = measures(samples, sorted_by(THETA, targets, (0, 1, 2)))
    for k in range(3):
        t, p = targets[inside(k)], samples.probabilities[inside(k)]
        assert values_of(found, "accuracy")[k] == pytest.approx(accuracy_score(t, p.argmax(1)))
        expected = roc_auc_score(t, p, multi_class="ovr", average="macro")
        assert values_of(found, "auc")[k] == pytest.approx(expected)


def test_of_classes_of_which_some_have_the_quantity():
    samples, targets = answered(3)
    p = samples.probabilities
    found = measures(samples, sorted_by(THETA, targets, (1, 2)))
    for k in range(3):
        here = (targets > 0) & inside(k)
        assert values_of(found, "recall")[k] == pytest.approx(
            (p.argmax(1) == targets)[here].mean()
        )
        some = here | (targets == 0)
        expected = roc_auc_score(targets[some] > 0, p[some, 1] + p[some, 2])
        assert values_of(found, "auc")[k] == pytest.approx(expected)


def test_of_a_regression():
    true = RANDOM.normal(size=N)
    predicted = true + 0.3 * RANDOM.standard_t(4, N)
    samples = Predictions(np.arange(N).astype(str), np.full(N, -1), (),
                          numbers=np.stack([true, predicted], 1))  # fmt: skip
    found = measures(samples, sorted_by(THETA, samples.targets, ()))
    for k in range(3):
        error = (predicted - true)[inside(k)]
        low, high = np.quantile(error, [0.16, 0.84], method="averaged_inverted_cdf")
        expected = {
            "median_error": np.median(error), "scatter": (high - low) / 2, "bias": error.mean(),
            "mae": np.abs(error).mean(), "r2": r2_score(true[inside(k)], predicted[inside(k)]),
        }  # fmt: skip
        for name, value in expected.items():
            assert values_of(found, name)[k] == pytest.approx(value), name


def test_a_bin_of_few_has_no_number_and_one_of_five_has():
    samples, targets = answered(2)
    numbers = np.full(N, -1)
    numbers[np.flatnonzero(targets == 1)[:4]] = 0
    numbers[np.flatnonzero(targets == 1)[4:9]] = 1
    images = InBins(Bins(numbers, ("few", "five")), targets, (1,), 1)
    found = measures(calling(samples, 0.5), images)
    for name in ("completeness", "auc"):
        few, five = found[name]
        assert few is None and five is not None


def test_a_class_that_a_bin_lacks_leaves_it_without_an_area():
    """The mean over the classes that are left would be that of an easier question."""
    samples, targets = answered(3)
    numbers = np.where(targets == 2, 1, np.arange(N) // 3 % 2)
    found = measures(samples, InBins(Bins(numbers, ("a", "b")), targets, (0, 1, 2), None))
    assert found["auc"][0] is None and found["auc"][1] is not None
    assert None not in found["accuracy"]
