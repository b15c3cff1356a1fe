"""The discriminator and the gradient that is reversed."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from deeplense_batch.tasks.adaptation.adversary import Discriminator, reversal_at


def test_lambda_rises_as_published():
    for progress in (0.0, 0.1, 0.5, 0.99):
        published = 2 / (1 + math.exp(-10 * progress)) - 1
        assert reversal_at(progress) == pytest.approx(published)
        assert float(reversal_at(torch.tensor(progress))) == pytest.approx(published, rel=1e-5)


def sets():
    random = torch.Generator().manual_seed(0)
    return [torch.randn(6, 4, generator=random).requires_grad_() for _ in range(2)]


def test_the_loss_is_the_cross_entropy_of_source_and_target():
    torch.manual_seed(0)
    network, (source, target) = Discriminator(4), sets()
    loss = network(source, target, 1.0)
    p = torch.sigmoid(network.layers(torch.cat([source, target])))[:, 0]
    expected = -(torch.log(p[:6]).sum() + torch.log(1 - p[6:]).sum()) / 12
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


@pytest.mark.parametrize("reversal", [0.0, 0.3, torch.tensor(0.7)])
def test_features_get_the_gradient_reversed_and_the_discriminator_as_it_is(reversal):
    torch.manual_seed(0)
    network, (source, target) = Discriminator(4), sets()
    leaves = [source, target, *network.parameters()]
    reversed_ = torch.autograd.grad(network(source, target, reversal), leaves)
    labels = torch.cat([torch.ones(6, 1), torch.zeros(6, 1)])
    answers = network.layers(torch.cat([source, target]))
    plain = torch.autograd.grad(
        functional.binary_cross_entropy_with_logits(answers, labels), leaves
    )
    for place, (own, other) in enumerate(zip(reversed_, plain, strict=True)):
        torch.testing.assert_close(own, -reversal * other if place < 2 else other)


def test_it_learns_to_tell_two_sets_apart():
    torch.manual_seed(0)
    network, (source, target) = Discriminator(4), sets()
    target = target.detach() + 3
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        loss = network(source.detach(), target, 0.0)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.1 < math.log(2)
