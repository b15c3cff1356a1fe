"""Potential and convergence of the profiles, for the truth beside an image."""

from __future__ import annotations

import pytest
import torch
from made_arrays import numbers

from deeplense_batch.lensing.potentials import (
    line_potential,
    point_potential,
    pseudo_jaffe_convergence,
    pseudo_jaffe_potential,
    shear_potential,
    sie_convergence,
    sie_potential,
)
from deeplense_batch.lensing.profiles import (
    line_mass,
    point_masses,
    pseudo_jaffe,
    shear,
    sie,
)


@pytest.mark.parametrize("name", ("sie", "shear", "points", "halos", "line"))
def test_deflection_is_the_gradient_of_the_potential(name):
    """And half of its divergence is the convergence."""
    random = torch.Generator().manual_seed(4)
    x, y = (torch.rand(2, 50, dtype=torch.float64, generator=random) * 4 - 2).requires_grad_()
    one = [v.view(1, 1) for v in numbers(0.0, 0.0)]
    far, near = numbers(0.2, 0.5)

    def each(many, *scales):  # of one mass at the origin, at every point
        at = [
            many(a.view(1, 1, 1), c.view(1, 1, 1), *one, *scales)
            for a, c in zip(x, y, strict=True)
        ]
        return tuple(torch.stack([pair[i].flatten()[0] for pair in at]) for i in range(2))

    ellipse = numbers(1.2, 0.7, 0.4)
    potential, alpha, kappa = {
        "sie": lambda: (
            sie_potential(x, y, *ellipse), sie(x, y, *ellipse), sie_convergence(x, y, *ellipse)
        ),
        "shear": lambda: (shear_potential(x, y, 0.05, 0.02), shear(x, y, 0.05, 0.02), 0 * x),
        "points": lambda: (
            point_potential(x, y, far), each(point_masses, far.view(1, 1)), 0 * x
        ),
        "halos": lambda: (
            pseudo_jaffe_potential(x, y, far, near),
            each(pseudo_jaffe, far.view(1, 1), near.view(1, 1)),
            pseudo_jaffe_convergence(x, y, far, near),
        ),
        "line": lambda: (
            line_potential(x, y, *numbers(0.4, 1.3, 0.08)),
            line_mass(x, y, *numbers(0.0, 0.0, 0.4, 1.3, 0.08)),
            0 * x,
        ),
    }[name]()  # fmt: skip
    slope = torch.autograd.grad(potential.sum(), (x, y), retain_graph=True)
    for ours, component in zip(slope, alpha, strict=True):
        assert torch.allclose(ours, component, atol=1e-12, rtol=0)
    divergence = sum(
        torch.autograd.grad(a.sum(), at, retain_graph=True)[0]
        for a, at in zip(alpha, (x, y), strict=True)
    )
    assert torch.allclose(divergence / 2, kappa, atol=1e-11, rtol=0)
