"""The scores of pooled folds, against scikit-learn and NumPy on the outputs of the members."""

from __future__ import annotations

import numpy as np
import pytest
from made_folds import FOLDS, SAMPLES, TARGETS, fold_run, logits_of
from sklearn.metrics import average_precision_score, log_loss, r2_score, roc_auc_score

from deeplense_batch.core.scoring.metrics import softmax
from deeplense_batch.report.predictions import PredictionsError
from deeplense_batch.report.run_table import read_rows
from deeplense_batch.report.studies.fold_scores import fold_scores

FOLD_OF = np.arange(SAMPLES) % FOLDS + 1


def pooled_logits(skill=1.0):
    return np.stack([logits_of("resnet18", 0, FOLD_OF[i], skill)[i] for i in range(SAMPLES)])


def by_fold(root):
    return sorted(read_rows(root), key=lambda row: row["test"])


def test_pooled_scores_are_those_of_the_outputs_put_together(tmp_path):
    temperatures = {1: 0.5, 2: 1.0, 3: 2.0}
    for fold, value in temperatures.items():
        fold_run(tmp_path, fold, scores={"temperature": value, "ece": 0.1, "ece_calibrated": 0.1})
    found = fold_scores(by_fold(tmp_path))
    logits = pooled_logits()
    probabilities = softmax(logits)
    own = [roc_auc_score(k == TARGETS, probabilities[:, k]) for k in range(3)]
    assert [found.scores[f"auc_{name}"] for name in ("no", "sphere", "vort")] == pytest.approx(own)
    assert found.scores["auc"] == pytest.approx(np.mean(own))
    assert found.scores["accuracy"] == (probabilities.argmax(1) == TARGETS).mean()
    assert found.scores["nll"] == pytest.approx(log_loss(TARGETS, probabilities))
    honest = softmax(logits / np.array([temperatures[fold] for fold in FOLD_OF])[:, None])
    assert found.scores["nll_calibrated"] == pytest.approx(log_loss(TARGETS, honest))
    bins = np.ceil(honest.max(1) * 15)
    gaps = [abs((honest.argmax(1) == TARGETS)[bins == b].mean() - honest.max(1)[bins == b].mean())
            * (bins == b).mean() for b in np.unique(bins)]  # fmt: skip
    assert found.scores["ece_calibrated"] == pytest.approx(sum(gaps))
    assert (found.samples, found.class_counts) == (90, {"no": 30, "sphere": 30, "vort": 30})
    assert "which no pooled score has" in found.notes[-1] and "temperature" in found.notes[-1]


def test_notes_of_all_folds_are_said_once_and_those_of_one_with_its_number(tmp_path):
    for fold in (1, 2, 3):
        fold_run(tmp_path, fold, notes=["data: odd", *["slow"] * (fold == 2)])
    notes = fold_scores(by_fold(tmp_path)).notes
    assert notes[0].startswith("each image is scored by one of 3 networks, that which neither")
    assert notes.count("data: odd") == 1 and "fold 2: slow" in notes


def test_a_search_counts_what_each_network_called_a_lens(tmp_path, monkeypatch):
    lens, thresholds = np.arange(SAMPLES) % 5 == 0, {1: 0.4, 2: 0.7, 3: 0.9}
    logits = np.random.default_rng(0).normal(size=(SAMPLES, 2)) + 2 * np.eye(2)[lens.astype(int)]
    monkeypatch.setattr("made_folds.CLASSES", ("other", "lens"))
    monkeypatch.setattr("made_folds.TARGETS", lens.astype(int))
    for fold, threshold in thresholds.items():
        fold_run(tmp_path, fold, task={"name": "detection", "options": {"prevalence": 0.1}},
                 learns="lens", arrays={"logits": logits},
                 scores={"threshold": threshold, "slope": fold, "offset": -1.0})  # fmt: skip
    scores = fold_scores(by_fold(tmp_path)).scores
    probability = softmax(logits)[:, 1]
    called = probability >= np.array([thresholds[fold] for fold in FOLD_OF])
    assert scores["average_precision"] == pytest.approx(average_precision_score(lens, probability))
    recall, false = called[lens].mean(), called[~lens].mean()
    assert scores["completeness"] == pytest.approx(recall)
    assert scores["purity"] == pytest.approx(0.1 * recall / (0.1 * recall + 0.9 * false))
    odds = FOLD_OF * (logits[:, 1] - logits[:, 0]) - 1
    assert scores["expected_lenses"] == pytest.approx((1 / (1 + np.exp(-odds))).sum())
    assert "threshold" not in scores


def test_numbers_are_pooled_where_the_true_one_is_known(tmp_path):
    random = np.random.default_rng(1)
    true = random.normal(size=SAMPLES)
    predicted = true + 0.3 * random.normal(size=SAMPLES)
    true[::10] = np.nan
    for fold in (1, 2, 3):
        fold_run(tmp_path, fold, task={"name": "regression"}, learns="mass",
                 arrays={"true": true, "predicted": predicted})  # fmt: skip
    found, known = fold_scores(by_fold(tmp_path)), np.isfinite(true)
    assert found.scores["r2"] == pytest.approx(r2_score(true[known], predicted[known]))
    assert found.samples == known.sum() == 81


def test_folds_that_do_not_go_together_are_refused(tmp_path):
    runs = [fold_run(tmp_path, fold) for fold in (1, 2, 3)]
    rows = by_fold(tmp_path)
    with pytest.raises(PredictionsError, match="two of its test samples have one id"):
        fold_scores([rows[0], rows[1], rows[1]])
    (runs[1].path / "outputs.npz").unlink()
    with pytest.raises(PredictionsError, match=r"of fold 2 of 3 outputs.npz is missing"):
        fold_scores(rows)
