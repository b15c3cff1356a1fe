"""What a classification minimises, against closed forms, and its temperature."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from deeplense_batch.core.scoring.metrics import log_softmax, softmax
from deeplense_batch.data.batches.sampling import balancing_weights
from deeplense_batch.tasks import build_task
from deeplense_batch.tasks.classification import Classification
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
    assert scores["ece"] > 0.1 > 3 * scores["ece_floor"]
    assert scores["ece_calibrated"] < scores["ece_calibrated_floor"] < 0.03
    truth = log_softmax(honest)[np.arange(4000), targets]
    assert scores["nll_calibrated"] == pytest.approx(-truth.mean(), abs=1e-3)
    assert scores["nll_calibrated"] < scores["nll"] - 0.1
    assert scores["auc"] == task.score(outputs | {"logits": honest})[0]["auc"]
    epoch = {"epoch": 1, "train": {"loss": 1.0}, "valid": {"loss": 1.0, "auc": 0.8}}
    drawn = {"calibration", "confusion", "roc", "history"}
    drawn |= {"precision_recall"} if name == "detection" else set()
    assert set(other.draw(outputs, [epoch])) == drawn


def test_weighted_classes_keep_one_sum_when_images_are_mixed():
    class Probe(Classification):
        def _cross_entropy(self, logits, targets, weights):
            return (targets == 1) * weights  # what class 1 weighs

    targets = torch.from_numpy((np.random.default_rng(0).random(10000) < 0.1).astype(np.int64))
    weights = torch.from_numpy(balancing_weights(targets.numpy()))
    batch = Batch(
        torch.zeros(len(targets), 1), targets, torch.arange(len(targets)), weights=weights,
        partners=targets.flip(0), partner_weights=weights.flip(0), share=0.3,
    )  # fmt: skip
    rare = Probe(classes=("a", "b")).classified(torch.zeros(len(targets), 2), batch)
    assert float(rare) == pytest.approx(0.5, abs=1e-5)
