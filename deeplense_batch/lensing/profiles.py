"""Deflection by the mass distributions of a lens, in closed form.

A ray seen at theta left the source at beta = theta - alpha(theta), where alpha = grad psi and the
convergence is kappa = div(alpha) / 2. A compact mass is given by the square of its Einstein
radius, theta_M^2 = M / (pi Sigma_cr), so that alpha = theta_M^2 / r outside it; no function here
knows about solar masses or distances (`cosmology` does).

All functions take the two components of theta and give the two components of alpha. Arguments
broadcast against each other: the columns x as (1, 1, W), the rows y as (1, H, 1) and parameters as
(B, 1, 1) give fields of (B, H, W). Nothing is softened; at a singular point itself alpha is finite
(its mean there, zero, for the round and elliptical profiles).

Fields of many masses can be added up in float32 by operations that IEEE 754 rounds in one way only
(+ - * /, one library call each, and `root`): half the time, and the same bits on every processor.

References:
    Kormann, Schneider and Bartelmann 1994, A&A 284, 285 (isothermal ellipsoid); Keeton 2002,
    arXiv:astro-ph/0102341 (its deflection in the form used here); Dalal and Kochanek 2002, ApJ
    572, 25 (tidally cut halos).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "TINY",
    "line_mass",
    "line_share_inside",
    "point_masses",
    "points_on_line",
    "pseudo_jaffe",
    "pseudo_jaffe_slope",
    "root",
    "rotate",
    "shear",
    "sie",
    "sis",
    "tidal_radii",
]

# Added to squared distances, arcsec^2: below the resolution of float32 beyond 1e-9 arcsec.
TINY = 1e-24
# Below this the ellipse is a circle to 3e-9 of the deflection, and above it nothing divides by 0.
_LEAST_FLATTENING = 1e-4
_AT_ONCE = 8  # masses by one launch
_ONE_BY_ONE = ("cpu",)  # devices on which the fields of one mass fill the cache


def sis(x: Tensor, y: Tensor, theta_e: Tensor | float) -> tuple[Tensor, Tensor]:
    """Singular isothermal sphere at the origin: alpha = theta_e theta / |theta|.

    Arguments:
        x, y: Image-plane position, broadcastable float, arcsec.
        theta_e: Einstein radius, broadcastable float, arcsec.

    Returns:
        alpha_x, alpha_y: Deflection, broadcast float, arcsec.
    """
    strength = theta_e * torch.rsqrt(x * x + (y * y + TINY))
    return strength * x, strength * y


def sie(
    x: Tensor, y: Tensor, theta_e: Tensor | float, q: Tensor, phi: Tensor
) -> tuple[Tensor, Tensor]:
    """Singular isothermal ellipsoid at the origin.

    In its own axes, with psi^2 = q^2 u^2 + v^2 and f^2 = 1 - q^2,

        alpha_u = theta_e sqrt(q) / f  atan2(f u, psi)
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
    qu, v = rotate(q * x, q * y, phi)[0], rotate(x, y, phi)[1]
    fu, fv = rotate(f * x, f * y, phi)
    psi_squared = torch.addcmul(qu * qu, v, v) + TINY
    per_psi = torch.rsqrt(psi_squared)
    along, across = torch.atan2(fu, psi_squared * per_psi), torch.atanh(fv * per_psi)
    strength = theta_e * torch.sqrt(q) / f
    return _turned_back(strength, along, strength, across, phi)


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
    x: Tensor,
    y: Tensor,
    centre_x: Tensor,
    centre_y: Tensor,
    theta_m_squared: Tensor,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """Many point masses: alpha = sum over j of theta_j^2 (theta - c_j) / |theta - c_j|^2.

    Arguments:
        x: Columns of the image plane, (1, 1, W) float, arcsec.
        y: Rows of the image plane, (1, H, 1) float, arcsec.
        centre_x, centre_y: Positions c_j, (B, N) float, arcsec.
        theta_m_squared: Squared Einstein radius of each mass, (B, N) float, arcsec^2.
        dtype: Of the sum; distances are taken in the type of `x` first.

    Returns:
        alpha_x, alpha_y: Deflection, (B, H, W) of `dtype`, arcsec.
    """

    def deflections(cx: Tensor, cy: Tensor, squared: Tensor) -> tuple[Tensor, Tensor]:
        dx, dy = (x - cx).to(dtype), (y - cy).to(dtype)
        weight = squared.to(dtype) / (dx * dx + (dy * dy + TINY))  # no addcmul: see `_summed`
        return weight * dx, weight * dy

    return _summed(deflections, centre_x, centre_y, theta_m_squared)


def tidal_radii(theta_m_squared: Tensor, theta_e: Tensor) -> tuple[Tensor, Tensor]:
    """Deflection scale b and tidal radius sqrt(b theta_e) of pseudo-Jaffe halos of given masses.

    The total mass is that of a point of Einstein radius theta_M: b r_t = theta_M^2 (Dalal and
    Kochanek 2002).

    Arguments:
        theta_m_squared: Squared Einstein radius of the whole mass, broadcastable float, arcsec^2.
        theta_e: Einstein radius of the lens they orbit, broadcastable float, arcsec.

    Returns:
        b and r_t, broadcast float, arcsec.
    """
    b = theta_m_squared ** (2 / 3) * theta_e ** (-1 / 3)
    return b, torch.sqrt(b * theta_e)


