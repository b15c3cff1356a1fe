"""A flow beside a network: a density, draws of that density, and a posterior that is learnt."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import nn

from deeplense_batch.tasks.extended import bare
from deeplense_batch.tasks.posteriors.flow import Flow, FlowError
from deeplense_batch.tasks.posteriors.posterior import random_of


def network_of(posterior: Flow, inputs: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return posterior.wrap(nn.Linear(inputs, posterior.num_outputs))


def test_called_with_images_alone_it_gives_the_features():
    model, images = network_of(Flow(2)), torch.randn(3, 2)
    assert torch.equal(model(images), bare(model)(images))
    assert {name.partition(".")[0] for name in model.state_dict()} == {"network", "flow"}


def test_the_density_integrates_to_one():
    posterior, side = Flow(1), torch.linspace(-8, 8, 1601)
    model = network_of(posterior).eval()
    images = torch.tensor([[0.3, -2.0]]).expand(len(side), 2)
    with torch.no_grad():
        density = posterior.log_prob(model, images, side[:, None]).exp()
    assert torch.trapezoid(density, side).item() == pytest.approx(1, abs=1e-3)


def test_a_posterior_that_is_not_normal_is_learnt_with_its_draws():
    """Two peaks at +-x: their places and their draws follow x."""
    posterior = Flow(1)
    model, random = network_of(posterior, 1), torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(120):
        x = torch.rand(128, 1, generator=random) + 0.5
        sign = torch.randint(0, 2, (128, 1), generator=random) * 2 - 1
        true = sign * x + 0.1 * torch.randn(128, 1, generator=random)
        optimizer.zero_grad()
        loss = -posterior.log_prob(model, x, true).mean()
        loss.backward()
        optimizer.step()
    exact = 0.5 * torch.log(torch.tensor(2 * torch.pi * torch.e)) + torch.log(
        torch.tensor(0.1)
    ) + torch.log(torch.tensor(2.0))  # fmt: skip
    assert loss.item() < exact.item() + 0.5
    noise, _ = random_of(torch.arange(2), 1, 400)
    with torch.no_grad():
        draws = posterior.say(model, torch.tensor([[0.6], [1.4]]), noise).draws[..., 0]
    for own, x in zip(draws, (0.6, 1.4), strict=True):
        assert (own.abs() - x).abs().median() < 0.2
        assert 0.3 < (own > 0).float().mean() < 0.7


def test_half_precision_of_the_network_leaves_the_flow_its_digits():
    posterior, images = Flow(2), torch.randn(4, 2)
    model, true = network_of(posterior).eval(), torch.randn(4, 2)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = posterior.log_prob(model, images, true)
    assert found.dtype == torch.float32
    with torch.no_grad():
        assert torch.allclose(found, posterior.log_prob(model, images, true), atol=0.1)


def test_without_its_package_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FlowError, match=r"posterior: flow needs the package zuko: pip install"):
        Flow(2)
