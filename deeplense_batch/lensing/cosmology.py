"""From redshifts and solar masses to angles, in a flat universe of matter and a constant.

The comoving distance to redshift z is D_C(z) = c / H_0 integral_0^z dz' / E(z') with
E^2 = Omega_m (1 + z)^3 + 1 - Omega_m; angular diameter distances are

    D_l = D_C(z_l) / (1 + z_l)    D_s = D_C(z_s) / (1 + z_s)
    D_ls = (D_C(z_s) - D_C(z_l)) / (1 + z_s)

and a point mass M has the Einstein radius theta_E^2 = 4 G M / c^2  D_ls / (D_l D_s), which is also
M / (pi Sigma_cr) with the critical surface density Sigma_cr = c^2 / (4 pi G)  D_s / (D_l D_ls).

References:
    Hogg 1999, arXiv:astro-ph/9905116 (distances); Schneider, Ehlers and Falco 1992,
    Gravitational Lenses (Sigma_cr).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "ARCSEC",
    "H0",
    "Distances",
    "angular_distances",
    "critical_density",
    "einstein_radius_of_dispersion",
    "einstein_radius_squared",
    "luminosity_distances_by_mistake",
]

H0 = 70.0  # km/s/Mpc
OMEGA_M = 0.3
C = 299_792.458  # km/s
GM_SUN = 1.32712440e20  # m^3/s^2, IAU nominal solar mass parameter
METRES_PER_MPC = 3.085677581491367e22
ARCSEC = math.pi / 648_000  # rad

# Gauss-Legendre of this order leaves a relative error below 1e-12 up to redshift 5.
_NODES, _WEIGHTS = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(24))


class Distances(NamedTuple):
    """To the lens, to the source and between them, each (B,) float64, Mpc."""

    lens: Tensor
    source: Tensor
    between: Tensor


def angular_distances(z_l: Tensor, z_s: Tensor) -> Distances:
    """Angular diameter distances in a flat universe.

    Arguments:
        z_l: Redshift of the lens, (B,) float64.
        z_s: Redshift of the source, (B,) float64, above `z_l`.
    """
    lens, source = _comoving_distance(z_l), _comoving_distance(z_s)
    return Distances(lens / (1 + z_l), source / (1 + z_s), (source - lens) / (1 + z_s))


def luminosity_distances_by_mistake(z_l: Tensor, z_s: Tensor) -> Distances:
    """What some public generators use for angular distances, to reproduce their images only.

    Luminosity distances (1 + z) D_C, and their difference for D_ls. For z_l = 0.5 and z_s = 1 the
    squared Einstein radius comes out too small by 0.593 (DeepLenseSim, `lens.py`).

    Arguments:
        z_l: Redshift of the lens, (B,) float64.
        z_s: Redshift of the source, (B,) float64, above `z_l`.
    """
    lens = _comoving_distance(z_l) * (1 + z_l)
    source = _comoving_distance(z_s) * (1 + z_s)
    return Distances(lens, source, source - lens)


def einstein_radius_squared(mass: Tensor | float, distances: Distances) -> Tensor:
    """Squared Einstein radius of a point mass.

    Arguments:
        mass: Mass, broadcastable against (B,) float64, solar masses.
        distances: Of the lens and the source.

    Returns:
        theta_E^2, broadcast float64, arcsec^2.
    """
    lens, source, between = distances
    radius = 4.0 * GM_SUN / (C * 1e3) ** 2 / METRES_PER_MPC  # 4 G M_sun / c^2, Mpc
    return mass * radius * between / (lens * source) / ARCSEC**2


def einstein_radius_of_dispersion(sigma_v: Tensor | float, distances: Distances) -> Tensor:
    """Einstein radius of an isothermal sphere, theta_E = 4 pi (sigma_v / c)^2 D_ls / D_s.

    Arguments:
        sigma_v: Velocity dispersion, broadcastable against (B,) float64, km/s.
        distances: Of the lens and the source.

    Returns:
        theta_E, broadcast float64, arcsec.
    """
    return 4.0 * math.pi * (sigma_v / C) ** 2 * distances.between / distances.source / ARCSEC


def critical_density(z: Tensor) -> Tensor:
    """Critical density 3 H^2 / (8 pi G) at redshift z, the shape of `z`, solar masses / Mpc^3."""
    now = 3 * (H0 * 1e3) ** 2 * METRES_PER_MPC / (8 * math.pi * GM_SUN)
    return now * (OMEGA_M * (1 + z) ** 3 + (1 - OMEGA_M))


def _comoving_distance(z: Tensor) -> Tensor:
    """Comoving distance in Mpc, by Gauss-Legendre quadrature over redshift."""
    half = 0.5 * z[..., None]
    at = half * (_NODES + 1)
    integrand = torch.rsqrt(OMEGA_M * (1 + at) ** 3 + (1 - OMEGA_M))
    return C / H0 * (half * integrand * _WEIGHTS).sum(-1)
