"""The smooth lens as seven numbers, against the profiles that it is made of."""

from __future__ import annotations

import torch
from torch import Tensor

from deeplense_batch.lensing.camera import fine_grid
from deeplense_batch.lensing.macro import (
    in_unit,
    macro_convergence,
    macro_deflection,
    macro_of_truth,
    pixel_grid,
)
from deeplense_batch.lensing.profiles import shear, sie
from deeplense_batch.lensing.source_plane import divergence


def drawn(samples: int, seed: int = 0) -> Tensor:
    """The seven numbers of lenses, (B, 7), half frames."""
    random = torch.Generator().manual_seed(seed)
    low = torch.tensor([0.25, -0.25, -0.25, -0.05, -0.05, -0.1, -0.1])
    high = torch.tensor([0.4, 0.25, 0.25, 0.05, 0.05, 0.1, 0.1])
    return low + (high - low) * torch.rand(samples, 7, generator=random)


def test_seven_numbers_are_ellipsoid_and_shear():
    scene = {
        "theta_e": torch.tensor([1.2, 0.9]),
        "lens": torch.tensor([[0.02, -0.01, 0.7, 0.4], [0.0, 0.0, 0.95, 2.8]]),
        "shear": torch.tensor([[0.03, -0.02], [0.0, 0.05]]),
    }
    numbers = macro_of_truth(*scene.values())
    x, y = (v * 3.75 for v in pixel_grid(40, numbers))
    cx, cy, q, phi = (v[:, None, None] for v in scene["lens"].unbind(1))
    lens = sie(x - cx, y - cy, scene["theta_e"][:, None, None], q, phi)
    outer = shear(x, y, *(v[:, None, None] for v in scene["shear"].unbind(1)))
    expected = torch.stack([a + b for a, b in zip(lens, outer, strict=True)], 1)
    assert torch.allclose(macro_deflection(numbers, x, y), expected, atol=1e-3)
    halved = macro_deflection(in_unit(numbers, 3.75), x / 3.75, y / 3.75) * 3.75
    assert torch.allclose(halved, macro_deflection(numbers, x, y), atol=1e-5)


def test_a_round_lens_has_a_finite_gradient_even_at_its_middle():
    numbers = torch.tensor([[0.3, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]], requires_grad=True)
    x, y = pixel_grid(51, numbers)  # the middle of a pixel is the middle of the lens
    macro_deflection(numbers, x, y, least=2 / 51).square().sum().backward()
    assert torch.isfinite(numbers.grad).all() and numbers.grad.abs().max() < 1e6


def test_the_deflection_of_a_lens_is_the_gradient_of_its_mass():
    """By central differences, whose error falls as the square of the pixel."""
    numbers = drawn(2).double()
    x, y = fine_grid(512, 2 / 512, 1)
    alpha = macro_deflection(numbers, x, y)
    curl = divergence(torch.stack([alpha[:, 1], -alpha[:, 0]], 1))
    away = (torch.hypot(x, y) > 0.2).expand_as(curl)[:, 2:-2, 2:-2]
    kappa = macro_convergence(numbers, x, y)[:, 2:-2, 2:-2]
    assert curl[:, 2:-2, 2:-2][away].abs().max() < 1.5e-3
    half = divergence(alpha)[:, 2:-2, 2:-2] / 2
    assert torch.allclose(half[away], kappa[away], atol=1e-3)


def test_a_frame_goes_from_minus_one_to_one_between_its_edges():
    x, y = pixel_grid(4, torch.zeros(1))
    assert x.shape == (1, 1, 4) and y.shape == (1, 4, 1)
    assert x.flatten().tolist() == y.flatten().tolist() == [-0.75, -0.25, 0.25, 0.75]


def test_ellipticity_has_twice_the_angle_of_the_lens():
    scenes = torch.tensor([[0.0, 0.0, 0.5, torch.pi / 4], [0.0, 0.0, 0.5, 5 * torch.pi / 4]])
    numbers = macro_of_truth(torch.ones(2), scenes, torch.zeros(2, 2))
    expected = torch.tensor([1, 0, 1 / 3, 0, 0, 0, 0]).expand(2, 7)  # half a turn is none
    assert torch.allclose(numbers, expected, atol=1e-6)


def test_only_lengths_have_a_unit():
    found = in_unit(torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]]), 2.0)
    assert found.tolist() == [[0.5, 2.0, 3.0, 2.0, 2.5, 6.0, 7.0]]
