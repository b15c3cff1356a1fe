"""Scores against independent computations, and the real predictions of published models."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    log_loss,
    roc_auc_score,
)

from deeplense_batch.core.scoring.calibration import expected_calibration_error, reliability
from deeplense_batch.core.scoring.curves import macro_roc, precision_recall, roc, thinned
from deeplense_batch.core.scoring.detection import detection_scores, threshold_of_purity
from deeplense_batch.core.scoring.metrics import (
    classification_scores,
    confusion,
    regression_scores,
    softmax,
)
from deeplense_batch.report.significance import auc_standard_error

CLASSES = ("no", "sphere", "vort")


def outputs(samples=500, seed=0, classes=3):
    random = np.random.default_rng(seed)
    targets = random.integers(0, classes, samples)
    logits = random.normal(size=(samples, classes)).astype(np.float32)
    logits[np.arange(samples), targets] += 1.2
    return targets, logits


def test_softmax_survives_large_and_infinite_logits():
    probabilities = softmax(np.float32([[1000, 999, -np.inf], [0, 0, 0]]))
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(
        probabilities, [[1 / (1 + math.exp(-1)), 1 / (1 + math.e), 0], [1 / 3] * 3], rtol=1e-12
    )


def test_scores_agree_with_scikit_learn():
    targets, logits = outputs()
    scores, notes = classification_scores(targets, logits, CLASSES)
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(axis=1, keepdims=True)
    assert not notes
    assert list(scores) == [
        *("auc", "auc_no", "auc_sphere", "auc_vort", "accuracy", "balanced_accuracy", "nll")
    ]
    assert scores["auc"] == pytest.approx(roc_auc_score(targets, p, multi_class="ovr"), abs=1e-12)
    assert scores["accuracy"] == pytest.approx((p.argmax(1) == targets).mean(), abs=1e-12)
    expected = balanced_accuracy_score(targets, p.argmax(1))
    assert scores["balanced_accuracy"] == pytest.approx(expected, abs=1e-12)
    assert scores["nll"] == pytest.approx(log_loss(targets, p), abs=1e-12)


def test_auc_is_the_share_of_pairs_in_the_right_order():
    targets, logits = outputs(samples=90)
    score = softmax(logits)[:, 1]
    difference = score[targets == 1][:, None] - score[targets != 1]
    share = (difference > 0).mean() + 0.5 * (difference == 0).mean()
    assert classification_scores(targets, logits, CLASSES)[0]["auc_sphere"] == pytest.approx(share)


def test_a_class_without_samples_is_undefined_and_left_out_of_the_mean():
    targets, logits = outputs()
    kept = targets != 2
    scores, notes = classification_scores(targets[kept], logits[kept], CLASSES)
    assert scores["auc_vort"] is None
    assert scores["auc"] == pytest.approx((scores["auc_no"] + scores["auc_sphere"]) / 2)
    assert notes == ["auc_vort: no sample of this class", "auc: over 2 of 3 classes"]
    recalls = [(logits[targets == k].argmax(1) == k).mean() for k in (0, 1)]
    assert scores["balanced_accuracy"] == pytest.approx(np.mean(recalls))


def test_one_class_alone_or_no_sample_gives_no_number_and_no_warning(recwarn):
    scores, notes = classification_scores(np.zeros(4, int), outputs(4)[1], CLASSES)
    assert scores["auc"] is None and scores["auc_no"] is None
    assert scores["accuracy"] is not None
    assert "auc_no: no sample of another class" in notes
    empty, notes = classification_scores(np.empty(0, int), np.empty((0, 3)), CLASSES)
    assert set(empty.values()) == {None} and "no sample" in notes
    assert not recwarn.list


def test_a_probability_of_zero_for_the_truth_makes_the_likelihood_undefined():
    logits = np.array([[0.0, -np.inf], [0.0, 1.0], [1.0, 0.0]])
    scores, notes = classification_scores([1, 1, 0], logits, ("lens", "nonlens"))
    assert scores["nll"] is None and any("nll" in note for note in notes)
    assert scores["auc_lens"] == scores["auc_nonlens"]
    json.dumps(scores, allow_nan=False)


@pytest.mark.parametrize(
    ("targets", "logits", "word"),
    [
        ([0, 1], [[0, np.nan, 0], [0, 0, 0]], "1 of 2 samples are not finite"),
        ([0, 1], [[0, np.inf, 0], [0, 0, 0]], "not finite"),
        ([0, 3], np.zeros((2, 3)), "from 0 to 2"),
        ([0, -1], np.zeros((2, 3)), "from 0 to 2"),
        ([0], np.zeros((2, 3)), r"shape \(1, 3\), got \(2, 3\)"),
        ([0, 1], np.zeros(2), r"\(N, K\)"),
    ],
)
def test_arrays_that_do_not_fit_are_errors(targets, logits, word):
    with pytest.raises(ValueError, match=word):
        classification_scores(targets, logits, CLASSES)


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


def test_confusion_counts_rows_of_truth():
    counts = confusion([0, 0, 1, 2], [0, 1, 1, 1], CLASSES)
    assert counts.dtype == np.int64
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [0, 1, 0]]
    assert confusion([], [], CLASSES).tolist() == [[0] * 3] * 3


class TestDetection:
    LENS = np.array([1, 0, 1, 0, 0, 1, 0, 0], bool)
    SCORE = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])

    def test_scores_counted_by_hand(self):
        found, notes = detection_scores(self.LENS, self.SCORE, threshold=0.65, prevalence=0.01)
        assert found["tpr0"] == pytest.approx(1 / 3) and found["tpr10"] == 1.0
        assert found["recall_fpr_1e-2"] == pytest.approx(1 / 3)
        assert found["average_precision"] == pytest.approx((1 + 2 / 3 + 3 / 6) / 3)
        assert found["completeness"] == pytest.approx(2 / 3)
        assert found["purity"] == pytest.approx(0.01 * 2 / 3 / (0.01 * 2 / 3 + 0.99 * 1 / 5))
        assert any("of 5 galaxies that are no lenses" in note for note in notes)

    def test_the_threshold_is_the_most_complete_of_a_purity(self):
        options = {"prevalence": 3 / 8}  # that of the sample: purity is its precision
        assert threshold_of_purity(self.LENS, self.SCORE, purity=0.6, **options) == 0.7
        assert threshold_of_purity(self.LENS, self.SCORE, purity=0.99, **options) == 0.9
        assert threshold_of_purity(self.LENS, -self.SCORE, purity=0.9, **options) is None
        assert threshold_of_purity(self.LENS, self.SCORE, purity=0.3, **options) == 0.2

    def test_one_kind_alone_has_no_scores(self):
        none = np.zeros(8, bool)
        found, (note,) = detection_scores(none, self.SCORE, threshold=0.5, prevalence=0.01)
        assert set(found.values()) == {None} and "nothing to find" in note
        assert threshold_of_purity(none, self.SCORE, purity=0.5, prevalence=0.01) is None


def test_regression_scores():
    true, predicted = np.array([1.0, 2.0, 3.0, np.nan]), np.array([1.5, 2.0, 2.0, 9.0])
    scores, (note,) = regression_scores(true, predicted)
    assert scores["mae"] == pytest.approx(0.5) and scores["bias"] == pytest.approx(-1 / 6)
    assert scores["r2"] == pytest.approx(1 - 1.25 / 2) and "1 of 4 have no true value" in note
    assert regression_scores(true[:1], predicted[:1])[0]["r2"] is None
    assert set(regression_scores([np.nan], [1.0])[0].values()) == {None}


def test_standard_error_of_an_auc():
    assert auc_standard_error(0.994, 2500, 5000) == pytest.approx(0.0011, abs=5e-5)
    assert auc_standard_error(0.994, 1250, 2500) == pytest.approx(0.0016, abs=6e-5)
    assert auc_standard_error(1.0, 10, 20) == 0
    random = np.random.default_rng(0)  # exponential scores, for which the formula is made
    truth = np.arange(150) < 50
    aucs = [
        roc_auc_score(truth, random.exponential(np.where(truth, 4.0, 1.0))) for _ in range(400)
    ]
    assert auc_standard_error(0.8, 50, 100) == pytest.approx(np.std(aucs), rel=0.1)


@pytest.mark.parametrize(
    ("model", "auc", "accuracy"),
    [
        ("resnet", 0.98071, 0.90627),
        ("pi_resnet", 0.98825, 0.93440),
        ("pi_resnet_preprocessed", 0.96507, 0.82293),
    ],
)
def test_published_predictions_give_their_published_scores(real_data, model, auc, accuracy):
    folder = real_data / "predictions" / model
    targets, probabilities = (np.load(folder / f"all_{name}.npy") for name in ("labels", "preds"))
    with np.errstate(divide="ignore"):
        scores, _ = classification_scores(targets, np.log(probabilities), CLASSES)
    assert scores["auc"] == pytest.approx(auc, abs=5.1e-6)
    assert scores["accuracy"] == pytest.approx(accuracy, abs=5.1e-6)


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
