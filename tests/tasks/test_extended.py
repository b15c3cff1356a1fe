"""A network with parts of its task beside it: what recipes say is about the network alone."""

from __future__ import annotations

import pytest
import torch
from conftest import make_job
from torch import nn

from deeplense_batch.core.distributed import World
from deeplense_batch.models import build
from deeplense_batch.tasks import build_task
from deeplense_batch.tasks.extended import Extended, answering, bare
from deeplense_batch.training.optim import layer_scales
from deeplense_batch.training.step import Stepper


class Two(Extended):
    """A network with a second head."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.second = nn.Linear(2, 1)

    def forward(self, images):
        return self.second(self.network(images))


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return build("test_resnet", channels=1, classes=2, size=32)


def test_the_network_alone_and_its_parts(network):
    two = Two(network)
    assert bare(two) is network and bare(network) is network
    assert two.parts == [two.second]
    assert {name.partition(".")[0] for name in two.state_dict()} == {"network", "second"}


def test_an_answer_needs_no_parts_that_only_train(network):
    class Trained(Two):
        trains_only = True

    two, trained = Two(network), Trained(network)
    assert answering(trained) is answering(network) is network and answering(two) is two


def test_layers_are_those_of_the_network_and_parts_keep_the_whole_rate(network):
    alone, both = layer_scales(network, 0.5), layer_scales(Two(network), 0.5)
    assert {f"network.{name}": scale for name, scale in alone.items()}.items() <= both.items()
    assert both["second.weight"] == 1.0 and min(alone.values()) < 0.5


def test_a_stepper_freezes_by_the_names_of_the_network_and_gives_parts_the_rate_of_heads(
    network, shards
):
    train = {"epochs": 1, "freeze": ["layer1"], "head_lr": 0.5, "lr": 0.1, "ema": 0.9}
    job, two = make_job(shards, train=train), Two(network)
    task = build_task("classification", classes=("a", "b"))
    stepper = Stepper(job, World(0, 1, torch.device("cpu")), task, two)
    assert not any(p.requires_grad for p in network.layer1.parameters())
    assert all(p.requires_grad for p in two.second.parameters())
    rates = {id(p): g["top_lr"] for g in stepper.optimizer.param_groups for p in g["params"]}
    assert rates[id(two.second.weight)] == rates[id(network.fc.weight)] == 0.5
    assert rates[id(network.conv1[0].weight)] == 0.1
    stepper.start_epoch()
    assert not network.layer1.training and two.second.training
    assert "second.weight" in stepper.scored.state_dict()
