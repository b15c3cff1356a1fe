"""Scores of the runs of a comparison on the same resamples, and the intervals of scores."""

from __future__ import annotations

import numpy as np
import pytest
from made_answers import CLASSES, TARGETS, answers, compared, model_run, write_outputs
from made_runs import make_run

from deeplense_batch.core.scoring.auc import auc_interval
from deeplense_batch.core.scoring.metrics import softmax
from deeplense_batch.report.statistics import bootstrap
from deeplense_batch.report.statistics.resamples import Resamples


def test_all_runs_and_what_is_drawn_later_share_the_resamples(tmp_path):
    logits = [answers(2.0, seed=seed, own=0.5) for seed in (0, 1)]
    runs = [model_run(tmp_path, "resnet18", own, seed=seed) for seed, own in enumerate(logits)]
    resamples = Resamples.of(compared(tmp_path))
    assert not resamples.faults and resamples.freedom == len(TARGETS) - 3
    statistics = [bootstrap.macro_auc(TARGETS, softmax(own)) for own in logits]
    expected = bootstrap.bootstrap(statistics, TARGETS)
    for run, values in zip(runs, expected, strict=True):
        found = resamples.scores[str(run.path)]
        assert set(found) == {"auc", "accuracy"}
        assert np.array_equal(found["auc"], values)
    assert np.array_equal(resamples.draw(statistics), expected)


def test_one_score_alone_is_drawn_by_another_seed(tmp_path):
    logits = answers(2.0, own=0.5)
    run = model_run(tmp_path, "resnet18", logits)
    scores = Resamples.of(compared(tmp_path), only="auc", seed=5).scores[str(run.path)]
    statistics = [bootstrap.macro_auc(TARGETS, softmax(logits))]
    expected = bootstrap.bootstrap(statistics, TARGETS, seed=5)[0]
    assert set(scores) == {"auc"} and np.array_equal(scores["auc"], expected)
    assert not np.array_equal(expected, bootstrap.bootstrap(statistics, TARGETS)[0])


def test_models_without_answers_to_these_samples_have_none_and_the_reason(tmp_path):
    model_run(tmp_path, "whole", answers(2.0), valid=0.95)
    make_run(tmp_path, "bare")
    write_outputs(make_run(tmp_path, "other"), answers(2.0), ids=np.arange(1, 601).astype(str))
    resamples = Resamples.of(compared(tmp_path))
    assert resamples.faults == {
        "outputs.npz is missing": ["bare"],
        "its test samples are not those of the others": ["other"],
    }
    assert len(resamples.predictions) == len(resamples.scores) == 1


def test_only_what_is_known_of_a_regression_is_scored(tmp_path):
    true = np.where(np.arange(600) % 3, np.linspace(-23, -21, 600), np.nan)
    run = make_run(tmp_path)
    np.savez(run.path / "outputs.npz", classes=CLASSES, ids=np.arange(600).astype(str),
             targets=TARGETS, true=true, predicted=np.full(600, -22.0))  # fmt: skip
    resamples = Resamples.of(compared(tmp_path))
    assert resamples.scored.sum() == 400
    (counted,) = resamples.draw([lambda counts: np.full(counts.shape[1], len(counts))])
    assert (counted == 400).all()
    assert set(resamples.scores[str(run.path)]) == {"r2", "mae"}


@pytest.mark.parametrize("several", [False, True])
def test_a_run_of_which_nothing_is_known_has_none_and_the_reason(tmp_path, several):
    unknown = np.full(600, np.nan)
    run = make_run(tmp_path)
    arrays = {"true": unknown, "predicted": np.zeros(600)}
    if several:
        arrays = {name: np.stack([values] * 2, 1) for name, values in arrays.items()}
        arrays["quantities"] = np.array(["theta_e", "mass"])
    np.savez(run.path / "outputs.npz", classes=CLASSES, ids=np.arange(600).astype(str),
             targets=TARGETS, **arrays)  # fmt: skip
    resamples = Resamples.of(compared(tmp_path))
    (reason,) = resamples.faults
    assert reason == "what it predicts is known of none of its test images"
    assert not resamples.predictions


class TestLimits:
    @pytest.fixture
    def resamples(self, tmp_path):
        model_run(tmp_path, "resnet18", answers(2.0))
        return Resamples.of(compared(tmp_path))

    def test_a_share_has_them_on_the_scale_of_the_logit(self, resamples):
        low, high = resamples.limits("accuracy", 0.98, 0.03, np.empty(0))
        assert 0.9 < low < 0.95 and 0.99 < high < 1
        odds = [np.log(p / (1 - p)) for p in (low, 0.98, high)]
        assert odds[1] - odds[0] == pytest.approx(odds[2] - odds[1])

    def test_without_a_fault_they_come_from_the_size_or_the_resamples(self, resamples):
        drawn = np.linspace(0.9, 1, 1001)
        assert resamples.limits("auc", 1.0, 0.0, drawn) == auc_interval(1.0, 200, 400)
        assert resamples.limits("accuracy", 1.0, 0.0, drawn) == pytest.approx((0.9025, 0.9975))

    def test_there_are_none_where_all_resamples_are_alike(self, resamples):
        assert resamples.limits("accuracy", 0.5, 0.0, np.full(9, 0.5)) is None
        assert resamples.limits("nll", 0.5, 0.0, np.full(9, 0.5)) is None

    def test_other_scores_have_even_ones_but_none_below_0(self, resamples):
        assert resamples.limits("r2", 0.1, 0.3, np.empty(0)) == pytest.approx((-0.2, 0.4))
        assert resamples.limits("ece", 0.01, 0.03, np.empty(0)) == pytest.approx((0, 0.04))
        assert resamples.limits("nll", 0.7, 0.1, np.empty(0)) == pytest.approx((0.6, 0.8))
