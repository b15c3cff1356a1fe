"""Deflection by thousands of round halos: near each of them as it is, far from it on a mesh.

A halo of mass theta_M^2 and scale a deflects by

    alpha = A g(s) (theta - c)    s = r^2 / a^2    A = theta_M^2 / a^2    r = |theta - c|

with one curve g of its profile. `directly` adds that up at every position, as is right for the
heavy halos, of which there are few. `on_grid` splits each light one at a radius w (P3M: Hockney
and Eastwood 1988, Computer Simulation Using Particles). Its far part is itself beyond w, and
within it

    A g(w^2 / a^2) [1 + p v + p (p + 1) / 2 v^2 + ...]    v = 1 - r^2 / w^2

times (theta - c), the first terms of a power law r^(-2p), so that it is smooth at w and within. It
is computed on a mesh much coarser than the grid, and interpolated by polynomials. What is left is
zero beyond w: it is computed within, on the grid itself. Fields of cold dark matter have errors
of 3e-6 arcsec at most, 6e-5 of a pixel, and of 3e-7 rms (5e-7 in the worst scene).

Terms are float32 by operations that IEEE 754 rounds in one way only. They are rounded to a grid of
powers of two, on which float64 adds them without error: in whatever order and company, on whatever
device, sums have the same bits. The interpolation is a product of float64 matrices, whose last
digit depends on the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from deeplense_batch.lensing.profiles import root

__all__ = [
    "LIGHT",
    "Slope",
    "directly",
    "on_grid",
    "point_slope",
    "pseudo_jaffe_curve",
    "with_edges",
]

Slope = Callable[[Tensor], Tensor]  # g at s, float32 or float64
Strength = Callable[[Tensor, list[Tensor]], Tensor]  # A g, from r^2 and numbers of halos

LIGHT = 3e-4  # arcsec^2, theta_M^2 of the heaviest halo that is split
_SPLIT = 0.6  # arcsec, the radius w
_MESH = 0.15  # arcsec, between points of the mesh
_PER_SPLIT = float(np.float32(1 / _SPLIT**2))
_TERMS = 5  # of the polynomial within w
_POINTS = 8  # of the mesh that interpolate one position, along an axis
_ROUNDER = 1.5 * 2.0**-10  # added and taken away again, leaves multiples of 2^-34 arcsec
_AT_ONCE = {"cpu": 1 << 16}  # numbers at once, which stay in the cache of a core
_AT_ONCE_ELSEWHERE = 1 << 25


def point_slope(s: Tensor) -> Tensor:
    """g of point masses, whatever their scale."""
    return 1 / s.clamp_min(1e-24)


def pseudo_jaffe_curve(s: Tensor) -> Tensor:
    """g of singular pseudo-Jaffe halos, whose scale is the tidal radius."""
    s = s.clamp_min(1e-24)
    x = root(s)
    return 2 / ((x + 1 + root(s + 1)) * x)


def with_edges(halos: Tensor, slope: Slope) -> Tensor:
    """Halos, (..., 4) float64, with g and p at the radius w, (..., 6); of no mass, with zeros."""
    scale = halos[..., 3]
    edge = _SPLIT**2 / torch.where(scale > 0, scale, 1.0) ** 2
    value = slope(edge)
    p = (slope(edge * (1 - 1e-3)) - slope(edge * (1 + 1e-3))) / (2e-3 * value)
    return torch.cat([halos, torch.stack([value, p], -1) * (scale > 0)[..., None]], -1)


def directly(
    x: Tensor, y: Tensor, halos: Tensor, image: Tensor, images: int, slope: Slope
) -> tuple[Tensor, Tensor]:
    """Deflection by halos, each summed up at every position.

    Arguments:
        x: Columns, (1, 1, W) float64, arcsec.
        y: Rows, (1, H, 1) float64, arcsec.
        halos: x, y, theta_M^2 and scale of those of all images, (L, 4 or more) float64, arcsec.
        image: To which image each belongs, (L,) int64, from 0 to `images` - 1.
        images: How many fields B there are.
        slope: g of their profile.

    Returns:
        alpha_x, alpha_y: (B, H, W) float64, arcsec.
    """

    def strength(square: Tensor, numbers: list[Tensor]) -> Tensor:
        return _strength(square, numbers, slope)

    return _everywhere(x, y, halos[:, :4], image, images, strength)


def on_grid(
    size: int, step: float, halos: Tensor, image: Tensor, images: int, slope: Slope
) -> tuple[Tensor, Tensor]:
    """As `directly`, of light halos, on a grid around the origin.

    Arguments:
        size: Positions W along a side.
        step: Between them, arcsec.
        halos: As `with_edges` gives them, (L, 6) float64; theta_M^2 should not be above `LIGHT`.
        image: As for `directly`.
        images: As for `directly`.
        slope: As for `directly`.

    Returns:
        alpha_x, alpha_y: (B, W, W) float64, arcsec.
    """
    weights = _interpolation(size, step, halos.device)
    far = _far(weights.shape[1], halos, image, images, slope)
    near = _near(size, step, halos, image, images, slope)
    along_x, along_y = (weights @ f @ weights.T + n for f, n in zip(far, near, strict=True))
    return along_x, along_y


def _far(
    points: int, halos: Tensor, image: Tensor, images: int, slope: Slope
) -> tuple[Tensor, Tensor]:
    """The far parts on the mesh, (B, points, points): as they are, and polynomials within w."""
    at = _centred(points, _MESH, halos.device)

    def beyond(square: Tensor, numbers: list[Tensor]) -> Tensor:
        return torch.where(_v(square) > 0, 0.0, _strength(square, numbers, slope))

    def within(square: Tensor, numbers: list[Tensor]) -> Tensor:
        v = _v(square)
        return torch.where(v > 0, _polynomial(v, numbers), 0.0)

    whole = _everywhere(at, at[:, None], halos[:, :4], image, images, beyond)
    middle = _in_squares(points, _MESH, halos, image, images, within)
    along_x, along_y = (a + b for a, b in zip(whole, middle, strict=True))
    return along_x, along_y


def _near(
    size: int, step: float, halos: Tensor, image: Tensor, images: int, slope: Slope
) -> tuple[Tensor, Tensor]:
    """What the far parts leave on the grid, (B, size, size)."""

    def left(square: Tensor, numbers: list[Tensor]) -> Tensor:
        v = _v(square)
        rest = _strength(square, numbers, slope) - _polynomial(v, numbers)
        return torch.where(v > 0, rest, 0.0)

    return _in_squares(size, step, halos, image, images, left)


def _everywhere(
    x: Tensor, y: Tensor, halos: Tensor, image: Tensor, images: int, strength: Strength
) -> tuple[Tensor, Tensor]:
    """Sum of strength (theta - c) over the halos of each image, (B, H, W) float64."""
    shape = images, y.shape[-2], x.shape[-1]
    totals = [torch.zeros(shape, dtype=torch.float64, device=x.device) for _ in range(2)]
    for part in _parts(halos, totals[0][0].numel() if images else 1):
        dx, dy, numbers = _from_centres(x, y, halos[part])
        factor = strength(dx * dx + dy * dy, numbers)
        of_image = torch.arange(images, device=x.device)[:, None] == image[part]
        for total, offset in zip(totals, (dx, dy), strict=True):
            # A product with ones and zeros, which is exact as well, and faster than to add each.
            total.flatten(1).addmm_(of_image.double(), _rounded(factor * offset).flatten(1))
    return totals[0], totals[1]


def _in_squares(
    size: int, step: float, halos: Tensor, image: Tensor, images: int, strength: Strength
) -> tuple[Tensor, Tensor]:
    """The same on a grid around the origin, of a strength that is zero beyond w.

    It is computed in the square around each halo. The grid has a margin, into which squares reach
    that are not within it.
    """
    side = int(2 * _SPLIT / step) + 2
    wide = size + 2 * side
    totals = [halos.new_zeros(images * wide * wide, dtype=torch.float64) for _ in range(2)]
    along = torch.arange(side, device=halos.device)
    for part in _parts(halos, side * side):
        columns, rows = (
            _first(halos[part, axis], size, step, side)[:, None] + along for axis in range(2)
        )
        x, y = ((places.double() - (size - 1) / 2) * step for places in (columns, rows))
        dx, dy, numbers = _from_centres(x[:, None], y[:, :, None], halos[part])
        factor = strength(dx * dx + dy * dy, numbers)
        row = (image[part, None] * wide + rows + side) * wide
        place = (row[:, :, None] + (columns + side)[:, None]).flatten()
        for total, offset in zip(totals, (dx, dy), strict=True):
            total.scatter_add_(0, place, _rounded(factor * offset).flatten())
    inner = slice(side, side + size)
    along_x, along_y = (total.view(images, wide, wide)[:, inner, inner] for total in totals)
    return along_x, along_y


def _first(centres: Tensor, size: int, step: float, side: int) -> Tensor:
    """The first row or column within w of each halo; of those beyond the margin, any in it."""
    first = torch.ceil((centres - _SPLIT) / step + (size - 1) / 2)
    return first.clamp(-side, size).long()


def _from_centres(x: Tensor, y: Tensor, halos: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Distances from halos along both axes, and their other numbers, all float32.

    The numbers are strength A and 1 / a^2, and the coefficients of the far part in powers of v,
    where what they follow from is there; each (L, 1, 1).
    """
    cx, cy, mass, scale, *edge = halos.T[:, :, None, None]
    per_square = 1 / (scale * scale)
    numbers = [mass * per_square, per_square]
    if edge:
        value, p = edge
        numbers.append(numbers[0] * value)
        for order in range(1, _TERMS):
            numbers.append(numbers[-1] * (p + order - 1) / order)
    return (x - cx).float(), (y - cy).float(), [number.float() for number in numbers]


