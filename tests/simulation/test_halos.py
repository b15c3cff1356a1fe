"""The halos of `physical` are those that it names: mass law, number, and share at the ring."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy import stats

from deeplense_batch.lensing.tnfw import tnfw_mass_inside
from deeplense_batch.simulation.distributions import Fixed, PowerLaw, Uniform
from deeplense_batch.simulation.halos import (
    least_mean_count,
    mean_counts,
    mean_deflection,
    most_halos,
    per_solar_mass,
    scales,
)
from deeplense_batch.simulation.overrides import with_overrides
from deeplense_batch.simulation.presets import PRESETS
from deeplense_batch.simulation.scenes import (
    Scene,
    as_batch,
    draw_scene,
    draw_scenes,
    halo_numbers,
)

PHYSICAL = PRESETS["physical"]
LAW = PHYSICAL.sphere.mass


@pytest.fixture(scope="module")
def thousand() -> list[Scene]:
    streams = [np.random.default_rng([11, i]) for i in range(1000)]
    return draw_scenes(PHYSICAL, [1] * 1000, streams)


def means(scenes: list[Scene]) -> np.ndarray:
    """Mean number of halos of each scene, by what was drawn before them."""
    column = {name: [float(scene[name]) for scene in scenes] for name in scenes[0] if name in KEYS}
    fractions, radii, *redshifts = (column[name] for name in KEYS)
    return np.array(mean_counts(PHYSICAL, fractions, radii, redshifts))


KEYS = ("substructure_fraction", "theta_e", "z_l", "z_s")


def test_masses_of_a_thousand_scenes_follow_the_law(thousand):
    """dN/dm ~ m^-1.9 from 1e6 to 1e10 solar masses, and nothing above: KS, and chi^2 in bins."""
    assert (LAW.exponent, LAW.low, LAW.high) == (-1.9, 1e6, 1e10)
    masses = np.concatenate([scene["halos"][:, 0] for scene in thousand])
    assert len(masses) > 1_000_000 and masses.min() >= 1e6 and masses.max() <= 1e10

    def below(mass: np.ndarray) -> np.ndarray:
        return (mass**-0.9 - 1e6**-0.9) / (1e10**-0.9 - 1e6**-0.9)

    assert stats.kstest(masses, below).pvalue > 1e-3
    found, ends = np.histogram(np.log10(masses), np.linspace(6, 10, 9))
    expected = len(masses) * np.diff(below(10**ends))
    assert expected.min() > 500
    assert stats.chisquare(found, expected).pvalue > 1e-3
    assert masses.mean() == pytest.approx(LAW.mean, rel=0.04)  # three standard errors of 1.2 %


def test_their_number_is_poisson(thousand):
    counts, expected = np.array([len(scene["halos"]) for scene in thousand]), means(thousand)
    scatter = (counts - expected) / np.sqrt(expected)
    assert abs(scatter.mean()) < 4 / math.sqrt(1000)
    assert scatter.var() == pytest.approx(1, abs=4 * math.sqrt(2 / 1000))
    assert 1200 < counts.mean() < 1500 and counts.max() <= most_halos(PHYSICAL) < 6000
    fraction = np.array([scene["substructure_fraction"] for scene in thousand])
    assert stats.kstest(np.log10(fraction / 0.002), "uniform").pvalue > 1e-3


def test_f_sub_is_found_in_the_annulus(thousand):
    """Mass within 0.8 to 1.2 Einstein radii over that of an isothermal lens, 1/2 Sigma_cr."""
    found, expected, drawn = 0.0, 0.0, 0.0
    batch = as_batch([scene | {"halos": np.zeros((0, 4))} for scene in thousand])
    surface = 1 / (math.pi * per_solar_mass(PHYSICAL, batch["z_l"], batch["z_s"]).numpy())
    for scene, critical in zip(thousand, surface, strict=True):
        mass, x, y, _ = scene["halos"].T
        radius, theta_e = np.hypot(x, y), float(scene["theta_e"])
        inside = (radius > 0.8 * theta_e) & (radius < 1.2 * theta_e)
        host = 0.5 * critical * math.pi * (1.2**2 - 0.8**2) * theta_e**2
        found += mass[inside].sum()
        expected += float(scene["substructure_fraction"]) * host
        drawn += host
    assert found / expected == pytest.approx(1, abs=0.12)  # a standard error of 0.04
    assert 0.006 < found / drawn < 0.010  # the mean of a log-uniform 0.002 to 0.02 is 0.0078


def test_their_convergence_at_the_ring_is_nearly_half_of_f_sub():
    """From the deflection of the halos: 0.95 of it, as they reach beyond R, where none lie.

    The mean convergence of an annulus is what it adds to theta times the mean deflection.
    """
    centre = {"place": "Cartesian", "x": 0, "y": 0}
    changes = {"fraction": 0.1, "lens.theta_e": 1.2, "lens.centre": centre}
    preset = with_overrides(PHYSICAL, changes)
    streams = [np.random.default_rng([3, i]) for i in range(12)]
    scenes = as_batch(draw_scenes(preset, [1] * 12, streams))
    halos = halo_numbers(preset, scenes)
    inner, outer = (
        mean_deflection(preset, halos, share * scenes["theta_e"]) * share * scenes["theta_e"]
        for share in (0.7, 1.3)
    )
    convergence = (outer - inner) / ((1.3**2 - 0.7**2) * scenes["theta_e"] ** 2)
    assert 0.88 < convergence.mean().item() / (0.1 / 2) < 1.0


def test_places_are_uniform_and_the_heaviest_comes_first(thousand):
    share = [
        np.hypot(*scene["halos"][:, 1:3].T) ** 2 / (3 * scene["theta_e"]) ** 2
        for scene in thousand[:100]
    ]
    assert stats.kstest(np.concatenate(share), "uniform").pvalue > 1e-3
    assert all((np.diff(scene["halos"][:, 0]) <= 0).all() for scene in thousand)


def test_concentrations_scatter(thousand):
    above = np.concatenate([scene["halos"][:, 3] for scene in thousand[:100]])
    assert stats.kstest(above / 0.11, "norm").pvalue > 1e-3
    plain = with_overrides(PHYSICAL, {"sphere.scatter": None})
    assert draw_scene(plain, 1, np.random.default_rng(0))["halos"].shape[1] == 3


def test_the_mean_of_a_power_law():
    assert pytest.approx(1.361e7, rel=1e-3) == LAW.mean
    assert PowerLaw(-2.0, 1.0, math.e).mean == pytest.approx(1 / (1 - 1 / math.e))
    assert PowerLaw(1.0, 0.0, 3.0).mean == pytest.approx(2.0)


def test_the_most_halos_hold_every_draw_of_every_preset():
    for name, preset in PRESETS.items():
        scene = draw_scene(preset, 1, np.random.default_rng(0))
        assert len(scene["halos"]) <= most_halos(preset), name
    near = with_overrides(PHYSICAL, {"z_l": [0.2, 0.5], "z_s": [0.9, 2.0]})
    tops = dataclasses.replace(near, lens=dataclasses.replace(near.lens, theta_e=Fixed(1.5)))
    corners = [[z_l, z_s] for z_l in (0.2, 0.35, 0.5) for z_s in (0.9, 2.0)]
    largest = mean_counts(tops, [0.02] * 6, [1.5] * 6, list(zip(*corners, strict=True)))
    assert max(largest) < most_halos(near) < 1.3 * max(largest)
    bottoms = dataclasses.replace(near, lens=dataclasses.replace(near.lens, theta_e=Fixed(0.9)))
    means = mean_counts(bottoms, [0.002] * 6, [0.9] * 6, list(zip(*corners, strict=True)))
    assert near.lens.theta_e == Uniform(0.9, 1.5)
    assert least_mean_count(near) == pytest.approx(min(means), rel=1e-5)
    in_arcsec = with_overrides(PHYSICAL, {"sphere.unit": "arcsec"})
    assert most_halos(in_arcsec) < most_halos(PHYSICAL)
    by_mass = dataclasses.replace(
        PHYSICAL, lens=dataclasses.replace(PHYSICAL.lens, theta_e=None), z_l=Uniform(0.4, 0.6)
    )
    assert most_halos(by_mass) >= len(draw_scene(by_mass, 1, np.random.default_rng(1))["halos"])


@pytest.mark.parametrize(("profile", "least", "most"), [("tnfw", 0.6, 0.7), ("point", 1, 1)])
def test_scales(profile, least, most):
    """Scale radii at z = 0.5: 4.1 kpc, 0.66 arcsec, of 1e10 solar masses."""
    changes = {"sphere.profile": profile}
    if profile != "tnfw":
        changes |= {"sphere.truncation": None, "sphere.scatter": None}
    preset = with_overrides(PHYSICAL, changes)
    halos = torch.tensor([[[1e10, 0, 0, 0], [0.0, 0, 0, 0]]], dtype=torch.float64)
    z_l, theta_e = torch.tensor([0.5, 1.2], dtype=torch.float64).split(1)
    found = scales(preset, halos, halos[..., 0] * 2.772e-12, z_l, theta_e)
    assert least <= found[0, 0] <= most and found[0, 1] == 0
    assert torch.equal(
        scales(preset, halos[..., :3], halos[..., 0] * 2.772e-12, z_l, theta_e), found
    )
    halos[0, 0, 3] = 0.2  # half as large again, and less as the mass before its truncation is more
    denser = scales(preset, halos, halos[..., 0] * 2.772e-12, z_l, theta_e)[0, 0]
    assert denser == found[0, 0] if profile == "point" else 0.6 < denser / found[0, 0] < 0.75


def test_mean_deflection_is_that_of_a_dense_circle():
    """Of one scene's halos by the closed form at 5,000 points, and nearly that of points."""
    scene = as_batch([draw_scene(PHYSICAL, 1, np.random.default_rng(5))])
    halos = halo_numbers(PHYSICAL, scene)[:, ::10]
    ring = scene["theta_e"]
    turn = (np.arange(5000) + 0.5) * (2 * math.pi / 5000)
    total = 0.0
    for x, y, squared, scale in halos[0].numpy():
        dx, dy = ring.item() * np.cos(turn) - x, ring.item() * np.sin(turn) - y
        radius = np.hypot(dx, dy)
        alpha = squared * tnfw_mass_inside(radius / scale, 6.0) / radius
        total += (alpha * (dx * np.cos(turn) + dy * np.sin(turn)) / radius).mean()
    found = mean_deflection(PHYSICAL, halos, ring).item()
    assert found == pytest.approx(total, abs=2e-6) and total > 1e-3
