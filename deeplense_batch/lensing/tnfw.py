"""Truncated NFW halos: cold dark matter cut by the tides of the galaxy that it orbits.

    rho(r) ~ 1 / [x (1 + x)^2]  tau^2 / (x^2 + tau^2)    x = r / r_s, tau = r_t / r_s

Its mass M is finite, and its share mu(x) within a circle of radius x r_s is in closed form (Baltz,
Marshall and Oguri 2009, with n = 1), so that alpha = theta_M^2 mu(x) / r. The scale radius follows
from the mass by the concentrations of field halos (`scale_radius`).

For one tau, halos of all masses are one curve of s = x^2,

    alpha = theta_M^2 / r_s^2  g(s) (theta - c)    g(s) = mu / s    s = |theta - c|^2 / r_s^2

A field of many halos takes it from a table (`Curve`): no logarithm, and in float32 by operations
that IEEE 754 rounds in one way only.

References:
    Baltz, Marshall and Oguri 2009, JCAP 01, 015 (arXiv:0705.0682); Dutton and Maccio 2014, MNRAS
    441, 3359 (concentrations).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeplense_batch.lensing.cosmology import H0, critical_density

__all__ = [
    "Curve",
    "concentration",
    "scale_radius",
    "tnfw_convergence_curve",
    "tnfw_density",
    "tnfw_mass_inside",
    "tnfw_potential_curve",
    "tnfw_slope",
]

Values = NDArray[np.float64]

_PARTS = 5  # binary digits: cells of a table in each doubling of s
_LEAST, _MOST = -24, 40  # exponents of two between which s is in a table; a curve ends flat
_OVERDENSITY = 200
_NEAR_ONE = 1e-4  # of x, where closed forms are 0 / 0
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)


class Curve:
    """A smooth function of s > 0 by cubics on cells of equal width in the binary logarithm.

    The cell and the place in it are the digits of s, so that to find them rounds nothing. The
    slope of a halo is met to 6e-8, its convergence to 1e-6. Beyond the table s is held at its end.

    Arguments:
        function: Values, float64, at s.
        derivative: Its derivative by s.
    """

    def __init__(
        self, function: Callable[[Values], Values], derivative: Callable[[Values], Values]
    ) -> None:
        ends = _ends()
        width = np.diff(ends)
        value, rise = function(ends), derivative(ends)
        low, high = value[:-1], value[1:]
        start, end, step = rise[:-1] * width, rise[1:] * width, high - low
        cubics = low, start, 3 * step - 2 * start - end, start + end - 2 * step
        self._cubics = torch.from_numpy(np.stack(cubics))
        self._kept: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}

    def __call__(self, s: Tensor) -> Tensor:
        """Values at s, float32 or float64, any shape, on any device."""
        digits, integer, bias = (
            (23, torch.int32, 127) if s.dtype == torch.float32 else (52, torch.int64, 1023)
        )
        shift = digits - _PARTS
        bits = s.clamp(2.0**_LEAST, 2.0**_MOST * (1 - 2.0**-20)).view(integer)
        cell = ((bits >> shift) - ((_LEAST + bias) << _PARTS)).flatten()
        place = (bits & ((1 << shift) - 1)).to(s.dtype) * 2.0**-shift
        a, b, c, d = (
            column.index_select(0, cell).view(s.shape)
            for column in self._columns(s.dtype, s.device)
        )
        return ((d * place + c) * place + b) * place + a

    def _columns(self, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
        """The table on a device, kept there: to bring it each time would wait for the device."""
        key = dtype, device
        if key not in self._kept:
            self._kept[key] = list(self._cubics.to(device, dtype).unbind())
        return self._kept[key]


def tnfw_mass_inside(x: Values, tau: float) -> Values:
    """Share of the mass within a circle, mu(x), for x = r / r_s above 0 (their eq. A.4)."""
    square = np.sqrt(tau * tau + x * x)
    bracket = (tau * tau + 1 + 2 * (x * x - 1)) * _arc(x) + tau * math.pi
    bracket += (tau * tau - 1) * math.log(tau)
    bracket += square * ((tau * tau - 1) / tau * np.log(x / (square + tau)) - math.pi)
    return bracket / _whole(tau)


def tnfw_density(x: Values, tau: float) -> Values:
    """2 kappa r_s^2 / theta_M^2 at x = r / r_s above 0: (d mu / d ln x) / x^2 (their eq. A.3)."""
    square, arc, off = np.sqrt(tau * tau + x * x), _arc(x), x - 1
    near = np.abs(off) < _NEAR_ONE
    edge = np.where(near, 1 / 3 - 0.4 * off, (1 - arc) / np.where(near, 1.0, x * x - 1))
    bracket = (tau * tau + 1) * edge + 2 * arc - math.pi / square
    bracket += (tau * tau - 1) / (tau * square) * np.log(x / (square + tau))
    return bracket / _whole(tau)


@lru_cache(maxsize=8)
def tnfw_slope(tau: float) -> Curve:
    """g(s) = mu / s, from which the deflection is theta_M^2 / r_s^2 g(s) (theta - c)."""
    return Curve(lambda s: _slope(s, tau), lambda s: _slope_rise(s, tau))


@lru_cache(maxsize=8)
def tnfw_convergence_curve(tau: float) -> Curve:
    """kappa r_s^2 / theta_M^2 as a curve of s."""

    def density(s: Values) -> Values:
        return 0.5 * tnfw_density(np.sqrt(s), tau)

    def rise(s: Values) -> Values:
        return (density(s * (1 + 1e-4)) - density(s * (1 - 1e-4))) / (2e-4 * s)

    return Curve(density, rise)


@lru_cache(maxsize=8)
def tnfw_potential_curve(tau: float) -> Curve:
    """psi / theta_M^2 as a curve of s, the integral of g / 2; far out it is that of a point."""
    ends = _ends()
    half = np.diff(ends)[:, None] / 2
    steps = (_slope(ends[:-1, None] + half * (_NODES + 1), tau) * half * _WEIGHTS).sum(1) / 2
    potential = np.append(0.0, np.cumsum(steps))
    potential += 0.5 * math.log(ends[-1]) - potential[-1]
    return Curve(lambda _: potential, lambda s: _slope(s, tau) / 2)


def concentration(mass: Tensor, z: Tensor) -> Tensor:
    """Median c_200 of halos of mass M_200, solar masses (Dutton and Maccio 2014, eq. 7 and 10 f.).

    Fitted above 1e10 solar masses; below, the power law is continued.
    """
    slope = -0.101 + 0.026 * z
    level = 0.520 + (0.905 - 0.520) * torch.exp(-0.617 * z**1.21)
    return 10 ** (level + slope * torch.log10(mass * (H0 / 100) / 1e12))


def scale_radius(mass: Tensor, z: Tensor, tau: float, above: Tensor | float = 0.0) -> Tensor:
    """Scale radius of halos of some whole masses.

    M is what is left within the truncation of an NFW halo of the mass M_200 that has this scale
    radius: M = M_200 m(tau) / m_NFW(c), which is solved for M_200.

    Arguments:
        mass: Whole mass M, broadcastable float64, above 0, solar masses.
        z: Redshift of the halos, broadcastable float64.
        tau: Truncation radius over scale radius.
        above: log10 of the concentration over its median, broadcastable float64.

    Returns:
        r_s, broadcast float64, Mpc.
    """
    left = tau**2 / (tau**2 + 1) ** 2 * _whole(tau)
    before = mass / left * torch.ones_like(z)
    off = torch.exp(above * torch.tensor(math.log(10.0), dtype=torch.float64))
    for _ in range(8):  # each leaves a twelfth of the error
        c = concentration(before, z) * off
        before = mass / left * (torch.log1p(c) - c / (1 + c))
    density = _OVERDENSITY * critical_density(z)
    return (3 * before / (4 * math.pi * density)) ** (1 / 3) / (concentration(before, z) * off)


def _whole(tau: float) -> float:
    """The whole mass, in the unit of the brackets of the closed forms."""
    return (tau * tau - 1) * math.log(tau) + tau * math.pi - (tau * tau + 1)


def _arc(x: Values) -> Values:
    """F(x) = arccos(1 / x) / sqrt(x^2 - 1), continued below 1."""
    off = x - 1
    near = np.abs(off) < _NEAR_ONE
    inside, outside = np.where(x < 1, x, 0.5), np.where(x > 1, x, 2.0)
    low = np.arccosh(1 / inside) / np.sqrt(1 - inside * inside)
    high = np.arccos(1 / outside) / np.sqrt(outside * outside - 1)
    return np.where(near, 1 - 2 / 3 * off + 7 / 15 * off * off, np.where(x < 1, low, high))


def _slope(s: Values, tau: float) -> Values:
    return tnfw_mass_inside(np.sqrt(s), tau) / s


def _slope_rise(s: Values, tau: float) -> Values:
    x = np.sqrt(s)
    return (0.5 * tnfw_density(x, tau) * s - tnfw_mass_inside(x, tau)) / (s * s)


def _ends() -> Values:
    """Ends of the cells of a table."""
    steps = 1 + np.arange(2**_PARTS) / 2**_PARTS
    starts = (2.0 ** np.arange(_LEAST, _MOST)[:, None] * steps).ravel()
    return np.append(starts, 2.0**_MOST)
