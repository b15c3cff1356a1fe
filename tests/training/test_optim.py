from __future__ import annotations

import pytest
import torch
from torch import nn

from deeplense_batch.training.optim import Schedule, build_optimizer


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_norms_and_biases_do_not_decay(name):
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    optimizer = build_optimizer(name, model, lr=0.1, weight_decay=0.5)
    decays = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert {n: decays[id(p)] for n, p in model.named_parameters()} == {
        "0.weight": 0.5, "0.bias": 0.0, "1.weight": 0.0, "1.bias": 0.0,
    }  # fmt: skip


def rates(schedule: Schedule, *times: float) -> list[float]:
    """Rates at some times in epochs, of a group whose top rate is 2."""
    parameters = [{"params": [torch.zeros(1, requires_grad=True)], "top_lr": 2.0}]
    optimizer = torch.optim.SGD(parameters, lr=9.0)
    found = []
    for time in times:
        schedule.set(optimizer, time)
        found.append(optimizer.param_groups[0]["lr"])
    return found


def test_cosine_starts_at_the_rate_and_ends_at_zero():
    schedule = Schedule("cosine", epochs=10, warmup=0)
    assert rates(schedule, 0, 5, 10) == pytest.approx([2.0, 1.0, 0.0])


def test_warm_up_is_linear():
    schedule = Schedule("constant", epochs=10, warmup=2)
    assert rates(schedule, 0, 1, 2, 9) == pytest.approx([0.0, 1.0, 2.0, 2.0])


def test_plateau_drops_after_more_than_three_epochs_without_a_rise():
    schedule = Schedule("plateau", epochs=20, warmup=0)
    for score, expected in [(0.5, 2), (0.6, 2), (0.6, 2), (None, 2), (0.5, 2), (0.6, 0.4)]:
        schedule.end_epoch(score)
        assert rates(schedule, 5) == pytest.approx([expected])
    other = Schedule("plateau", epochs=20, warmup=0)
    other.load_state_dict(schedule.state_dict())
    assert rates(other, 5) == rates(schedule, 5)
