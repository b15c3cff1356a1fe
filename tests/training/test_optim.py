"""How weights move: decay, the rates of layers, and the schedule."""

from __future__ import annotations

import pytest
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from deeplense_batch.models import ModelError, build
from deeplense_batch.training.optim import (
    Schedule,
    build_optimizer,
    freeze,
    layer_scales,
    load_optimizer,
)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_norms_and_biases_do_not_decay(name):
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    optimizer = build_optimizer(name, model, lr=0.1, weight_decay=0.5)
    decays = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert {n: decays[id(p)] for n, p in model.named_parameters()} == {
        "0.weight": 0.5, "0.bias": 0.0, "1.weight": 0.0, "1.bias": 0.0,
    }  # fmt: skip


def by_name(optimizer: torch.optim.Optimizer, model: nn.Module, what: str) -> dict:
    """What the groups of an optimiser say of each parameter; each is in one group alone."""
    names = {id(p): name for name, p in model.named_parameters()}
    pairs = [(names[id(p)], g[what]) for g in optimizer.param_groups for p in g["params"]]
    assert len({name for name, _ in pairs}) == len(pairs)
    return dict(pairs)


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_vit", "convnextv2_atto", "lcnet_050", "restoring_vit"]
)
def test_layers_have_the_rates_of_timm(name):
    options = {"encoder": "test_vit"} if name == "restoring_vit" else {}
    model = build(name, channels=1, classes=3, size=64, **options)
    optimizer = build_optimizer("adamw", model, lr=0.2, weight_decay=0.05, layer_decay=0.7)
    names = {id(p): n for n, p in model.named_parameters()}
    theirs = param_groups_layer_decay(model, weight_decay=0.05, layer_decay=0.7)
    scales = {names[id(p)]: g["lr_scale"] for g in theirs for p in g["params"]}
    decays = {names[id(p)]: g["weight_decay"] for g in theirs for p in g["params"]}
    assert len(set(scales.values())) > 4 and max(scales.values()) == 1
    assert by_name(optimizer, model, "top_lr") == pytest.approx(
        {n: 0.2 * s for n, s in scales.items()}
    )
    assert by_name(optimizer, model, "weight_decay") == decays
    assert {*by_name(optimizer, model, "lr_scale").values()} == {*scales.values()}


def test_an_encoder_that_restores_has_the_rates_of_the_plain_network():
    plain = layer_scales(build("test_vit", channels=1, classes=3, size=64), 0.7)
    model = build("restoring_vit", channels=1, classes=0, size=64, ratio=2, encoder="test_vit")
    found = layer_scales(model, 0.7)
    encoder = {f"encoder.{n}": scale for n, scale in plain.items() if not n.startswith("head.")}
    assert found == encoder | {name: 1.0 for name in found if name.startswith("head.")}
    assert {*encoder} < {*found}


def test_the_rate_of_a_layer_goes_with_that_of_the_classifier_freezing_and_the_schedule():
    model = build("test_resnet", channels=1, classes=3, size=64)
    freeze(model, ["conv1", "layer1"])
    optimizer = build_optimizer(
        "sgd", model, lr=0.1, weight_decay=0.0, head_lr=0.5, head=model.fc, layer_decay=0.5
    )
    Schedule("cosine", epochs=10, warmup=0).set(optimizer, 5)
    found = by_name(optimizer, model, "lr")
    scales = layer_scales(model, 0.5)
    assert found["fc.weight"] == found["fc.bias"] == pytest.approx(0.25)
    body = {n: rate for n, rate in found.items() if not n.startswith("fc")}
    assert body == pytest.approx({n: 0.05 * scales[n] for n in body})
    assert (
        not any(n.startswith(("conv1", "layer1")) for n in found) and len(set(body.values())) > 2
    )


def test_without_a_rate_of_layers_the_groups_are_those_they_were():
    """Checkpoints of earlier versions are resumed by the order of the groups."""
    model = build("test_resnet", channels=1, classes=3, size=64)
    groups = build_optimizer("adamw", model, lr=0.1, weight_decay=0.5).param_groups
    weights, others = ([p for p in model.parameters() if (p.ndim > 1) == many] for many in (1, 0))
    assert [[id(p) for p in g["params"]] for g in groups] == [
        [*map(id, weights)],
        [*map(id, others)],
    ]
    assert all("lr_scale" not in group for group in groups)


def test_a_resumed_optimiser_of_layers_goes_on_to_the_bit():
    ended = []
    for pause in (False, True):
        torch.manual_seed(0)
        model = build("test_resnet", channels=1, classes=3, size=32)
        optimizer = build_optimizer("adamw", model, lr=0.01, weight_decay=0.1, layer_decay=0.6)
        for step in range(4):
            if pause and step == 2:
                saved = optimizer.state_dict()
                optimizer = build_optimizer(
                    "adamw", model, lr=0.01, weight_decay=0.1, layer_decay=0.6
                )
                load_optimizer(optimizer, saved)
            images = torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            model(images).square().sum().backward()
            optimizer.step()
        ended.append(model.state_dict())
    assert all(torch.equal(ended[0][name], ended[1][name]) for name in ended[0])


def test_a_network_that_does_not_tell_its_layers_is_a_sentence():
    model = build("resnet20", channels=1, classes=3, size=32)
    with pytest.raises(ModelError, match=r"train\.layer_decay: this network, SmallResNet, does"):
        build_optimizer("sgd", model, lr=0.1, weight_decay=0.0, layer_decay=0.5)


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
