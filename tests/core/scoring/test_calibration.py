"""Whether the probabilities of a classifier are honest, and how to make them so."""

from __future__ import annotations

import numpy as np
import pytest
from made_arrays import outputs

from deeplense_batch.core.scoring.calibration import expected_calibration_error, reliability
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