def pseudo_jaffe_slope(r: Tensor, b: Tensor, cut: Tensor) -> Tensor:
    """alpha / r of a singular pseudo-Jaffe halo, alpha = b (r + r_t - sqrt(r^2 + r_t^2)) / r.

    Written as 2 b r_t / (r + r_t + sqrt(r^2 + r_t^2)), which loses no digits far out.

    Arguments:
        r: Distance, broadcastable float, arcsec.
        b: Deflection in the middle, broadcastable float, arcsec.
        cut: Tidal radius r_t, broadcastable float, arcsec.
    """
    return 2 * b * cut / ((r + cut + root(r * r + cut * cut)) * r)


def pseudo_jaffe(
    x: Tensor,
    y: Tensor,
    centre_x: Tensor,
    centre_y: Tensor,
    b: Tensor,
    cut: Tensor,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """Many singular pseudo-Jaffe halos: isothermal within r_t, of finite mass b r_t.

    Arguments:
        x: Columns of the image plane, (1, 1, W) float, arcsec.
        y: Rows of the image plane, (1, H, 1) float, arcsec.
        centre_x, centre_y: Positions, (B, N) float, arcsec.
        b: Deflection in the middle, (B, N) float, arcsec; 0 is no halo.
        cut: Tidal radius r_t, (B, N) float, arcsec.
        dtype: Of the sum; distances are taken in the type of `x` first.

    Returns:
        alpha_x, alpha_y: Deflection, (B, H, W) of `dtype`, arcsec.
    """

    def deflections(cx: Tensor, cy: Tensor, *halo: Tensor) -> tuple[Tensor, Tensor]:
        dx, dy = (x - cx).to(dtype), (y - cy).to(dtype)
        scale, radius = (v.to(dtype) for v in halo)
        slope = pseudo_jaffe_slope(root(dx * dx + (dy * dy + TINY)), scale, radius)
        return slope * dx, slope * dy

    return _summed(deflections, centre_x, centre_y, b, cut)


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
        alpha_v = E / L   atan2(2 a v, u^2 + v^2 - a^2)

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
    u, v = rotate(x - centre_x, y - centre_y, angle)
    before, after = u - length / 2, u + length / 2
    v_squared = v * v + TINY
    per_length = theta_m_squared / length
    far, near = (torch.addcmul(v_squared, end, end) for end in (after, before))
    across = torch.atan2(length * v, torch.addcmul(v_squared, before, after))
    return _turned_back(0.5 * per_length, torch.log(far / near), per_length, across, angle)


def points_on_line(
    centre_x: Tensor, centre_y: Tensor, angle: Tensor, length: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """Middles of the equal parts of straight lines, as positions for `point_masses`.

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
    u, v = rotate(centre_x, centre_y, angle)
    half_chord = torch.sqrt((radius * radius - v * v).clamp_min(0.0))
    upper = torch.minimum(u + length / 2, half_chord)
    lower = torch.maximum(u - length / 2, -half_chord)
    return (upper - lower).clamp_min(0.0) / length


def rotate(x: Tensor, y: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Components along axes turned by `angle`."""
    cos, sin = torch.cos(angle), torch.sin(angle)
    return cos * x + sin * y, cos * y - sin * x


def root(values: Tensor) -> Tensor:
    """Square root, correctly rounded on every machine.

    torch leaves it to MKL on x86, whose last digit is wrong in one to seventeen of a hundred
    float32, by the processor; numpy and CUDA use the correctly rounded instruction. Where a
    gradient is asked for, it is torch's.
    """
    if values.device.type == "cpu" and not values.requires_grad:
        return torch.from_numpy(np.sqrt(values.numpy()))
    return torch.sqrt(values)


def _turned_back(
    along: Tensor, u: Tensor, across: Tensor, v: Tensor, angle: Tensor
) -> tuple[Tensor, Tensor]:
    """Components along x and y of the vector (along u, across v) on axes turned by `angle`."""
    cos, sin = torch.cos(angle), torch.sin(angle)
    return (
        torch.addcmul(along * cos * u, -across * sin, v),
        torch.addcmul(along * sin * u, across * cos, v),
    )


def _summed(
    deflections: Callable[..., tuple[Tensor, Tensor]], *masses: Tensor
) -> tuple[Tensor, Tensor]:
    """Add up the deflections of many masses, one after the other, in their order.

    No addcmul, and no sum along an axis: they round in ways that depend on the machine. How many
    masses are computed at once changes no bit.

    Arguments:
        deflections: Of some masses, two of (n, B, H, W) from numbers of (n, B, 1, 1).
        masses: Their numbers, (B, N) each.

    Returns:
        alpha_x, alpha_y: (B, H, W).
    """
    columns = [v.T[:, :, None, None] for v in masses]
    if columns[0].device.type in _ONE_BY_ONE:
        terms: Iterable[tuple[Tensor, ...]] = (
            deflections(*one) for one in zip(*columns, strict=True)
        )
    else:
        several = zip(*(column.split(_AT_ONCE) for column in columns), strict=True)
        terms = (term for some in several for term in zip(*deflections(*some), strict=True))
    sums: tuple[Tensor, ...] = ()
    for term in terms:
        sums = sums or tuple(map(torch.zeros_like, term))
        for total, part in zip(sums, term, strict=True):
            total += part
    along_x, along_y = sums  # there is a mass
    return along_x, along_y
