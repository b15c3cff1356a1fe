"""The smooth lens as seven numbers that a network can learn: ellipsoid and shear.

An axis ratio and a direction make a poor target: the direction jumps by pi, and says nothing of a
round lens. The ellipticity e = (1 - q) / (1 + q) (cos 2 phi, sin 2 phi) has neither fault. The
seven, in this order, are

    theta_E, e1, e2, x, y, g1, g2

Einstein radius, ellipticity, middle and shear (Kormann et al. 1994, A&A 284, 285). The three
lengths may be in any unit, the one of the positions; the others have none.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from deeplense_batch.lensing.potentials import sie_convergence
from deeplense_batch.lensing.profiles import shear, sie

__all__ = [
    "in_unit",
    "macro_convergence",
    "macro_deflection",
    "macro_of_truth",
    "pixel_grid",
]

_LENGTHS = (1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0)

# Of a round lens the direction has no gradient and 1 - q^2 no root; its ellipticity is taken as
# this, which changes the deflection by a thousandth of theta_E at most.
_LEAST_ELLIPTICITY = 1e-3


def macro_of_truth(theta_e: Tensor, lens: Tensor, shear: Tensor) -> Tensor:
    """The seven numbers of scenes as the simulation stores them.

    Arguments:
        theta_e: Einstein radius of lens and substructure together, (B,) float, arcsec.
        lens: x, y (arcsec), axis ratio, direction (rad), (B, 4) float.
        shear: g1, g2, (B, 2) float.

    Returns:
        theta_E, e1, e2, x, y, g1, g2, (B, 7) float, arcsec: the smooth lens of the same Einstein
        radius as the whole.
    """
    x, y, q, phi = lens.unbind(1)
    e = (1 - q) / (1 + q)
    g1, g2 = shear.unbind(1)
    return torch.stack([theta_e, e * (2 * phi).cos(), e * (2 * phi).sin(), x, y, g1, g2], 1)


def in_unit(numbers: Tensor, unit: Tensor | float) -> Tensor:
    """The seven numbers, (B, 7), with their lengths divided by `unit`, broadcastable to them."""
    length = _lengths(numbers.device, numbers.dtype)
    return numbers * (length / unit + (1 - length))


@lru_cache(maxsize=16)
def _lengths(device: torch.device, dtype: torch.dtype) -> Tensor:
    """Which of the seven are lengths, kept: to send them makes the host wait for a device."""
    with torch.inference_mode(False):  # also good where there are gradients
        return torch.tensor(_LENGTHS, device=device, dtype=dtype)


def pixel_grid(size: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Middles of the pixels of a square frame in half frames: from -1 to 1, edge to edge.

    Returns:
        x: Columns, (1, 1, size), and y: rows, (1, size, 1), float32 on the device of `like`.
    """
    middle = (2 * torch.arange(size, dtype=torch.float32, device=like.device) + 1) / size - 1
    return middle.view(1, 1, -1), middle.view(1, -1, 1)


def macro_deflection(numbers: Tensor, x: Tensor, y: Tensor, least: float = 0.0) -> Tensor:
    """Deflection by ellipsoid and shear.

    Arguments:
        numbers: The seven, (B, 7) float.
        x: Columns, (1, 1, W) float, the unit of the lengths.
        y: Rows, (1, H, 1) float, the same.
        least: Nearer than this to the middle, the deflection has no gradient with respect to the
            middle: at the singular point it would have no bound.

    Returns:
        alpha_x, alpha_y: (B, 2, H, W) float, the same unit.
    """
    theta_e, q, phi, u, v, g1, g2 = _fields(numbers, x, y)
    if least:
        near = torch.hypot(u.detach(), v.detach()) < least
        u, v = torch.where(near, u.detach(), u), torch.where(near, v.detach(), v)
    lens = sie(u, v, theta_e, q, phi)
    outer = shear(x, y, g1, g2)
    return torch.stack([lens[0] + outer[0], lens[1] + outer[1]], 1)


def macro_convergence(numbers: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """kappa of the ellipsoid, (B, H, W) float; shear has none. Arguments: `macro_deflection`."""
    theta_e, q, phi, u, v, *_ = _fields(numbers, x, y)
    return sie_convergence(u, v, theta_e, q, phi)


def _fields(numbers: Tensor, x: Tensor, y: Tensor) -> list[Tensor]:
    """theta_E, q, phi, positions from the middle, g1, g2, to go with fields of (B, H, W)."""
    theta_e, e1, e2, middle_x, middle_y, g1, g2 = numbers[:, :, None, None].unbind(1)
    e = torch.sqrt(e1 * e1 + e2 * e2 + _LEAST_ELLIPTICITY**2)
    # Of a round lens any direction is right; atan2(0, 0) has no gradient in older torch.
    phi = 0.5 * torch.atan2(e2, torch.where((e1 == 0) & (e2 == 0), 1.0, e1))
    return [theta_e, (1 - e) / (1 + e), phi, x - middle_x, y - middle_y, g1, g2]
