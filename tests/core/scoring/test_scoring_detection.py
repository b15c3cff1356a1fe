"""Scores of a search for rare objects, such as lenses among galaxies."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from deeplense_batch.core.scoring.detection import (
    Found,
    OperatingCurve,
    carried_note,
    detection_scores,
    purity_at,
    shortfall_note,
    support_note,
)


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
        curve, share = OperatingCurve.of(self.LENS, self.SCORE), 3 / 8  # that of the sample
        assert curve.share == share
        for purity, threshold in ((0.6, 0.7), (0.99, 0.9), (0.3, 0.4)):
            assert curve.threshold(purity, share) == threshold, purity
        assert OperatingCurve.of(self.LENS, -self.SCORE).threshold(0.9, share) is None

    def test_a_curve_counts_what_each_of_its_thresholds_finds(self):
        curve = OperatingCurve.of(self.LENS, self.SCORE)
        assert curve.at(0.7) == Found(2, 3, 1, 5) and curve.at(0.4) == Found(3, 3, 3, 5)
        assert curve.at(2.0) == Found(0, 3, 0, 5)
        same = OperatingCurve.of(self.LENS, np.round(self.SCORE))  # 1 down to 0.6, 0 from 0.5
        assert same.at(1.0) == Found(2, 3, 2, 5) and same.threshold(0.5, 3 / 8) == 1.0

    def test_a_curve_is_small_and_knows_every_threshold_of_use(self):
        """None that a search through all scores finds is more complete, or as complete and
        purer."""
        random = np.random.default_rng(0)
        lens = random.random(4000) < 0.03
        scores = np.round(random.normal(size=4000) + 2 * lens, 2)
        curve = OperatingCurve.of(lens, scores)
        assert len(curve.scores) == len(curve.false_positives) == lens.sum()
        for purity in (0.1, 0.3, 0.6):
            found = curve.at(curve.threshold(purity, 0.03))
            assert found.purity(0.03) >= purity
            for other in np.unique(scores):
                called = scores >= other
                recall, rate = called[lens].mean(), called[~lens].mean()
                if (purity_at(recall, rate, 0.03) or 0) >= purity:
                    assert (recall, -rate) <= (found.completeness, -found.false_positives / 3877)

    def test_one_kind_alone_has_no_scores(self):
        none = np.zeros(8, bool)
        found, (note,) = detection_scores(none, self.SCORE, threshold=0.5, prevalence=0.01)
        assert set(found.values()) == {None} and "nothing to find" in note
        assert OperatingCurve.of(none, self.SCORE).threshold(0.5, 0.01) is None
        assert OperatingCurve.of(~none, self.SCORE).threshold(0.5, 0.01) is None


class TestIntervals:
    @pytest.mark.parametrize(
        ("lenses", "others", "completeness", "rate"),
        [(35, 1032, 0.6, 0.02), (35, 1032, 0.3, 0.001), (195, 19455, 0.5, 0.0005)],
    )
    def test_they_hold_the_truth_in_95_of_100_samples(self, lenses, others, completeness, rate):
        random, held = np.random.default_rng(0), np.zeros(2)
        truth = purity_at(completeness, rate, 0.01)
        counts = random.binomial([[lenses, others]], [[completeness, rate]], (2000, 2))
        for found, wrong in counts.tolist():
            one = Found(found, lenses, wrong, others)
            low, high = one.completeness_interval()
            pure_low, pure_high = one.purity_interval(0.01)
            held += [low <= completeness <= high, pure_low <= truth <= pure_high]
        assert (np.abs(held / 2000 - 0.95) < 0.02).all()

    def test_they_stand_beside_the_scores(self):
        lens = np.arange(200) < 40
        found, _ = detection_scores(lens, np.linspace(1, 0, 200), threshold=0.9, prevalence=0.1)
        assert 0 < found["completeness_low"] < found["completeness"] < found["completeness_high"]
        assert 0 < found["purity_low"] < found["purity"] == found["purity_high"] == 1
        nothing = Found(0, 40, 0, 160)
        assert nothing.purity(0.1) is None and nothing.purity_interval(0.1) == (0, 1)


def test_few_false_positives_are_told_and_how_many_galaxies_it_takes():
    assert support_note(Found(20, 40, 10, 1032), 0.5, 0.001) is None
    note = support_note(Found(20, 40, 0, 1032), 0.5, 0.001)
    # (1 - q) / q = 999 false positives a lens found, so 10 need 10 * 999 / 0.5 galaxies
    assert "set cannot support that threshold: 1,032 non-lenses" in note and "20,000" in note
    assert support_note(Found(20, 40, 0, 19_900), 0.5, 0.001).endswith("needs about 20,000")


def test_enough_galaxies_without_a_false_positive_support_a_threshold():
    """A purity of .5 where 1 in 20 is a lens needs 190, of which ten would be called lenses."""
    assert support_note(Found(100, 100, 0, 1718), 0.5, 0.05) is None
    assert support_note(Found(100, 100, 0, 190), 0.5, 0.05) is None
    assert "needs about 190" in support_note(Found(100, 100, 0, 189), 0.5, 0.05)


def test_where_no_threshold_gives_a_purity_the_highest_is_told():
    lens = np.arange(1000) % 25 == 0  # 40
    scores = np.where(lens, 0.5, 0.0)
    scores[[1, 2, 3]] = 0.9, 0.8, 0.7  # each above all the lenses
    scores[[0, 25]] = 0.85, 0.75
    curve = OperatingCurve.of(lens, scores)
    best = curve.purest()
    assert best == Found(40, 40, 3, 960)
    highest = 0.001 / (0.001 + 0.999 * 3 / 960)
    assert best.purity(0.001) == pytest.approx(highest)
    assert curve.threshold(0.3, 0.001) is None
    assert curve.threshold(highest - 1e-9, 0.001) == 0.5
    assert shortfall_note(best, 0.3, 0.001) == (
        "threshold: none gives a purity of 0.3 where 0.001 of all galaxies are lenses, on the "
        "validation slice; the highest is 0.243, at a completeness of 1: 40 of 40 lenses are "
        "found there, and 3 of 960 non-lenses"
    )
    assert shortfall_note(None, 0.3, 0.001).endswith(" on the validation slice")


def test_the_purest_threshold_is_the_most_complete_of_those():
    lens = np.array([0, 1, 0, 1, 1, 0], bool)  # one false positive a lens, at two of three
    assert OperatingCurve.of(lens[:4], -np.arange(4.0)).purest() == Found(2, 2, 2, 2)
    assert OperatingCurve.of(lens, -np.arange(6.0)).purest() == Found(3, 3, 2, 3)
    one_kind = np.zeros(4, bool)
    assert OperatingCurve.of(one_kind, np.arange(4.0)).purest() is None
    assert OperatingCurve.of(~one_kind, np.arange(4.0)).purest() is None


def test_what_a_threshold_is_worth_elsewhere_is_a_sentence():
    """30 of 100 called are lenses, of 75; both intervals by Wilson, from scipy."""
    note = carried_note(
        0.83, Found(45, 60, 5, 5000), Found(30, 75, 70, 6175), purity=0.9, prevalence=0.1
    )
    purity = binomtest(30, 100).proportion_ci(method="wilson")
    found = binomtest(30, 75).proportion_ci(method="wilson")
    for share, interval in ((30, purity), (40, found)):
        assert f"{share} % [{100 * interval.low:.3g}, {100 * interval.high:.3g}]" in note
    there = purity_at(0.75, 0.001, 0.1)
    assert there is not None and f"expected to be {100 * there:.3g} % [" in note
    assert note.startswith("threshold: at the score 0.83, chosen on the validation slice of the")
    assert "for 90 % purity where 10 % of all galaxies are lenses" in note
    assert note.endswith("(30 of 75 lenses) here, where 1.2 % of the images are lenses")


def test_where_nothing_is_called_a_lens_the_purity_is_unknown():
    note = carried_note(0.9, None, Found(0, 5, 0, 95), purity=0.5, prevalence=0.01)
    assert "purity unknown, since nothing is called a lens (0 of 0 called lenses)" in note
    assert "completeness 0 % [0, 43.4] (0 of 5 lenses)" in note and "expected" not in note
