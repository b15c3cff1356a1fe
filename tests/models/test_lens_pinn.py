"""The network that solves the lens equation: its deflection is one of some mass."""

from __future__ import annotations

import torch
from tiny_networks import physics_network
from torch import nn

from deeplense_batch.lensing.macro import macro_convergence, pixel_grid
from deeplense_batch.lensing.source_plane import divergence


def test_the_deflection_of_the_network_has_no_curl():
    torch.manual_seed(0)
    model = physics_network("lens_pinn").eval()
    nn.init.normal_(model.decoder[-1].weight)  # as if it had learnt something
    with torch.no_grad():
        output = model(torch.randn(2, 1, 64, 64))
    correction = output["correction"]
    turned = torch.stack([correction[:, 1], -correction[:, 0]], 1)
    scale = divergence(correction).abs().max()
    assert scale > 1e-3 and divergence(turned).abs().max() < 1e-4 * scale
    edge = torch.cat([correction[..., 0], correction[..., -1]], -1)
    assert edge.abs().max() == 0


def test_before_it_has_learnt_anything_it_corrects_nothing():
    torch.manual_seed(0)
    model = physics_network("lens_pinn").eval()
    images = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        found = model(images)
    assert not found["correction"].any() and torch.equal(found["relensed"], found["smooth"])
    assert torch.equal(found["image"], images)
    x, y = pixel_grid(64, images)
    assert torch.allclose(found["convergence"], macro_convergence(found["parameters"], x, y))


def test_any_output_of_its_head_is_a_lens_that_fits_into_the_frame():
    torch.manual_seed(0)
    model = physics_network("lens_pinn").eval()
    with torch.no_grad():
        model.head[-1].weight *= 1e3
        found = model(torch.randn(4, 1, 64, 64))
    radius, e1, e2, x, y, g1, g2 = found["parameters"].unbind(1)
    assert ((radius >= 0) & (radius <= 1)).all()
    assert (torch.hypot(e1, e2) <= 0.5 + 1e-6).all() and (torch.hypot(g1, g2) <= 0.4 + 1e-6).all()
    assert x.abs().max() <= 0.2 and y.abs().max() <= 0.2
    assert all(torch.isfinite(values).all() for values in found.values())
