"""Surface brightness of galaxies and their parts: discs, arms, rings, tails and clumps.

The integral of every profile is one, in closed form, so that a flux times a profile has that flux
whatever its shape. A profile is evaluated at positions; to lens it, give it those of the source
plane. With u along the major axis and v along the minor one,

    soft_sersic    exp{-b_n [((R^2 + s^2) / R_e^2)^(1 / 2n)]}         R^2 = q u^2 + v^2 / q
    exponential    exp(-R / h)                                        R^2 = u^2 + v^2 / q^2
    spiral_arms    exp(-R / h) {1 + cos[m (phi - ln(R / h) / tan p)]}
    edge_on        (|u| / h) K_1(|u| / h) sech^2(v / z_0)
    ring           exp{-(R - r_0)^2 / 2 w^2}
    tail           exp{-(r - r_0)^2 / 2 w^2 - phi^2 / 2 s^2}
    clump          exp{-r^2 / 2 s^2}

Discs are circular in their own plane and seen at an inclination of cosine q; R and phi are those
in the plane, and the modulation of `spiral_arms` adds no flux, as its mean around any circle is
zero. Positions are arcsec, angles rad, profiles per arcsec^2.

References:
    van der Kruit and Searle 1981, A&A 95, 105 (edge-on disc); Sersic as in `light`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deeplense_batch.lensing.light import sersic_b, sersic_flux

__all__ = ["clump", "edge_on", "exponential", "ring", "soft_sersic", "spiral_arms", "tail"]

_TINY = 1e-12  # arcsec^2, as in R^2: keeps logarithms finite at the centre


def soft_sersic(
    x: Tensor,
    y: Tensor,
    *,
    centre: tuple[float, float],
    radius: float,
    n: float,
    q: float,
    phi: float,
    core: float,
) -> Tensor:
    """Sersic profile with a cusp that is flat within `core`, so that pixels can sample its flux.

    Arguments:
        x, y: Position, broadcastable float, arcsec.
        centre: Centre, arcsec.
        radius: R_e, geometric mean of the half-light semi-axes, arcsec.
        n: Sersic index, above 0.36.
        q: Axis ratio, in (0, 1].
        phi: Direction of the major axis from x, rad.
        core: s, arcsec; the flux is one for 0.

    Returns:
        Broadcast float, per arcsec^2.
    """
    u, v = _axes(x, y, centre, phi)
    index = torch.tensor(n, dtype=torch.float64)
    total = float(sersic_flux(1.0, torch.tensor(radius, dtype=torch.float64), index))
    b = float(sersic_b(index))
    squared = (q * u * u + (v * v / q + core * core)) / radius**2
    return torch.exp(b - b * squared ** (0.5 / n)) / total


def exponential(
    x: Tensor, y: Tensor, *, centre: tuple[float, float], length: float, q: float, phi: float
) -> Tensor:
    """Thin disc of scale length h; arguments as in `soft_sersic`, `q` its cosine."""
    u, v = _axes(x, y, centre, phi)
    return torch.exp(-torch.sqrt(u * u + v * v / q**2) / length) / _disc_total(length, q)


def spiral_arms(
    x: Tensor,
    y: Tensor,
    *,
    centre: tuple[float, float],
    length: float,
    q: float,
    phi: float,
    arms: int,
    pitch: float,
    phase: float,
) -> Tensor:
    """The light of a disc gathered in logarithmic arms, dark between them.

    Arguments:
        x, y, centre, length, q, phi: As in `exponential`.
        arms: Their number m.
        pitch: Angle p between an arm and the circle it crosses, rad.
        phase: Angle that is added to `phi`, rad.
    """
    u, v = _axes(x, y, centre, phi)
    v = v / q
    squared = u * u + (v * v + _TINY)
    wound = torch.log(squared / length**2) * (0.5 / math.tan(pitch))
    wave = torch.cos(arms * (torch.atan2(v, u) - wound - phase))
    return torch.exp(-torch.sqrt(squared) / length) * (1 + wave) / _disc_total(length, q)


def edge_on(
    x: Tensor, y: Tensor, *, centre: tuple[float, float], length: float, height: float, phi: float
) -> Tensor:
    """Disc seen from its side, of scale length h and scale height z_0, arcsec."""
    u, v = _axes(x, y, centre, phi)
    along = torch.sqrt(u * u + _TINY) / length
    light = along * torch.special.modified_bessel_k1(along) / torch.cosh(v / height) ** 2
    return light / (2 * math.pi * length * height)


def ring(
    x: Tensor,
    y: Tensor,
    *,
    centre: tuple[float, float],
    radius: float,
    width: float,
    q: float,
    phi: float,
) -> Tensor:
    """Gaussian ring of radius r_0 and width w, arcsec, seen at an inclination of cosine `q`."""
    u, v = _axes(x, y, centre, phi)
    distance = torch.sqrt(u * u + v * v / q**2) - radius
    ratio = radius / width
    across = math.sqrt(math.pi / 2) * ratio * (1 + math.erf(ratio / math.sqrt(2)))
    total = 2 * math.pi * q * width**2 * (math.exp(-(ratio**2) / 2) + across)
    return torch.exp(distance**2 / (-2 * width**2)) / total


def tail(
    x: Tensor,
    y: Tensor,
    *,
    centre: tuple[float, float],
    radius: float,
    width: float,
    phi: float,
    opening: float,
) -> Tensor:
    """Piece of a Gaussian ring around the direction `phi`.

    Its flux is one to 1e-2 for a radius above three widths and an opening below 1 rad.

    Arguments:
        x, y, centre: As in `ring`.
        radius: r_0, arcsec.
        width: w, arcsec.
        phi: Direction from the centre to its middle, rad.
        opening: s, standard deviation of the angle, rad.
    """
    u, v = _axes(x, y, centre, phi)
    distance, angle = torch.sqrt(u * u + v * v + _TINY) - radius, torch.atan2(v, u)
    light = torch.exp(distance**2 / (-2 * width**2) - angle**2 / (2 * opening**2))
    return light / (2 * math.pi * radius * width * opening)


def clump(x: Tensor, y: Tensor, *, centre: tuple[float, float], sigma: float) -> Tensor:
    """Round Gaussian of standard deviation `sigma`, arcsec."""
    dx, dy = x - centre[0], y - centre[1]
    light = torch.exp((dx * dx + dy * dy) / (-2 * sigma**2))
    return light / (2 * math.pi * sigma**2)


def _axes(x: Tensor, y: Tensor, centre: tuple[float, float], phi: float) -> tuple[Tensor, Tensor]:
    """Position along the axes of an ellipse."""
    dx, dy = x - centre[0], y - centre[1]
    cos, sin = math.cos(phi), math.sin(phi)
    return cos * dx + sin * dy, cos * dy - sin * dx


def _disc_total(length: float, q: float) -> float:
    return 2 * math.pi * length**2 * q
