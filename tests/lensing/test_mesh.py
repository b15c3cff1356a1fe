"""Thousands of halos on a mesh against sums at every position."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deeplense_batch.lensing import mesh
from deeplense_batch.lensing.camera import fine_grid
from deeplense_batch.lensing.mesh import (
    LIGHT,
    directly,
    on_grid,
    point_slope,
    pseudo_jaffe_curve,
    with_edges,
)
from deeplense_batch.lensing.profiles import point_masses, pseudo_jaffe
from deeplense_batch.lensing.tnfw import tnfw_slope

SLOPES = {"tnfw": tnfw_slope(6.0), "pseudo_jaffe": pseudo_jaffe_curve, "point": point_slope}
PER_MASS, PIXEL = 2.772e-12, 0.05  # arcsec^2 of a solar mass at z = 0.5 before 1.0; arcsec


def population(count: int, seed: int = 3, profile: str = "tnfw") -> torch.Tensor:
    """Light halos of cold dark matter within 4 arcsec: x, y, theta_M^2, scale, (N, 4)."""
    random = np.random.default_rng(seed)
    low, high = 1e6**-0.9, (LIGHT / PER_MASS) ** -0.9
    squared = PER_MASS * (low + random.random(count) * (high - low)) ** (-1 / 0.9)
    radius, turn = 4 * np.sqrt(random.random(count)), 2 * np.pi * random.random(count)
    scale = 0.104 * (squared / 2.77e-4) ** 0.405  # of the concentrations at z = 0.5
    if profile == "pseudo_jaffe":
        scale = (squared * 1.2) ** (1 / 3)  # tidal radii
    halos = np.stack([radius * np.cos(turn), radius * np.sin(turn), squared, scale], 1)
    return torch.from_numpy(halos.astype(np.float32).astype(np.float64))


def images_of(count: int) -> torch.Tensor:
    return torch.zeros(count, dtype=torch.int64)


@pytest.mark.parametrize("profile", SLOPES)
def test_mesh_against_direct_sums(profile):
    """1,370 halos on 300 x 300 samples: below 1e-4 of a pixel, a few 1e-6 arcsec."""
    slope, halos = SLOPES[profile], population(1370, profile=profile)
    mine = on_grid(300, PIXEL / 2, with_edges(halos, slope), images_of(1370), 1, slope)
    exact = directly(*fine_grid(150, PIXEL, 2), halos, images_of(1370), 1, slope)
    for a, b in zip(mine, exact, strict=True):
        assert a.shape == (1, 300, 300) and a.dtype == torch.float64
        assert (a - b).abs().max() < 1e-4 * PIXEL
        assert (a - b).square().mean().sqrt() < 1e-5 * PIXEL
        assert b.square().mean().sqrt() > 2e-3  # of what the error is one


def test_direct_sums_against_float64_and_other_code():
    grid = fine_grid(40, 0.2, 1)
    halos = population(200, profile="pseudo_jaffe")
    x, y, squared, scale = (column[None] for column in halos.T)
    pairs = {
        "point": (point_slope, point_masses(*grid, x, y, squared)),
        "pseudo_jaffe": (pseudo_jaffe_curve, pseudo_jaffe(*grid, x, y, squared / scale, scale)),
    }
    for slope, expected in pairs.values():
        found = directly(*grid, halos, images_of(200), 1, slope)
        for a, b in zip(found, expected, strict=True):
            assert (a - b).abs().max() < 2e-8  # of deflections of 1e-2


@pytest.mark.parametrize("at_once", [1, 1 << 12, 1 << 30])
def test_order_company_and_pieces_change_no_bit(at_once, monkeypatch):
    """Sums are exact: of halos in any order, of images together, of any number at once."""
    slope, counts = SLOPES["tnfw"], (60, 1, 90)
    each = [with_edges(population(n, seed), slope) for seed, n in enumerate(counts)]
    x, y = fine_grid(32, PIXEL, 2)
    alone = [
        (on_grid(64, PIXEL / 2, one, images_of(len(one)), 1, slope),
         directly(x, y, one, images_of(len(one)), 1, slope))
        for one in each
    ]  # fmt: skip
    image = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
    order = torch.randperm(sum(counts), generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(mesh, "_AT_ONCE", {"cpu": at_once})
    all_, image = torch.cat(each)[order], image[order]
    far = mesh._far(20, all_, image, 3, slope)
    near = mesh._near(64, PIXEL / 2, all_, image, 3, slope)
    together = directly(x, y, all_, image, 3, slope)
    for i, one in enumerate(each):
        own = images_of(len(one))
        assert torch.equal(together[0][i], alone[i][1][0][0])
        assert torch.equal(far[1][i], mesh._far(20, one, own, 1, slope)[1][0])
        assert torch.equal(near[0][i], mesh._near(64, PIXEL / 2, one, own, 1, slope)[0][0])
    whole = on_grid(64, PIXEL / 2, all_, image, 3, slope)
    assert torch.allclose(whole[0][0], alone[0][0][0][0], rtol=0, atol=1e-15)


def test_halos_beyond_the_frame_reach_into_it():
    slope = SLOPES["tnfw"]
    places = [[0.0, 5.0], [1.3, 1.3], [-0.9, 0.2], [9.0, -9.0], [0.79, 0.0]]
    halos = torch.tensor([[x, y, LIGHT, 0.1] for x, y in places], dtype=torch.float64)
    for one in halos.split(1):
        mine = on_grid(64, PIXEL / 2, with_edges(one, slope), images_of(1), 1, slope)
        exact = directly(*fine_grid(32, PIXEL, 2), one, images_of(1), 1, slope)
        for a, b in zip(mine, exact, strict=True):
            assert (a - b).abs().max() < 1e-4 * PIXEL and b.abs().max() > 1e-5


def test_no_halos_deflect_nothing():
    none = torch.zeros(0, 6, dtype=torch.float64)
    for field in on_grid(64, PIXEL / 2, none, images_of(0), 2, SLOPES["tnfw"]):
        assert field.shape == (2, 64, 64) and not field.any()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_has_the_same_terms():
    slope, halos = SLOPES["tnfw"], with_edges(population(300), SLOPES["tnfw"])
    there = halos.cuda(), images_of(300).cuda(), 1, slope
    for part, size in ((mesh._far, (58,)), (mesh._near, (300, PIXEL / 2))):
        here = part(*size, halos, images_of(300), 1, slope)
        for a, b in zip(here, part(*size, *there), strict=True):
            assert torch.equal(a, b.cpu())
