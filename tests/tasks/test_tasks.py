"""What a task minimises, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from deeplense_batch.core.job import JobError
from deeplense_batch.core.scoring.metrics import softmax
from deeplense_batch.tasks import build_task
from deeplense_batch.tasks.task import Batch

CLASSES = ("no", "sphere", "vort")


def loss_of(logits: torch.Tensor, targets: list[int], **options: float) -> float:
    task = build_task("classification", classes=CLASSES, **options)
    batch = Batch(logits, torch.tensor(targets), torch.arange(len(targets)))
    return float(task.losses(nn.Identity(), batch, 0.0)["loss"])


LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.3, -0.2]])


def test_cross_entropy_and_label_smoothing():
    log = torch.log_softmax(LOGITS, 1)
    plain = -(log[0, 0] + log[1, 2]) / 2
    assert loss_of(LOGITS, [0, 2]) == pytest.approx(float(plain), rel=1e-6)
    smooth = 0.9 * plain + 0.1 * -log.mean()
    assert loss_of(LOGITS, [0, 2], label_smoothing=0.1) == pytest.approx(float(smooth), rel=1e-6)


def test_focal_loss():
    p = torch.softmax(LOGITS, 1)[[0, 1], [0, 2]]
    expected = (-((1 - p) ** 2) * torch.log(p)).mean()
    assert loss_of(LOGITS, [0, 2], focal=2.0) == pytest.approx(float(expected), rel=1e-6)
    assert loss_of(LOGITS, [0, 2], focal=2.0) < loss_of(LOGITS, [0, 2])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"label_smoothing": 1.0}, "label_smoothing: should be in"),
        ({"focal": -1}, "focal: should"),
    ],
)
def test_options_out_of_range(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        build_task("classification", classes=CLASSES, **options)


@pytest.mark.parametrize("name", ["classification", "detection"])
def test_the_temperature_is_fitted_on_validation_and_frozen(name):
    random = np.random.default_rng(0)
    honest = random.normal(size=(4000, 2))
    targets = (random.random(4000) > softmax(honest)[:, 0]).astype(int)
    outputs = {"targets": targets, "logits": 3 * honest}  # three times too sure
    task = build_task(name, classes=("no", "lens"))
    assert "temperature" not in task.score(outputs)[0]
    task.calibrate(outputs)
    other = build_task(name, classes=("no", "lens"))
    other.load_state_dict(task.state_dict())
    scores, _ = other.score(outputs)
    assert scores["temperature"] == pytest.approx(3, rel=0.1)
    assert scores["ece"] > 0.1 and scores["ece_calibrated"] < 0.03
    assert scores["auc"] == task.score(outputs | {"logits": honest})[0]["auc"]
    epoch = {"epoch": 1, "train": {"loss": 1.0}, "valid": {"loss": 1.0, "auc": 0.8}}
    drawn = {"calibration", "confusion", "roc", "history"}
    drawn |= {"precision_recall"} if name == "detection" else set()
    assert set(other.draw(outputs, [epoch])) == drawn


class TestRegression:
    """Of the logarithm of a mass, which a third of the images have."""

    MASS = np.array([1e-22, np.nan, 1e-21, np.nan, 1e-23, np.nan])

    def task(self, **options):
        task = build_task("regression", classes=CLASSES, **options)
        task.fit_statistics(np.zeros(6, np.int64), {"axion_mass_ev": self.MASS})
        return task

    def batch(self, outputs):
        truth = {"axion_mass_ev": torch.from_numpy(self.MASS).float()}
        cut = {name: values[[0, 2, 4]] for name, values in truth.items()}
        return Batch(outputs, torch.zeros(3, dtype=torch.long), torch.arange(3), truth=cut)

    def test_it_learns_the_scaled_logarithm_and_answers_in_decades(self):
        task = self.task()
        assert (
            task.trainable_mask(np.zeros(6), {"axion_mass_ev": self.MASS}).tolist()
            == [True, False] * 3
        )
        perfect = (torch.tensor([[-22.0], [-21.0], [-23.0]]) + 22) / (2 / 3) ** 0.5
        assert float(task.losses(nn.Identity(), self.batch(perfect), 0.0)["loss"]) < 1e-8
        answer = task.predict(nn.Identity(), self.batch(perfect))
        assert answer["predicted"].tolist() == pytest.approx([-22, -21, -23], abs=1e-5)
        scores, _ = task.score({name: v.numpy() for name, v in answer.items()})
        assert scores["r2"] == pytest.approx(1) and scores["mae"] < 1e-5
        other = build_task("regression", classes=CLASSES)
        other.load_state_dict(task.state_dict())
        repeated = other.predict(nn.Identity(), self.batch(perfect))
        assert all(torch.equal(repeated[name], value) for name, value in answer.items())

    def test_what_cannot_be_learnt_is_a_sentence(self):
        task = build_task("regression", classes=CLASSES)
        with pytest.raises(ValueError, match="log10 axion_mass_ev is one and the same"):
            task.fit_statistics(np.zeros(3), {"axion_mass_ev": np.full(3, np.nan)})
        with pytest.raises(ValueError, match="lens has 4 numbers an image; expected one"):
            build_task("regression", classes=CLASSES, target="lens").fit_statistics(
                np.zeros(3), {"lens": np.ones((3, 4))}
            )


def test_a_detection_keeps_the_threshold_of_the_validation_slice():
    task = build_task("detection", classes=("nonlenses", "lenses"), purity=0.95, prevalence=0.5)
    score = np.linspace(-3, 3, 20)
    outputs = {"logits": np.stack([-score, score], 1), "targets": (score > 0.5).astype(int)}
    assert task.score(outputs)[0]["threshold"] is None
    task.calibrate(outputs)
    other = {"logits": outputs["logits"], "targets": (score > -1).astype(int)}
    scores, _ = task.score(other)
    threshold = 1 / (1 + np.exp(-2 * score[score > 0.5][0]))
    assert scores["threshold"] == pytest.approx(threshold)
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
