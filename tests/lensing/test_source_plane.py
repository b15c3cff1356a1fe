"""Between image plane and source plane: exact where it can be, with gradients."""

from __future__ import annotations

import torch

from deeplense_batch.lensing.macro import pixel_grid
from deeplense_batch.lensing.source_plane import divergence, gradient, relens, splat


def test_splat_and_relens_are_exact_where_they_can_be():
    """A source that is linear over its pixels comes back, whatever the lens."""
    x, y = pixel_grid(64, torch.zeros(1))
    beta = torch.stack(torch.broadcast_tensors(0.5 * x, 0.4 * y), 1)
    flat = torch.full((1, 2, 64, 64), 3.0)
    assert torch.allclose(relens(splat(flat, beta, 64), beta), flat, atol=1e-4)
    image = beta[:, :1] + 2 * beta[:, 1:]
    again = relens(splat(image, beta, 64), beta)
    assert (again - image)[..., 2:-2, 2:-2].abs().max() < 0.02
    outside = splat(image, beta * 100, 16)  # held at the edge, not lost and no error
    assert torch.isfinite(outside).all()
    beta.requires_grad_()
    splat(torch.rand(1, 1, 64, 64), beta, 64).square().sum().backward()
    assert beta.grad.abs().sum() > 0


def test_slopes_of_a_plane_wave():
    x, y = pixel_grid(128, torch.zeros(1))
    field = torch.sin(torch.pi * x) * torch.cos(torch.pi * y)
    slope = gradient(field)
    expected = torch.pi * torch.cos(torch.pi * x) * torch.cos(torch.pi * y)
    assert torch.allclose(slope[:, 0], expected, atol=5e-3)


def test_without_a_lens_the_source_is_the_image():
    x, y = pixel_grid(8, torch.zeros(1))
    beta = torch.stack(torch.broadcast_tensors(x, y), 1)
    image = torch.rand(1, 2, 8, 8)
    assert torch.allclose(splat(image, beta, 8), image, atol=1e-5)
    assert torch.allclose(relens(image, beta), image, atol=1e-5)


def test_rays_of_one_place_are_averaged_and_where_there_is_none_it_is_dark():
    beta = torch.full((1, 2, 1, 2), 0.25)  # both rays end in the middle of pixel (2, 2) of 4
    source = splat(torch.tensor([[[[1.0, 3.0]]]]), beta, 4)
    expected = torch.zeros(1, 1, 4, 4)
    expected[..., 2, 2] = 2
    assert torch.allclose(source, expected, atol=1e-5)


def test_a_gradient_has_no_curl_and_its_divergence_is_the_laplacian():
    field = torch.rand(1, 16, 16, dtype=torch.float64)
    slope = gradient(field)
    assert divergence(torch.stack([slope[:, 1], -slope[:, 0]], 1)).abs().max() < 1e-10
    shifted = sum(field.roll(2 * sign, axis) for sign in (-1, 1) for axis in (1, 2))
    assert torch.allclose(divergence(slope), (shifted - 4 * field) * (16 / 4) ** 2)
