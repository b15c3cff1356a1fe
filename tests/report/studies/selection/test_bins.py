"""Bins of a quantity: equal counts, ties, edges, texts, and who has the quantity at all."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from deeplense_batch.report.studies.selection.bins import (
    bins_between,
    bins_by_value,
    having,
    is_known,
    log_odds,
    quantiles,
)


def test_bins_hold_equally_many():
    values = np.random.default_rng(0).lognormal(size=404)
    bins = quantiles(values, np.ones(404, bool), 30)
    assert len(bins) == 8 and set(bins.counts(np.ones(404, bool))) <= {50, 51}
    expected = pd.qcut(values, 8, labels=False)  # closed on the other side: no value is an edge
    assert (bins.numbers == expected).all()
    assert (bins.edges[0], bins.edges[-1]) == (values.min(), values.max())


@pytest.mark.parametrize(("images", "expected"), [(10, 2), (89, 2), (90, 3), (5000, 8)])
def test_there_are_as_many_bins_as_leave_enough_in_each(images, expected):
    values = np.random.default_rng(1).normal(size=images)
    assert len(quantiles(values, np.ones(images, bool), 30)) == expected


def test_only_the_counted_are_divided_equally_and_the_outer_bins_hold_all():
    values = np.concatenate([np.linspace(1, 2, 120), np.linspace(0, 5, 77)])
    lens = np.arange(197) < 120
    bins = quantiles(values, lens, 30)
    assert bins.counts(lens) == [30, 30, 30, 30]
    assert sum(bins.counts(~lens)) == 77 and bins.edges[0] == 0 and bins.edges[-1] == 5


def test_equal_values_are_never_parted():
    values = np.concatenate([np.full(200, 1.5), np.linspace(2, 3, 40)])
    bins = quantiles(values, np.ones(240, bool), 30)
    assert len({*bins.numbers[:200].tolist()}) == 1
    assert sum(bins.counts(np.ones(240, bool))) == 240 and min(bins.counts(values > 0)) > 0
    # the most frequent value is the largest
    bins = quantiles(5 - values, np.ones(240, bool), 30)
    assert len({*bins.numbers[:200].tolist()}) == 1
    assert sum(bins.counts(np.ones(240, bool))) == 240
    # all that are counted are the least
    bins = quantiles(values, values == 1.5, 30)
    assert bins.edges == (1.5, 3.0) and bins.counts(values > 0) == [240]


def test_few_numbers_have_a_bin_for_each():
    values = np.array([0, 1, 3, 1, 0, 3, 3])
    bins = quantiles(values, np.ones(7, bool), 30)
    assert bins.labels == ("0", "1", "3") and bins.edges is None
    assert bins.counts(values >= 0) == [2, 2, 3]
    assert quantiles(np.full(9, 0.5), np.ones(9, bool), 30).labels == ("0.5",)


def test_given_edges_hold_their_lower_end_and_the_last_both():
    values = np.array([0.4, 0.5, 1.0, 1.49, 2.0, 2.1, np.nan, np.inf])
    bins = bins_between(values, [0.5, 1, 2])
    assert bins.numbers.tolist() == [-1, 0, 1, 1, 1, -1, -1, -1]
    assert bins.labels == ("0.5 to 1", "1 to 2") and bins.edges == (0.5, 1.0, 2.0)
    with pytest.raises(ValueError, match="no image has a value from 7 to 9"):
        bins_between(values, [7, 9])
    with pytest.raises(ValueError, match="texts, which no edges part"):
        bins_between(np.array(["a"], object), [0, 1])


def test_texts_have_a_bin_for_each_and_many_are_refused():
    fields = np.array(["b", "", "a", "b"], object)
    bins = quantiles(fields, np.ones(4, bool), 30)
    assert bins.labels == ("a", "b") and bins.numbers.tolist() == [1, -1, 0, 1]
    assert len(bins_by_value(np.array(list("abcdefghijkl"), object))) == 12
    with pytest.raises(ValueError, match="13 different texts, at most 12"):
        bins_by_value(np.array(list("abcdefghijklm"), object))


@pytest.mark.parametrize("values", [np.full(4, np.nan), np.array([""] * 4, object)])
def test_nothing_known_is_refused(values):
    assert not is_known(values).any()
    with pytest.raises(ValueError, match="no image has a value"):
        quantiles(values, np.ones(4, bool), 30)


def test_a_class_of_zeros_and_unknowns_does_not_have_the_quantity():
    targets = np.array([0, 0, 1, 1, 2, -1])
    assert having(np.array([0, np.nan, 0, 1.2, np.nan, 3]), targets, 3) == [1]
    assert having(np.array(["a", "", "", "", "b", "c"], object), targets, 3) == [0, 2]
    assert having(np.array([0, 0, 0, 0, 0, 5]), targets, 3) == []


def test_evidence_is_the_log_odds_and_never_saturates():
    logits = np.array([[1.0, 2.0, -1.0], [60.0, -30.0, 0.0]])
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = np.log(np.exp(logits[:, 0]) + np.exp(logits[:, 2])) - logits[:, 1]
    assert log_odds(probabilities, [0, 2]) == pytest.approx(expected)
