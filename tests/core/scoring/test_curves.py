"""How well scores rank samples of one class before others: curves, as arrays."""

from __future__ import annotations

import numpy as np
import pytest
from made_arrays import outputs
from sklearn.metrics import average_precision_score

from deeplense_batch.core.scoring.curves import macro_roc, precision_recall, roc, thinned
from deeplense_batch.core.scoring.metrics import softmax

CLASSES = ("no", "sphere", "vort")


def test_the_macro_curve_averages_curves_and_is_not_the_micro_average():
    targets, logits = outputs(samples=120)
    p = softmax(logits * [1.0, 3.0, 0.2])
    curves = {name: roc(targets == k, p[:, k]) for k, name in enumerate(CLASSES)}
    fpr, tpr = macro_roc(curves)
    areas = [np.trapezoid(y, x) for x, y in curves.values()]
    assert np.trapezoid(tpr, fpr) == pytest.approx(np.mean(areas), abs=1e-12)
    micro = roc(np.eye(3)[targets].ravel() > 0, p.ravel())
    assert abs(np.trapezoid(micro[1], micro[0]) - np.mean(areas)) > 1e-3
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(fpr) >= 0).all() and (np.diff(tpr) >= -1e-12).all()


def test_curves_that_do_not_exist():
    with pytest.raises(ValueError, match="another"):
        roc(np.ones(3), np.arange(3))
    assert [len(axis) for axis in macro_roc({})] == [0, 0]


def test_steps_of_precision_have_the_area_average_precision():
    random = np.random.default_rng(0)
    for scale in (0.1, 100.0):  # many ties, and none
        positive = random.random(800) < 0.05
        scores = np.round((random.normal(size=800) + 2 * positive) / scale)
        recall, precision = precision_recall(positive, scores)
        assert (np.diff(recall) >= 0).all() and (recall[0], recall[-1]) == (0, 1)
        assert np.sum(recall == 1) == 1
        area = np.sum(np.diff(recall) * precision[1:])
        assert area == pytest.approx(average_precision_score(positive, scores))
    for same in (np.ones(4), np.zeros(4)):
        with pytest.raises(ValueError, match="of the class and samples of another"):
            precision_recall(same, np.arange(4))


def test_a_thinned_curve_has_its_shape_on_both_kinds_of_axes():
    random = np.random.default_rng(1)
    positive = random.random(200_000) < 0.1
    scores = random.normal(size=200_000) + 2.5 * positive
    curve = roc(positive, scores)
    x, y = thinned(curve)
    assert len(curve[0]) > 5000 and len(x) <= 400
    assert [x[0], y[0], x[-1], y[-1]] == [0, 0, 1, 1]
    grid = np.concatenate([np.geomspace(1e-4, 1, 500), np.linspace(0, 1, 500)])
    difference = np.interp(grid, x, y) - np.interp(grid, *curve)
    assert np.abs(difference).max() < 0.02
    few = (np.array([0.0, 0.5, 1.0]), np.array([0.0, 0.9, 1.0]))
    assert thinned(few) is few
