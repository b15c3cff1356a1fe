"""Surface brightness of galaxies: the Sersic profile.

    I(R) = I_e exp{-b_n [(R / R_e)^(1/n) - 1]}    R^2 = q u^2 + v^2 / q

u runs along the major axis and v along the minor one, so that R_e is the geometric mean of the
semi-axes of the ellipse that holds half of the light, whatever its axis ratio q, and

    flux = 2 pi n R_e^2 I_e exp(b_n) b_n^(-2n) Gamma(2n).

References:
    Sersic 1968, Atlas de Galaxias Australes; Ciotti and Bertin 1999, A&A 352, 447 (b_n).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["sersic", "sersic_b", "sersic_flux"]

_TINY = 1e-24  # arcsec^2, as in R^2; keeps the gradient finite at the centre


def sersic(
    x: Tensor,
    y: Tensor,
    *,
    centre_x: Tensor,
    centre_y: Tensor,
    intensity: Tensor | float,
    radius: Tensor,
    n: Tensor,
    q: Tensor,
    phi: Tensor,
) -> Tensor:
    """Sersic profile; lensing it is giving it source-plane positions.

    Arguments:
        x, y: Position, broadcastable float, arcsec.
        centre_x, centre_y: Centre, broadcastable float, arcsec.
        intensity: I_e, brightness at R_e, broadcastable float, any unit.
        radius: R_e, geometric mean of the half-light semi-axes, broadcastable float, arcsec.
        n: Sersic index, broadcastable float; above 0.36, where the series for b_n holds.
        q: Axis ratio, broadcastable float in (0, 1].
        phi: Direction of the major axis from x, broadcastable float, rad.

    Returns:
        Brightness, broadcast float, the unit of `intensity`.
    """
    dx, dy = x - centre_x, y - centre_y
    # (R / R_e)^2 as the sum of two squares of which one needs dy alone: fewer passes over the
    # fields than to turn both first.
    cos, sin = torch.cos(phi), torch.sin(phi)
    slope = torch.sqrt(q * cos * cos + sin * sin / q)
    tilted = torch.addcmul(slope / radius * dx, cos * sin * (q - 1 / q) / slope / radius, dy)
    upright = dy / (slope * radius)
    squared = torch.addcmul(tilted * tilted, upright, upright) + _TINY / radius**2
    b = sersic_b(n)
    return intensity * torch.exp(b - b * squared ** (0.5 / n))


def sersic_b(n: Tensor) -> Tensor:
    """b_n, for which R_e holds half of the light (Ciotti and Bertin 1999, eq. 18).

    Arguments:
        n: Sersic index, any shape, above 0.36.

    Returns:
        b_n, the shape of `n`, to 1e-6 at n = 1.
    """
    return (
        2 * n
        - 1 / 3
        + 4 / (405 * n)
        + 46 / (25515 * n**2)
        + 131 / (1148175 * n**3)
        - 2194697 / (30690717750 * n**4)
    )


def sersic_flux(intensity: Tensor | float, radius: Tensor, n: Tensor) -> Tensor:
    """Total flux of `sersic`, in the unit of `intensity` times arcsec^2; any axis ratio."""
    b = sersic_b(n)
    log = b - 2 * n * torch.log(b) + torch.lgamma(2 * n)
    return 2 * torch.pi * n * radius**2 * intensity * torch.exp(log)
