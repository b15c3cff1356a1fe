"""The halos of class `sphere`: how many there are, how heavy and large, and of what profile.

A preset says how many halos there are, or what fraction f_sub of the projected mass at the
Einstein radius is in them. An isothermal lens has the convergence 1/2 there, so that halos have
the mean convergence f_sub / 2 (Vegetti et al. 2014; Hsueh et al. 2020), counting the whole mass of
a halo at its centre. They lie uniformly in a circle of radius R, and their number is Poisson's, of
the mean

    <N> = pi R^2 Sigma_cr f_sub / 2 / <m> = f_sub R^2 / (2 theta_M^2(<m>))

with <m> the mean of their mass law. No mass is changed after it is drawn. As TNFW halos reach out
to 4 arcsec and none lie beyond R, their mean convergence at theta_E is 4 to 8 % below f_sub / 2
(0.919, 0.946, 0.962 of it for theta_E of 0.9, 1.2, 1.5 arcsec).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import product

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from deeplense_batch.lensing.cosmology import (
    ARCSEC,
    angular_distances,
    einstein_radius_squared,
    luminosity_distances_by_mistake,
)
from deeplense_batch.lensing.mesh import Slope, point_slope, pseudo_jaffe_curve
from deeplense_batch.lensing.profiles import tidal_radii
from deeplense_batch.lensing.tnfw import scale_radius, tnfw_slope
from deeplense_batch.simulation.distributions import Polar, PowerLaw, draw_one, rounded
from deeplense_batch.simulation.presets import Preset

__all__ = [
    "are_many",
    "draw_halos",
    "least_mean_count",
    "mean_counts",
    "mean_deflection",
    "most_halos",
    "numbers_of_one",
    "per_solar_mass",
    "scales",
    "slope_of",
]

_RING = 128  # points on the circle over which deflection is averaged: to 1e-6 arcsec
_RARE = 8.0  # standard deviations above the largest mean count, beyond which no draw goes


def are_many(preset: Preset) -> bool:
    """Whether halos are summed as `lensing.mesh` does, and not one by one."""
    return preset.fraction is not None or preset.sphere.profile == "tnfw"


def per_solar_mass(preset: Preset, z_l: Tensor, z_s: Tensor) -> Tensor:
    """Squared Einstein radius of one solar mass, (B,) float64, arcsec^2; redshifts the same."""
    mistaken = preset.distances == "luminosity by mistake"
    distances = luminosity_distances_by_mistake if mistaken else angular_distances
    return einstein_radius_squared(1.0, distances(z_l, z_s))


def mean_counts(
    preset: Preset,
    fractions: Sequence[float],
    theta_e: Sequence[float],
    redshifts: Sequence[Sequence[float]],
) -> list[float]:
    """Mean number of halos of scenes, each given by f_sub, Einstein radius, z_l and z_s."""
    z_l, z_s = (torch.tensor(z, dtype=torch.float64) for z in redshifts)
    squared = per_solar_mass(preset, z_l, z_s).numpy() * _mean_mass(preset)
    radius = _radius(preset) * (np.asarray(theta_e) if preset.sphere.unit == "theta_e" else 1.0)
    means: list[float] = rounded(np.asarray(fractions) * radius**2 / (2 * squared)).tolist()
    return means


@lru_cache(maxsize=32)
def most_halos(preset: Preset) -> int:
    """The most halos of one scene, at least 1: as many have room in the truth of an image."""
    if preset.sphere.count is not None:
        return int(preset.sphere.count.range[1])
    mean = _mean_range(preset)[1]
    return max(1, math.ceil(mean + _RARE * math.sqrt(mean)))


def least_mean_count(preset: Preset) -> float:
    """The mean number of halos of the scene that has fewest, where a fraction says it."""
    return _mean_range(preset)[0]


def draw_halos(
    preset: Preset, theta_e: float, mean: float | None, random: Generator
) -> NDArray[np.float64]:
    """Draw the halos of one scene.

    Arguments:
        preset: The distributions.
        theta_e: Einstein radius, arcsec.
        mean: Mean of the Poisson number; None where the preset has a distribution of its own.
        random: The stream of the image.

    Returns:
        Mass, x, y, (N, 3), solar masses and arcsec, and where concentrations scatter the log10 of
        that over its median, (N, 4). Of a Poisson number the heaviest comes first.
    """
    sphere = preset.sphere
    if mean is None:
        assert sphere.count is not None
        masses = sphere.mass.draw(random, int(draw_one(sphere.count, random)))
    else:
        count = min(int(random.poisson(mean)), most_halos(preset))
        masses = np.sort(sphere.mass.draw(random, count))[::-1]
    unit = theta_e if sphere.unit == "theta_e" else 1.0
    columns = [masses, unit * sphere.place.draw(random, len(masses))]
    if sphere.scatter is not None:
        columns.append(random.normal(0.0, sphere.scatter, len(masses)))
    return np.column_stack(columns)


def numbers_of_one(preset: Preset) -> int:
    """How many numbers `draw_halos` draws for each halo."""
    return 3 if preset.sphere.scatter is None else 4


def scales(preset: Preset, halos: Tensor, squared: Tensor, z_l: Tensor, theta_e: Tensor) -> Tensor:
    """The length of each halo in which its profile is `slope_of` its preset.

    Arguments:
        preset: Whose profile they have.
        halos: As `draw_halos` draws them, (B, N, 3 or 4) float64; a mass of 0 is no halo.
        squared: Their masses as squared Einstein radii, (B, N) float64, arcsec^2.
        z_l: Redshift of each lens, (B,) float64.
        theta_e: Einstein radius of each lens, (B,) float64, arcsec.

    Returns:
        Scale radius or tidal radius, (B, N) float64, arcsec; 0 where there is no halo.
    """
    mass = halos[..., 0]
    there = mass > 0
    if preset.sphere.profile == "point":
        return there.double()
    if preset.sphere.profile == "pseudo_jaffe":
        return tidal_radii(squared, theta_e[:, None])[1]
    assert preset.sphere.truncation is not None
    above = halos[..., 3] if halos.shape[-1] > 3 else 0.0
    size = scale_radius(mass.clamp_min(1.0), z_l[:, None], preset.sphere.truncation, above)
    to_lens = angular_distances(z_l, z_l + 1).lens
    return torch.where(there, size / to_lens[:, None] / ARCSEC, 0.0)


def slope_of(preset: Preset) -> Slope:
    """The curve g of the profile of its halos: alpha = theta_M^2 / a^2 g(r^2 / a^2) r."""
    if preset.sphere.profile == "tnfw":
        assert preset.sphere.truncation is not None
        return tnfw_slope(preset.sphere.truncation)
    return point_slope if preset.sphere.profile == "point" else pseudo_jaffe_curve


def mean_deflection(preset: Preset, halos: Tensor, ring: Tensor) -> Tensor:
    """Mean radial deflection of halos over a circle, (B,) float64, arcsec.

    Arguments:
        preset: Whose profile they have.
        halos: x, y from the middle of the circle, squared Einstein radius and scale, (B, N, 4)
            float64, arcsec.
        ring: Radius of the circle, (B,) float64, arcsec.
    """
    x, y, squared, scale = halos.unbind(2)
    if preset.sphere.profile == "point":  # Gauss's law
        return torch.where(torch.hypot(x, y) < ring[:, None], squared, 0.0).sum(1) / ring
    turn = (torch.arange(_RING, dtype=torch.float64) + 0.5) * (2 * torch.pi / _RING)
    cos, sin = torch.cos(turn), torch.sin(turn)
    total, slope = torch.zeros_like(ring), slope_of(preset)
    for row in torch.nonzero(squared.sum(1))[:, 0]:
        used = squared[row] > 0
        dx = ring[row] * cos - x[row, used, None]
        dy = ring[row] * sin - y[row, used, None]
        per_square = 1 / scale[row, used, None] ** 2
        strength = squared[row, used, None] * per_square * slope((dx * dx + dy * dy) * per_square)
        total[row] = (strength * (dx * cos + dy * sin)).sum()
    return total / _RING


def _mean_range(preset: Preset) -> tuple[float, float]:
    """The least and the largest mean number of halos of a scene."""
    assert preset.fraction is not None
    # Sigma_cr falls with z_s, and is largest and least at the ends of z_l.
    ends = list(product(preset.z_l.range, preset.z_s.range))
    redshifts = (torch.tensor(z, dtype=torch.float64) for z in zip(*ends, strict=True))
    per_masses = per_solar_mass(preset, *redshifts)
    means = []
    for end, per_mass in enumerate((per_masses.max().item(), per_masses.min().item())):
        if preset.sphere.unit == "arcsec":
            unit_squared = 1.0
        elif preset.lens.theta_e is None:
            unit_squared = preset.lens.mass * per_mass
        else:
            unit_squared = preset.lens.theta_e.range[end] ** 2
        mean = preset.fraction.range[end] * _radius(preset) ** 2 * unit_squared
        means.append(mean / (2 * per_mass * _mean_mass(preset)))
    return means[0], means[1]


def _mean_mass(preset: Preset) -> float:
    assert isinstance(preset.sphere.mass, PowerLaw)  # `check_preset` has seen to it
    return preset.sphere.mass.mean


def _radius(preset: Preset) -> float:
    """Of the circle in which halos lie, in the unit of their place."""
    assert isinstance(preset.sphere.place, Polar)
    return preset.sphere.place.radius.range[1]
