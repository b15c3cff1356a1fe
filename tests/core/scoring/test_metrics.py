"""Scores against independent computations, and the real predictions of published models."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from made_arrays import outputs
from sklearn.metrics import (
    balanced_accuracy_score,
    log_loss,
    roc_auc_score,
)

from deeplense_batch.core.scoring.auc import auc_standard_error
from deeplense_batch.core.scoring.metrics import (
    classification_scores,
    confusion,
    regression_scores,
    softmax,
)

CLASSES = ("no", "sphere", "vort")


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


def test_confusion_counts_rows_of_truth():
    counts = confusion([0, 0, 1, 2], [0, 1, 1, 1], CLASSES)
    assert counts.dtype == np.int64
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [0, 1, 0]]
    assert confusion([], [], CLASSES).tolist() == [[0] * 3] * 3


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
