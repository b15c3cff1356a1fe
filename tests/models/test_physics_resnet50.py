"""The network of reference 003, as published: two heads on one backbone."""

from __future__ import annotations

import torch
from tiny_networks import physics_network


def test_the_second_head_gives_two_numbers_between_minus_one_and_one():
    torch.manual_seed(0)
    model = physics_network("physics_resnet50").eval()
    images = torch.randn(3, 1, 64, 64)
    with torch.no_grad():
        model.angle[-1].weight *= 1e4
        found = model(images)
        features = model.encoder(images)
    assert set(found) == {"logits", "angle"} and found["angle"].shape == (3, 2)
    assert found["angle"].abs().max() <= 1 and found["angle"].abs().min() > 0.9
    assert torch.allclose(found["logits"], model.get_classifier()(features))


def test_half_of_a_head_is_left_out_in_training_alone():
    torch.manual_seed(0)
    model, features = physics_network("physics_resnet50"), torch.rand(1, 64)
    head = model.get_classifier()
    dropout = next(module for module in head if isinstance(module, torch.nn.Dropout))
    assert dropout.p == 0.5 and head[0].out_features == 32
    assert not torch.equal(dropout(features), features)
    assert torch.equal(dropout.eval()(features), features)
