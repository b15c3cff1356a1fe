"""Potential and convergence of the profiles, for the truth beside an image.

The deflection of `profiles` is the gradient of the potential psi; the convergence is half of its
divergence, the surface density over the critical one. Points and lines of mass have a convergence
only where they are, which no map on a grid can hold: there it is zero.

Arguments are those of `profiles`: positions and parameters in arcsec that broadcast, psi in
arcsec^2, kappa without a unit.

References:
    Kormann, Schneider and Bartelmann 1994, A&A 284, 285; Keeton 2002, arXiv:astro-ph/0102341.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deeplense_batch.lensing.profiles import TINY, rotate, sie
from deeplense_batch.lensing.tnfw import tnfw_convergence_curve, tnfw_potential_curve

__all__ = [
    "line_potential",
    "point_potential",
    "pseudo_jaffe_convergence",
    "pseudo_jaffe_potential",
    "shear_potential",
    "sie_convergence",
    "sie_potential",
    "tnfw_convergence",
    "tnfw_potential",
]


def sie_potential(x: Tensor, y: Tensor, theta_e: Tensor | float, q: Tensor, phi: Tensor) -> Tensor:
    """psi of the isothermal ellipsoid: theta . alpha, since it is homogeneous of degree one."""
    alpha_x, alpha_y = sie(x, y, theta_e, q, phi)
    return x * alpha_x + y * alpha_y


def sie_convergence(
    x: Tensor, y: Tensor, theta_e: Tensor | float, q: Tensor, phi: Tensor
) -> Tensor:
    """kappa = theta_e sqrt(q) / (2 sqrt(q^2 u^2 + v^2)); finite at the centre, but large."""
    u, v = rotate(x, y, phi)
    return 0.5 * theta_e * torch.sqrt(q) * torch.rsqrt(q * q * u * u + v * v + TINY)


def shear_potential(x: Tensor, y: Tensor, g1: Tensor | float, g2: Tensor | float) -> Tensor:
    """psi = g1 (x^2 - y^2) / 2 + g2 x y."""
    return 0.5 * g1 * (x * x - y * y) + g2 * x * y


def point_potential(x: Tensor, y: Tensor, theta_m_squared: Tensor) -> Tensor:
    """psi = theta_M^2 ln r of one point mass at the origin."""
    return 0.5 * theta_m_squared * torch.log(x * x + y * y + TINY)


def pseudo_jaffe_potential(x: Tensor, y: Tensor, b: Tensor, cut: Tensor) -> Tensor:
    """psi = b [r - s + r_t ln(r_t + s)], s^2 = r^2 + r_t^2, of one halo at the origin."""
    squared = x * x + y * y + TINY
    s = torch.sqrt(squared + cut * cut)
    return b * (torch.sqrt(squared) - s + cut * torch.log(cut + s))


def pseudo_jaffe_convergence(x: Tensor, y: Tensor, b: Tensor, cut: Tensor) -> Tensor:
    """kappa = b / 2 (1 / r - 1 / s) of one halo at the origin."""
    squared = x * x + y * y + TINY
    return 0.5 * b * (torch.rsqrt(squared) - torch.rsqrt(squared + cut * cut))


def tnfw_potential(
    x: Tensor, y: Tensor, theta_m_squared: Tensor, scale: Tensor, tau: float
) -> Tensor:
    """psi of one truncated NFW halo at the origin, of a table to 2e-6 of its slope."""
    return theta_m_squared * tnfw_potential_curve(tau)((x * x + y * y) / scale**2)


def tnfw_convergence(
    x: Tensor, y: Tensor, theta_m_squared: Tensor, scale: Tensor, tau: float
) -> Tensor:
    """kappa of one truncated NFW halo at the origin, of a table to 1e-6."""
    kappa = tnfw_convergence_curve(tau)((x * x + y * y) / scale**2)
    return theta_m_squared / scale**2 * kappa


def line_potential(
    x: Tensor, y: Tensor, angle: Tensor, length: Tensor, theta_m_squared: Tensor
) -> Tensor:
    """psi of a uniform line whose middle is the origin: the integral of ln r along it.

    psi = theta_M^2 / L [F(u + L/2) - F(u - L/2)], F(w) = w ln(w^2 + v^2) / 2 - w + v atan(w / v).
    """
    u, v = rotate(x, y, angle)

    def integral(w: Tensor) -> Tensor:
        return 0.5 * w * torch.log(w * w + v * v + TINY) - w + v.abs() * torch.atan2(w, v.abs())

    return theta_m_squared / length * (integral(u + length / 2) - integral(u - length / 2))
