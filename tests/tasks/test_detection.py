"""The search for one class of two, by a threshold that validation chose."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from pictures import texts
from scipy.special import expit

from deeplense_batch.core.job import JobError
from deeplense_batch.core.scoring.metrics import softmax
from deeplense_batch.tasks import build_task

CLASSES = ("no", "sphere", "vort")
SEARCHED = ("nonlenses", "lenses")


def searched(samples: int, share: float, *, seed: int) -> dict[str, np.ndarray]:
    """What a network says that learnt with `balance: sampler`, and is twice too sure besides.

    Log odds of lenses are normal, of mean 1.5 and variance 3; of others, of mean -1.5: by Bayes
    the truth is log odds x plus those of the share.
    """
    random = np.random.default_rng(seed)
    lens = random.random(samples) < share
    odds = random.normal(np.where(lens, 1.5, -1.5), np.sqrt(3))
    logits = np.stack([-odds, odds], 1)  # as if half were lenses, and twice the log odds
    return {"logits": logits, "targets": lens.astype(int), "ids": np.arange(samples).astype(str)}


def expected(task, outputs, prevalence=None) -> float:
    """How many lenses calibrated probabilities expect."""
    return softmax(task.calibrated_logits(outputs["logits"], prevalence))[:, 1].sum()


@pytest.fixture(scope="module")
def calibrated():
    """A search, and the validation slice that it was calibrated on: one in twenty is a lens."""
    task = build_task("detection", classes=SEARCHED, purity=0.5, prevalence=0.02)
    valid = searched(20_000, 0.05, seed=0)
    task.calibrate(valid)
    return task, valid


def test_probabilities_expect_as_many_lenses_as_there_are(calibrated):
    """On slices of the same share, though a balanced network calls many times as many lenses."""
    task, valid = calibrated
    assert task.slope_and_offset == pytest.approx((0.5, np.log(0.05 / 0.95)), rel=0.05)
    assert expected(task, valid) == pytest.approx(valid["targets"].sum(), abs=1)
    for seed in (1, 2, 3):
        held_out = searched(20_000, 0.05, seed=seed)
        lenses = held_out["targets"].sum()
        assert softmax(held_out["logits"])[:, 1].sum() > 3 * lenses
        assert abs(expected(task, held_out) - lenses) < 4 * np.sqrt(lenses)
        scores, notes = task.score(held_out)
        assert scores["expected_lenses"] == expected(task, held_out)
        assert (scores["slope"], scores["offset"]) == task.slope_and_offset
        assert scores["nll_calibrated"] < scores["nll"]
        assert scores["ece_calibrated"] < 2 * scores["ece_calibrated_floor"] < scores["ece"]
        assert any(n.startswith("expected_lenses") and "moved" not in n for n in notes)


def test_probabilities_move_to_a_stated_prevalence(calibrated):
    task, _ = calibrated
    sky = searched(200_000, 0.002, seed=4)
    lenses = sky["targets"].sum()
    assert expected(task, sky) > 5 * lenses  # those of the validation slice's share
    assert abs(expected(task, sky, 0.002) - lenses) < 4 * np.sqrt(lenses)
    order = [task.calibrated_logits(sky["logits"], q)[:, 1].argsort() for q in (None, 0.002)]
    assert (order[0] == order[1]).all()
    (note,) = (n for n in task.score(sky)[1] if n.startswith("expected_lenses"))
    share = lenses / 200_000
    moved = expected(task, sky, share)
    assert f"; moved to {share:.3g}, as here, to {moved:.1f} +- " in note


def test_probabilities_are_drawn_for_what_is_searched_for(calibrated):
    task, valid = calibrated
    figure = task.draw(valid, [])["calibration"]
    lenses = valid["targets"].sum()
    assert f"sum {expected(task, valid):.1f}, {lenses} are lenses" in "".join(texts(figure))
    sky = task.draw(searched(50_000, 0.01, seed=5), [])["calibration"]
    assert any(text.startswith("and moved to a share of 0.0") for text in texts(sky))


@pytest.mark.parametrize(("samples", "supported"), [(1_500, False), (20_000, True)])
def test_a_threshold_that_the_validation_slice_cannot_support_is_told(samples, supported):
    task = build_task("detection", classes=SEARCHED, purity=0.5, prevalence=0.02)
    valid = searched(samples, 0.05, seed=0)
    task.calibrate(valid)
    assert task.threshold is not None
    notes = [note for note in task.score(valid)[1] if "cannot support" in note]
    assert len(notes) == (not supported)
    assert all(f"threshold: {(valid['targets'] == 0).sum():,} non-lenses" in n for n in notes)


def test_a_purity_that_no_threshold_has_is_told_with_the_highest():
    task = build_task("detection", classes=SEARCHED, purity=0.99, prevalence=0.001)
    valid = searched(5_000, 0.05, seed=0)
    valid["logits"][valid["targets"].argmin()] = -20, 20  # no lens is as sure a one
    task.calibrate(valid)
    assert task.threshold is None
    best, others = task.curve.purest(), (valid["targets"] == 0).sum()
    (note,) = (n for n in task.score(valid)[1] if n.startswith("threshold"))
    assert note.startswith("threshold: none gives a purity of 0.99 where 0.001 of all")
    assert f"the highest is {best.purity(0.001):.3g}, at a completeness of" in note
    assert note.endswith(f"{best.false_positives} of {others:,} non-lenses")


def test_what_an_earlier_version_kept_is_read(calibrated):
    _, valid = calibrated
    old = build_task("detection", classes=SEARCHED, purity=0.5, prevalence=0.001)
    old.load_state_dict({"temperature": 2.0, "threshold": 0.75})
    assert old.curve is None and old.slope_and_offset is None
    assert np.array_equal(old.calibrated_logits(valid["logits"]), valid["logits"] / 2)
    scores, notes = old.score(valid)
    assert scores["threshold"] == 0.75 and "slope" not in scores
    assert not any("expected_lenses" in note or "support" in note for note in notes)


def test_a_validation_slice_of_one_class_fits_neither_slope_nor_threshold():
    task = build_task("detection", classes=SEARCHED)
    outputs = searched(100, 0.0, seed=0)
    task.calibrate(outputs)
    assert task.slope_and_offset is None and task.threshold is None and task.curve.share == 0
    again = build_task("detection", classes=SEARCHED)
    again.load_state_dict(task.state_dict())
    assert again.state_dict() == task.state_dict()
    assert "slope" not in again.score(searched(100, 0.5, seed=1))[0]


def test_a_detection_keeps_the_threshold_of_the_validation_slice():
    task = build_task("detection", classes=("nonlenses", "lenses"), purity=0.95, prevalence=0.5)
    score = np.linspace(-3, 3, 20)
    outputs = {"logits": np.stack([-score, score], 1), "targets": (score > 0.5).astype(int)}
    assert task.score(outputs)[0]["threshold"] is None
    task.calibrate(outputs)
    other = {"logits": outputs["logits"], "targets": (score > -1).astype(int)}
    scores, _ = task.score(other)
    assert scores["threshold"] == pytest.approx(expit(2 * score[score > 0.5][0]))
    assert scores["purity"] == 1 and scores["completeness"] < 1
    again = build_task("detection", classes=("nonlenses", "lenses"), purity=0.9, prevalence=0.5)
    again.load_state_dict(task.state_dict())
    assert again.score(other)[0] == scores
    with pytest.raises(ValueError, match="detection needs two classes"):
        build_task("detection", classes=CLASSES)
    with pytest.raises(ValueError, match="purity: should be between 0 and 1"):
        build_task("detection", classes=("a", "b"), purity=1.5)


@pytest.mark.parametrize(
    ("classes", "positive", "searched"),
    [
        (("nonlenses", "lenses"), None, "lenses"),
        (("lens", "nonlens"), None, "lens"),
        (("Lens", "Other"), None, "Lens"),
        (("no", "yes"), "yes", "yes"),
        (("lenses", "rings"), "rings", "rings"),
        (("no", "yes"), None, None),
        (("lens", "lenses"), None, None),
        (("lens", "nonlens"), "lenses", None),
    ],
)
def test_a_detection_knows_which_class_is_searched_for(classes, positive, searched):
    """Wherever it stands: folders are read in the order of their names."""
    if searched is None:
        with pytest.raises(JobError, match=f"is searched for, {' or '.join(classes)}; got "):
            build_task("detection", classes=classes, positive=positive)
        return
    task = build_task("detection", classes=classes, positive=positive)
    assert task.spec.target_name == searched
    lens = np.arange(200) % 10 == 0
    logits = np.zeros((200, 2))
    logits[:, classes.index(searched)] = np.where(lens, 2.0, -2.0)
    targets = np.where(lens, classes.index(searched), 1 - classes.index(searched))
    outputs = {"logits": logits, "targets": targets, "ids": np.arange(200).astype(str)}
    task.calibrate(outputs)
    scores, notes = task.score(outputs)
    assert scores["average_precision"] == scores["tpr0"] == scores["completeness"] == 1
    assert any("of 180 galaxies that are no lenses" in note for note in notes)
    curves = [text.get_text() for text in task.draw(outputs, [])["roc"].legends[0].get_texts()]
    assert curves == ["chance, 0.5", f"{searched}, AUC 1.0000"]


def test_a_threshold_is_counted_on_other_images_one_by_one(calibrated):
    """Between two of its lenses too, where the curve of another slice knows no score."""
    task = copy.copy(calibrated[0])
    task.threshold = 0.6
    probability = np.array([0.95, 0.7, 0.65, 0.61, 0.5, 0.4, 0.3])
    lens = np.array([1, 0, 1, 0, 1, 0, 0])
    odds = np.log(probability / (1 - probability))
    logits = np.zeros((7, 2))
    logits[:, task.classes.index(task.spec.target_name)] = odds
    target = task.classes.index(task.spec.target_name)
    outputs = {"targets": np.where(lens == 1, target, 1 - target), "logits": logits}
    (note,) = task.carried_notes(outputs)
    assert "purity 50 % [" in note and "(2 of 4 called lenses)" in note
    assert "completeness 66.7 % [" in note and "(2 of 3 lenses) here, where 42.9 % of" in note
    task.threshold = None
    assert task.carried_notes(outputs) == []
