"""Truncated NFW halos against lenstronomy, against integrals, and by their tables."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from deeplense_batch.lensing.cosmology import critical_density
from deeplense_batch.lensing.potentials import tnfw_convergence, tnfw_potential
from deeplense_batch.lensing.tnfw import (
    concentration,
    scale_radius,
    tnfw_convergence_curve,
    tnfw_density,
    tnfw_mass_inside,
    tnfw_slope,
)

SCALE, SQUARED = 0.104, 2.77e-4  # arcsec and arcsec^2: 1e8 solar masses at z = 0.5
RADII = np.array([0.002, 0.03, 0.1, 0.3, 1.1, 4.0])  # arcsec

# lenstronomy 1.13.6, TNFW: deflection (arcsec) and convergence at `RADII`, by tau. Its amplitude
# is the deflection of the halo without truncation at r_s; `amplitude` has that of our mass.
TABLE = {
    2.0: (
        [1.90923897427e-04, 9.91578931258e-04, 1.19054286906e-03, 7.58056410604e-04,
         2.46874797096e-04, 6.91375694313e-05],
        [8.35837469e-02, 2.26289593e-02, 5.26973797e-03, 3.94762626e-04,
         4.20224440e-06, 2.76565591e-08],
    ),
    6.0: (
        [8.98901566948e-05, 4.89749220751e-04, 6.58547014496e-04, 5.47831697575e-04,
         2.33313791654e-04, 6.87893430207e-05],
        [3.94919609e-02, 1.15543957e-02, 3.45696937e-03, 5.49687494e-04,
         1.42681452e-05, 1.12350172e-07],
    ),
}  # fmt: skip


def slope(radius: np.ndarray, tau: float) -> np.ndarray:
    """Deflection by the table of a field, float64, arcsec."""
    s = torch.from_numpy((radius / SCALE) ** 2)
    return SQUARED / SCALE**2 * tnfw_slope(tau)(s).numpy() * radius


def amplitude(tau: float) -> float:
    """lenstronomy's ``alpha_Rs`` of the halo."""
    whole = (tau**2 - 1) * math.log(tau) + tau * math.pi - (tau**2 + 1)
    density = SQUARED / (4 * SCALE**3 * tau**2 / (tau**2 + 1) ** 2 * whole)
    return density * 4 * SCALE**2 * (1 - math.log(2))


@pytest.mark.parametrize("tau", TABLE)
def test_table_of_lenstronomy(tau):
    alpha, kappa = TABLE[tau]
    x = RADII / SCALE
    assert np.abs(SQUARED * tnfw_mass_inside(x, tau) / RADII - alpha).max() < 1e-10  # arcsec
    assert np.abs(slope(RADII, tau) - alpha).max() < 1e-9
    assert 0.5 * SQUARED / SCALE**2 * tnfw_density(x, tau) == pytest.approx(kappa, rel=1e-6)


@pytest.mark.parametrize("tau", [2.0, 6.0, 15.0])
def test_against_lenstronomy(tau):
    """On 20,000 positions from 0.002 to 20 arcsec: to 1e-13 arcsec, and to 1e-9 by the table."""
    module = pytest.importorskip("lenstronomy.LensModel.Profiles.tnfw")
    radius = np.geomspace(0.002, 20, 20_000)
    halo = (0.6 * radius, 0.8 * radius, SCALE, amplitude(tau), tau * SCALE)
    theirs = module.TNFW().derivatives(*halo)[0] / 0.6
    ours = SQUARED * tnfw_mass_inside(radius / SCALE, tau) / radius
    assert np.abs(ours - theirs).max() < 1e-12 and np.abs(ours / theirs - 1).max() < 1e-8
    assert np.abs(slope(radius, tau) - theirs).max() < 1e-9
    xx, _, _, yy = module.TNFW().hessian(*halo)
    kappa = 0.5 * SQUARED / SCALE**2 * tnfw_density(radius / SCALE, tau)
    assert np.abs(kappa - 0.5 * (xx + yy)).max() < 1e-6


