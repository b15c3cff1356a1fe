"""What a task minimises, against closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import nn

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
