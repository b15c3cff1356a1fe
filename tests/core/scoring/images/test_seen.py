"""What a fixed classifier sees."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from deeplense_batch.core.scoring.images.seen import seen_by_class, seen_scores


def made(targets):
    random = np.random.default_rng(0)
    own = np.eye(4)[np.maximum(targets, 0)]
    return {
        "seen_targets": targets,
        "seen_truth": 3 * own + random.normal(0, 1, own.shape),
        "seen_restored": 2 * own + random.normal(0, 1, own.shape),
        "seen_fitted": own + random.normal(0, 1, own.shape),
    }


def test_the_auc_is_the_mean_over_the_classes_that_are_there():
    targets = np.tile([0, 1, 3, -1], 30)  # none of class 2; some without a label
    outputs = made(targets)
    scores = seen_scores(outputs)
    known = targets >= 0
    for name in ("truth", "restored", "fitted"):
        logits = outputs[f"seen_{name}"][known][:, [0, 1, 3]]
        shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        expected = roc_auc_score(targets[known], shares, multi_class="ovr")
        assert scores[f"seen_auc_{name}"] == pytest.approx(expected)
    assert scores["seen_auc_truth"] > scores["seen_auc_restored"] > scores["seen_auc_fitted"]
    assert "seen_auc_clean" not in scores
    numbers, probabilities = seen_by_class(outputs)
    assert numbers.tolist() == np.tile([0, 1, 2], 30).tolist()
    assert probabilities["truth"].shape == (90, 3)


def test_nothing_is_scored_where_no_classifier_was_asked():
    assert seen_scores({"psnr": np.ones(3)}) == {}
