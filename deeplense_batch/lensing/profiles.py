"""Deflection by the mass distributions of a lens, in closed form.

A ray seen at theta left the source at beta = theta - alpha(theta), where alpha = grad psi and the
convergence is kappa = div(alpha) / 2. A compact mass is given by the square of its Einstein
radius, theta_M^2 = M / (pi Sigma_cr), so that alpha = theta_M^2 / r outside it; no function here
knows about solar masses or distances (`cosmology` does).

All functions take the two components of theta and give the two components of alpha. Arguments
broadcast against each other: the columns x as (1, 1, W), the rows y as (1, H, 1) and parameters as
(B, 1, 1) give fields of (B, H, W). Nothing is softened; at a singular point itself alpha is finite
(its mean there, zero, for the round and elliptical profiles).

References:
    Kormann, Schneider and Bartelmann 1994, A&A 284, 285 (isothermal ellipsoid); Keeton 2002,
    arXiv:astro-ph/0102341 (its deflection in the form used here).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "line_mass",
    "line_share_inside",
    "point_masses",
    "points_on_line",
    "shear",
    "sie",
    "sis",
]

# Added to squared distances, arcsec^2: below the resolution of float32 beyond 1e-9 arcsec.
_TINY = 1e-24
# Below this the ellipse is a circle to 3e-9 of the deflection, and above it nothing divides by 0.
_LEAST_FLATTENING = 1e-4


def sis(x: Tensor, y: Tensor, theta_e: Tensor | float) -> tuple[Tensor, Tensor]:
    """Singular isothermal sphere at the origin: alpha = theta_e theta / |theta|.

    Arguments:
        x, y: Image-plane position, broadcastable float, arcsec.
        theta_e: Einstein radius, broadcastable float, arcsec.

    Returns:
        alpha_x, alpha_y: Deflection, broadcast float, arcsec.
    """
    strength = theta_e * torch.rsqrt(x * x + (y * y + _TINY))
    return strength * x, strength * y


def sie(
    x: Tensor, y: Tensor, theta_e: Tensor | float, q: Tensor, phi: Tensor
) -> tuple[Tensor, Tensor]:
    """Singular isothermal ellipsoid at the origin.

    In its own axes, with psi^2 = q^2 u^2 + v^2 and f^2 = 1 - q^2,

        alpha_u = theta_e sqrt(q) / f  atan(f u / psi)
        alpha_v = theta_e sqrt(q) / f  atanh(f v / psi)

    kappa = theta_e sqrt(q) / (2 psi), and the critical curve encloses pi theta_e^2 (Keeton 2002).

    Arguments:
        x, y: Image-plane position, broadcastable float, arcsec.
        theta_e: Einstein radius, broadcastable float, arcsec.
        q: Axis ratio of the convergence, broadcastable float in (0, 1]; 1 is `sis`.
        phi: Direction of the major axis from x, broadcastable float, rad.

    Returns:
        alpha_x, alpha_y: Deflection, broadcast float, arcsec.
    """
    f = torch.sqrt(1 - q * q).clamp_min(_LEAST_FLATTENING)
    u, v = _rotate(x, y, phi)
    per_psi = f * torch.rsqrt(q * q * u * u + v * v + _TINY)
    strength = theta_e * torch.sqrt(q) / f
    return _rotate(strength * torch.atan(per_psi * u), strength * torch.atanh(per_psi * v), -phi)


def shear(x: Tensor, y: Tensor, g1: Tensor | float, g2: Tensor | float) -> tuple[Tensor, Tensor]:
    """External shear: alpha = (g1 x + g2 y, g2 x - g1 y).

    Arguments:
        x, y: Image-plane position, broadcastable float, arcsec.
        g1, g2: Shear along the axes and along the diagonals, broadcastable float.

    Returns:
        alpha_x, alpha_y: Deflection, broadcast float, arcsec.
    """
    return g1 * x + g2 * y, g2 * x - g1 * y


def point_masses(
    x: Tensor, y: Tensor, centre_x: Tensor, centre_y: Tensor, theta_m_squared: Tensor
) -> tuple[Tensor, Tensor]:
    """Many point masses: alpha = sum over j of theta_j^2 (theta - c_j) / |theta - c_j|^2.

    Arguments:
        x: Columns of the image plane, (1, 1, W) float, arcsec.
        y: Rows of the image plane, (1, H, 1) float, arcsec.
        centre_x, centre_y: Positions c_j, (B, N) float, arcsec.
        theta_m_squared: Squared Einstein radius of each mass, (B, N) float, arcsec^2.

    Returns:
        alpha_x, alpha_y: Deflection, (B, H, W) float, arcsec.
    """
    alpha_x = x.new_zeros(len(centre_x), y.shape[-2], x.shape[-1])
    alpha_y = torch.zeros_like(alpha_x)
    # One mass at a time keeps the fields in the cache; only this sum is over whole fields.
    for cx, cy, squared in zip(centre_x.T, centre_y.T, theta_m_squared.T, strict=True):
        dx, dy = x - cx[:, None, None], y - cy[:, None, None]
        inverse = (dx * dx + (dy * dy + _TINY)).reciprocal_()
        alpha_x.addcmul_(inverse, dx * squared[:, None, None])
        alpha_y.addcmul_(inverse, dy * squared[:, None, None])
    return alpha_x, alpha_y


def line_mass(
    x: Tensor,
    y: Tensor,
    centre_x: Tensor,
    centre_y: Tensor,
    angle: Tensor,
    length: Tensor,
    theta_m_squared: Tensor,
) -> tuple[Tensor, Tensor]:
    """Uniform straight line of mass: a vortex of superfluid dark matter in the thin limit.

    With u along the line and v across it from its centre, a = length / 2 and E = theta_M^2,

        alpha_u = E / 2L  ln{[(u + a)^2 + v^2] / [(u - a)^2 + v^2]}
        alpha_v = E / L   [atan2(v, u - a) - atan2(v, u + a)]

    the integral of point masses along it. Across the line alpha_v jumps by 2 pi E / L.

    Arguments:
        x, y: Image-plane position, broadcastable float, arcsec.
        centre_x, centre_y: Middle of the line, broadcastable float, arcsec.
        angle: Direction of the line from x, broadcastable float, rad.
        length: Its length L, broadcastable float, arcsec.
        theta_m_squared: Squared Einstein radius of its whole mass, broadcastable float, arcsec^2.

    Returns:
        alpha_x, alpha_y: Deflection, broadcast float, arcsec.
    """
    u, v = _rotate(x - centre_x, y - centre_y, angle)
    before, after = u - length / 2, u + length / 2
    v_squared = v * v + _TINY
    per_length = theta_m_squared / length
    along = torch.log((after * after + v_squared) / (before * before + v_squared))
    across = torch.atan2(v, before) - torch.atan2(v, after)
    return _rotate(0.5 * per_length * along, per_length * across, -angle)


def points_on_line(
    centre_x: Tensor, centre_y: Tensor, angle: Tensor, length: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """Middles of the equal parts of straight lines, as places for `point_masses`.

    Arguments:
        centre_x, centre_y: Middle of each line, (B,) float, arcsec.
        angle: Its direction from x, (B,) float, rad.
        length: Its length, (B,) float, arcsec.
        count: Parts N of a line.

    Returns:
        x, y: Positions, (B, N) float, arcsec.
    """
    part = torch.arange(count, dtype=length.dtype, device=length.device)
    along = length[:, None] * ((part + 0.5) / count - 0.5)
    cos, sin = torch.cos(angle)[:, None], torch.sin(angle)[:, None]
    return centre_x[:, None] + along * cos, centre_y[:, None] + along * sin


def line_share_inside(
    radius: Tensor, centre_x: Tensor, centre_y: Tensor, angle: Tensor, length: Tensor
) -> Tensor:
    """Share of a uniform line that lies within a circle around the origin.

    By Gauss's law the mean radial deflection of the line over that circle is this share of its
    mass as a point mass: share theta_M^2 / radius.

    Arguments:
        radius: Radius of the circle, broadcastable float, arcsec.
        centre_x, centre_y: Middle of the line, broadcastable float, arcsec.
        angle: Direction of the line from x, broadcastable float, rad.
        length: Its length, broadcastable float, arcsec.

    Returns:
        Share in [0, 1], broadcast float.
    """
    u, v = _rotate(centre_x, centre_y, angle)
    half_chord = torch.sqrt((radius * radius - v * v).clamp_min(0.0))
    upper = torch.minimum(u + length / 2, half_chord)
    lower = torch.maximum(u - length / 2, -half_chord)
    return (upper - lower).clamp_min(0.0) / length


def _rotate(x: Tensor, y: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Components along axes turned by `angle`."""
    cos, sin = torch.cos(angle), torch.sin(angle)
    return cos * x + sin * y, cos * y - sin * x