@pytest.mark.parametrize("tau", [1.5, 6.0])
def test_mass_is_the_integral_of_the_density(tau):
    x = np.geomspace(1e-3, 3e3, 200_001)  # with positions beside 1, where closed forms are 0 / 0
    density = tnfw_density(x, tau) * x
    inside = tnfw_mass_inside(x[:1], tau) + np.append(
        0.0, np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(x))
    )
    assert np.abs(inside - tnfw_mass_inside(x, tau)).max() < 1e-6
    assert tnfw_mass_inside(np.array([1e5]), tau)[0] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 2e-7), (torch.float64, 6e-8)])
def test_tables_meet_the_closed_forms(dtype, error):
    x = np.exp(np.random.default_rng(0).uniform(-7, 7, 50_000))
    s = torch.from_numpy(x * x).to(dtype).view(2, 5, 5000)
    x = np.sqrt(s.double().numpy())
    slopes, kappas = tnfw_slope(6.0)(s), tnfw_convergence_curve(6.0)(s)
    assert slopes.dtype == dtype and slopes.shape == s.shape
    assert np.abs(slopes.double().numpy() * x * x / tnfw_mass_inside(x, 6.0) - 1).max() < error
    assert np.abs(2 * kappas.double().numpy() / tnfw_density(x, 6.0) - 1).max() < 1e-6


def test_tables_end_flat():
    ends = torch.tensor([0.0, 1e-30, 1e30, math.inf], dtype=torch.float32)
    values = tnfw_slope(6.0)(ends)
    assert values[0] == values[1] > 1 and values[2] == values[3] < 1e-11


def test_potential_and_convergence_belong_to_the_deflection():
    """Gradients by automatic differentiation of the table, at 200 positions."""
    x, y = torch.rand(2, 200, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    scale, squared = torch.tensor(SCALE), torch.tensor(SQUARED)
    step = 1e-5
    halo = squared.double(), scale.double(), 6.0
    rise = (tnfw_potential(x + step, y, *halo) - tnfw_potential(x - step, y, *halo)) / (2 * step)
    radius = torch.hypot(x, y)
    alpha = torch.from_numpy(slope(radius.numpy(), 6.0)) * x / radius
    assert (rise - alpha).abs().max() < 2e-8
    density = tnfw_density(radius.numpy() / SCALE, 6.0)
    kappa = tnfw_convergence(x, y, *halo).numpy()
    assert kappa == pytest.approx(0.5 * SQUARED / SCALE**2 * density, rel=1e-5)


def test_concentration_of_dutton_and_maccio():
    """Their Table 3 at z = 0: log c = 0.905 - 0.101 log(M h / 1e12)."""
    z = torch.zeros(2, dtype=torch.float64)
    mass = torch.tensor([1e12, 1e9], dtype=torch.float64) / 0.7
    assert concentration(mass, z).log10().tolist() == pytest.approx([0.905, 0.905 + 0.303])


@pytest.mark.parametrize("mass", [1e6, 1e8, 1e10])
def test_scale_radius_is_that_of_a_halo_of_the_whole_mass(mass):
    """By integration: the density to which r_s and c belong holds that mass when truncated."""
    z, tau = torch.tensor(0.5, dtype=torch.float64), 6.0
    r_s = float(scale_radius(torch.tensor(mass, dtype=torch.float64), z, tau))
    x = np.geomspace(1e-5, 1e5, 400_001)
    # r_s and c(M_200) say M_200, and with it the density.
    trial = torch.logspace(4, 12, 4001, dtype=torch.float64)
    c = concentration(trial, z)
    radius = (3 * trial / (4 * math.pi * 200 * critical_density(z))) ** (1 / 3) / c
    m_200 = float(np.interp(math.log(r_s), radius.log().numpy(), trial.numpy()))
    c_200 = float(concentration(torch.tensor(m_200, dtype=torch.float64), z))
    normal = m_200 / (math.log1p(c_200) - c_200 / (1 + c_200))
    shells = x / (1 + x) ** 2 * tau**2 / (x**2 + tau**2)
    assert normal * np.trapezoid(shells, x) == pytest.approx(mass, rel=1e-3)