def _strength(square: Tensor, numbers: list[Tensor], slope: Slope) -> Tensor:
    """A g(s)."""
    strength, per_square, *_ = numbers
    return slope(square * per_square) * strength


def _v(square: Tensor) -> Tensor:
    """1 - r^2 / w^2, above 0 within w."""
    return 1 - square * _PER_SPLIT


def _polynomial(v: Tensor, numbers: list[Tensor]) -> Tensor:
    """The far part within w, by Horner's rule."""
    *lower, value = numbers[2:]
    for coefficient in reversed(lower):
        value = value * v + coefficient
    return value


def _rounded(term: Tensor) -> Tensor:
    return ((term + _ROUNDER) - _ROUNDER).double()


def _parts(halos: Tensor, numbers: int) -> Iterator[slice]:
    """Halos that are computed at once, where each takes some numbers."""
    most = _AT_ONCE.get(halos.device.type, _AT_ONCE_ELSEWHERE)
    count = max(1, most // numbers)
    for first in range(0, len(halos), count):
        yield slice(first, first + count)


@lru_cache(maxsize=8)
def _interpolation(size: int, step: float, device: torch.device) -> Tensor:
    """The matrix from the mesh to the grid along an axis: Lagrange's on the nearest points."""
    half = (size - 1) / 2 * step
    points = 2 * (int(half / _MESH) + _POINTS // 2 + 1)
    mesh = _centred(points, _MESH, torch.device("cpu"))
    weights = torch.zeros(size, points, dtype=torch.float64)
    for i, at in enumerate(_centred(size, step, torch.device("cpu"))):
        first = int((at - mesh[0]) / _MESH) - _POINTS // 2 + 1
        used = mesh[first : first + _POINTS]
        for j, own in enumerate(used):
            others = torch.cat([used[:j], used[j + 1 :]])
            weights[i, first + j] = ((at - others) / (own - others)).prod()
    return weights.to(device)


@lru_cache(maxsize=16)
def _centred(count: int, step: float, device: torch.device) -> Tensor:
    return ((torch.arange(count, dtype=torch.float64) - (count - 1) / 2) * step).to(device)
