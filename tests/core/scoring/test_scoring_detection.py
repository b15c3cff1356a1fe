"""Scores of a search for rare objects, such as lenses among galaxies."""

from __future__ import annotations

import numpy as np
import pytest

from deeplense_batch.core.scoring.detection import detection_scores, threshold_of_purity


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
