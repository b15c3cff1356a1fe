"""Whether the probabilities of a classifier are honest, and how to make them so."""

from __future__ import annotations

import numpy as np
import pytest
from made_arrays import outputs
from scipy.special import expit

from deeplense_batch.core.scoring.calibration import (
    calibration_error_floor,
    expected_calibration_error,
    rare_edges,
    rare_reliability,
    reliability,
    slope_and_offset,
)
from deeplense_batch.core.scoring.metrics import softmax


def test_reliability_by_hand():
    p = np.array([[0.9, 0.1], [0.85, 0.15], [0.4, 0.6], [0.5, 0.5], [1.0, 0.0]])
    confidence, accuracy, count = reliability([0, 1, 1, 1, 0], p, bins=5)
    assert count.tolist() == [0, 0, 2, 0, 3]  # a bin holds its upper edge: 0.6, not 0.4
    np.testing.assert_allclose(confidence[[2, 4]], [0.55, 2.75 / 3])
    np.testing.assert_allclose(accuracy[[2, 4]], [0.5, 2 / 3])
    assert np.isnan(confidence[[0, 1, 3]]).all() and np.isnan(accuracy[[0, 1, 3]]).all()
    error = expected_calibration_error([0, 1, 1, 1, 0], p, bins=5)
    assert error == pytest.approx((2 * 0.05 + 3 * 0.25) / 5)


def test_the_calibration_error_agrees_with_a_loop_over_the_bins():
    targets, logits = outputs(2000)
    p = softmax(3 * logits)  # too sure
    sure, right = p.max(1), p.argmax(1) == targets
    gaps = 0.0
    for low in np.arange(15) / 15:
        inside = (sure > low) & (sure <= low + 1 / 15)
        if inside.any():
            gaps += inside.sum() * abs(right[inside].mean() - sure[inside].mean())
    assert expected_calibration_error(targets, p) == pytest.approx(gaps / 2000, abs=1e-9)
    assert expected_calibration_error(targets, p) > 0.1
    honest = np.random.default_rng(0)
    p = softmax(honest.normal(size=(50_000, 3)))
    drawn = (honest.random((50_000, 1)) > p.cumsum(1)).sum(1)
    assert expected_calibration_error(drawn, p) < 0.01


def test_what_cannot_be_calibrated_is_refused():
    with pytest.raises(ValueError, match=r"probabilities: expected shape \(3, K\), got \(2, 3\)"):
        reliability([0, 1, 2], np.eye(3)[:2])
    with pytest.raises(ValueError, match="needs a sample"):
        expected_calibration_error([], np.empty((0, 3)))
    for positive, odds in (([1, 1], [0.0, 1.0]), ([0, 1], [0.0, np.nan]), ([0, 1], [0.0])):
        with pytest.raises(ValueError, match="finite log odds of samples of both classes"):
            slope_and_offset(positive, odds)


def test_the_floor_is_what_perfect_probabilities_get():
    """Of 200 sets whose labels were drawn of the probabilities 5 % lie above its quantile."""
    random = np.random.default_rng(1)
    p = softmax(2 * random.normal(size=(300, 3)))
    mean, quantile = calibration_error_floor(p)
    drawn = [(random.random((300, 1)) > p.cumsum(1)).sum(1) for _ in range(200)]
    errors = np.array([expected_calibration_error(labels, p) for labels in drawn])
    assert mean == pytest.approx(errors.mean(), rel=0.1)
    assert 2 <= (errors > quantile).sum() <= 20
    assert calibration_error_floor(p[::-1]) == (mean, quantile)
    assert calibration_error_floor(np.tile(p, (100, 1)))[1] < quantile / 5
    assert calibration_error_floor(np.eye(3)) == (0, 0)


def test_slope_and_offset_of_a_balanced_sampler_are_found_and_sums_are_right():
    """A balanced sampler adds the log odds of the training share, and focal loss a slope."""
    random = np.random.default_rng(0)
    truth = random.normal(-4, 2, 20_000)
    positive = random.random(20_000) < expit(truth)
    seen = 0.5 * truth + 2.8
    slope, offset = slope_and_offset(positive, seen)
    assert slope == pytest.approx(2, rel=0.05) and offset == pytest.approx(-5.6, rel=0.05)
    assert expit(slope * seen + offset).sum() == pytest.approx(positive.sum(), abs=1)
    assert expit(seen).sum() > 5 * positive.sum()


@pytest.mark.parametrize(
    ("positive", "odds", "slope"),
    [
        ([0, 0, 1, 1], [-1.0, -2.0, 3.0, 4.0], None),  # a threshold tells all apart
        ([1, 1, 0, 0], [-1.0, -2.0, 3.0, 4.0], 0.05),  # worse than chance: as flat as may be
        ([0, 1, 0, 0], [2.0, 2.0, 2.0, 2.0], 1.0),  # all alike
        ([0, 0, 1, 1], [-1e6, -2e6, 3e6, 4e6], 0.05),
    ],
)
def test_slope_and_offset_are_finite_and_keep_the_order(positive, odds, slope):
    found, offset = slope_and_offset(positive, odds)
    assert np.isfinite(offset) and (found == pytest.approx(slope) if slope else 0.1 < found < 5)
    sums = expit(found * np.array(odds) + offset).sum()
    assert sums == pytest.approx(sum(positive), abs=0.51)  # what Platt's targets add


def test_a_rare_class_is_counted_in_bins_of_three_a_decade():
    edges = rare_edges()
    assert len(edges) == 14 and edges[[0, 1, 4, 13]] == pytest.approx([0, 1e-4, 1e-3, 1])
    bins = rare_reliability([0, 0, 1, 1, 1], [0, 5e-5, 0.0012, 0.0014, 1.0])
    assert bins.samples[[0, 4, 12]].tolist() == [2, 2, 1] and bins.samples.sum() == 5
    assert bins.positives[[0, 4, 12]].tolist() == [0, 2, 1]
    assert bins.probability[[0, 4]] == pytest.approx([2.5e-5, 0.0013])
    assert np.isnan(bins.probability[1])
    share, low, high = bins.shares()
    assert share[[0, 4]].tolist() == [0, 1] and 0 < low[4] < high[4] == 1 and low[0] == 0
    assert (low[1], high[1]) == (0, 1)
