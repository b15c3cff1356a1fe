"""The mean of several networks and their spread, against sums by hand."""

from __future__ import annotations

import numpy as np
import pytest

from deeplense_batch.core.scoring.ensembles import (
    in_order_of,
    mean_answers,
    mean_logits,
    mean_probabilities,
    spread,
)
from deeplense_batch.core.scoring.metrics import softmax

A = np.array([[0.2, 0.8], [0.5, 0.5]])
B = np.array([[0.4, 0.6], [0.9, 0.1]])
C = np.array([[0.6, 0.4], [0.1, 0.9]])


def test_probabilities_are_averaged():
    assert mean_probabilities([A, B, C]) == pytest.approx(np.array([[0.4, 0.6], [0.5, 0.5]]))


def test_the_softmax_of_the_logits_gives_the_probabilities():
    logits = mean_logits([A, B])
    assert softmax(logits) == pytest.approx(np.array([[0.3, 0.7], [0.7, 0.3]]), abs=1e-12)


def test_a_probability_of_zero_stays_finite():
    certain = np.array([[0.0, 1.0]])
    logits = mean_logits([certain, certain])
    assert np.isfinite(logits).all() and softmax(logits)[0, 0] < 1e-300


def test_the_spread_is_that_of_a_sample():
    """Of 0.2, 0.4, 0.6: sqrt((0.04 + 0 + 0.04) / 2) = 0.2; of 0.5, 0.9, 0.1: 0.4."""
    assert spread([A, B, C])[:, 0] == pytest.approx([0.2, 0.4])


def test_numbers_are_averaged():
    assert mean_answers([[1.0, 5.0], [3.0, 6.0]]) == pytest.approx([2.0, 5.5])


def test_columns_are_brought_into_an_order_by_name():
    columns = np.array([[1.0, 2.0, 3.0]])
    assert in_order_of(["no", "sphere", "vort"], ["vort", "no", "sphere"], columns).tolist() == [
        [2.0, 3.0, 1.0]
    ]
    with pytest.raises(ValueError, match="expected the classes a, b, got a, c"):
        in_order_of(["a", "b"], ["a", "c"], columns[:, :2])


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ([A], "two members or more, got 1"),
        ([A, B[:1]], r"shapes \(2, 2\) and \(1, 2\)"),
        ([A, B * 2], "rows of sum 1"),
        ([A[:, 0], B[:, 0]], r"expected shape \(N, K\)"),
    ],
)
def test_what_is_no_set_of_members_is_refused(members, fault):
    with pytest.raises(ValueError, match=fault):
        mean_probabilities(members)
