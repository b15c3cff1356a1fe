"""Draw what stands in one cutout of the survey: galaxies, sources and the field (and `mimics`).

An object is made of lights. A light has a shape of total one and a flux in each band, in counts;
one without a shape is a point. What is drawn does not know about pixels, blur and noise: `survey`
does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeplense_batch.lensing.cosmology import angular_distances, einstein_radius_of_dispersion
from deeplense_batch.simulation.distributions import one
from deeplense_batch.simulation.survey.galaxies import clump, soft_sersic
from deeplense_batch.simulation.survey.settings import (
    PIXEL_SCALE,
    SHAPE,
    ZERO_POINT,
    Colours,
    Survey,
)

__all__ = [
    "Light",
    "Magnitudes",
    "Place",
    "RedGalaxy",
    "SourceGalaxy",
    "around",
    "blue_magnitudes",
    "coloured",
    "counts_of",
    "draw_field",
    "draw_red_galaxy",
    "draw_source",
    "light_of",
    "magnitudes_of",
    "red_magnitudes",
    "sersic_light",
    "star_magnitudes",
    "whole_number",
]

Place = tuple[float, float]
Magnitudes = NDArray[np.float64]  # (3,), in the order of the bands

_FAR = math.inf


@dataclass(frozen=True)
class Light:
    """One part of an object; its shape is computed within `reach` of its place."""

    place: Place
    flux: NDArray[np.float64]  # (3,) counts
    shape: Callable[[Tensor, Tensor], Tensor] | None  # None for a point
    reach: float = _FAR  # arcsec


@dataclass(frozen=True)
class RedGalaxy:
    """A massive elliptical, with what it would lens."""

    z: float
    z_s: float
    sigma_v: float
    theta_e: float
    radius: float
    n: float
    q: float
    phi: float
    magnitudes: Magnitudes


@dataclass(frozen=True)
class SourceGalaxy:
    """What is lensed; its place is counted from the lens."""

    place: Place
    radius: float
    n: float
    q: float
    phi: float
    magnitudes: Magnitudes
    clumps: NDArray[np.float64]  # (most, 4) x y sigma share

    def brightness(self, x: Tensor, y: Tensor) -> Tensor:
        """Shape of total one at a position of the source plane, per arcsec^2."""
        smooth = 1 - float(self.clumps[:, 3].sum())
        light = smooth * soft_sersic(
            x, y, place=self.place, radius=self.radius, n=self.n, q=self.q, phi=self.phi, core=0.0
        )
        for clump_x, clump_y, sigma, share in self.clumps.tolist():
            if share:
                light += share * clump(x, y, place=(clump_x, clump_y), sigma=sigma)
        return light


def counts_of(magnitudes: Magnitudes) -> NDArray[np.float64]:
    """Counts of magnitudes."""
    return 10 ** (-0.4 * (magnitudes - ZERO_POINT))


def magnitudes_of(counts: NDArray[np.float64]) -> Magnitudes:
    """Magnitudes of counts above zero."""
    return ZERO_POINT - 2.5 * np.log10(counts)


def draw_red_galaxy(laws: Survey, random: np.random.Generator) -> RedGalaxy:
    """Draw the elliptical that both classes share, whatever happens in its image."""
    law = laws.galaxy
    theta_e = -1.0
    while not law.theta_e[0] <= theta_e <= law.theta_e[1]:
        z, sigma_v = one(law.z, random), one(law.sigma_v, random)
        z_s = z + one(law.behind, random)
        distances = angular_distances(*torch.tensor([z, z_s], dtype=torch.float64))
        theta_e = float(einstein_radius_of_dispersion(sigma_v, distances))
    modulus = 5 * math.log10(float(distances.lens) * (1 + z) ** 2 * 1e5)  # of 10 pc
    i = law.m_i + law.m_i_per_dex * math.log10(sigma_v / 220) + law.m_i_per_z * z + modulus
    return RedGalaxy(
        z=z,
        z_s=z_s,
        sigma_v=sigma_v,
        theta_e=theta_e,
        radius=one(law.radius, random),
        n=one(law.n, random),
        q=one(law.q, random),
        phi=one(law.phi, random),
        magnitudes=red_magnitudes(laws, z, i, random),
    )


def draw_source(laws: Survey, theta_e: float, random: np.random.Generator) -> SourceGalaxy:
    """Draw a galaxy behind a lens.

    Arguments:
        laws: All laws.
        theta_e: Einstein radius of the lens, arcsec.
        random: The stream of the image.
    """
    law = laws.source
    magnitudes = blue_magnitudes(one(law.g, random), law.colours, random)
    place = around((0.0, 0.0), law.disc * theta_e * math.sqrt(random.random()), laws, random)
    radius = one(law.radius, random)
    clumps = np.zeros((law.most_clumps, 4))
    for row in clumps[: random.integers(law.most_clumps + 1)]:
        row[:2] = around(place, radius * math.sqrt(random.random()), laws, random)
        row[2:] = one(law.clump_sigma, random), one(law.clump_share, random)
    return SourceGalaxy(
        place=place,
        radius=radius,
        n=one(law.n, random),
        q=one(law.q, random),
        phi=one(laws.angle, random),
        magnitudes=magnitudes,
        clumps=clumps,
    )


def light_of(laws: Survey, galaxy: RedGalaxy, place: Place) -> Light:
    """The light of an elliptical."""
    return sersic_light(
        laws,
        place,
        counts_of(galaxy.magnitudes),
        radius=galaxy.radius,
        n=galaxy.n,
        q=galaxy.q,
        phi=galaxy.phi,
    )


def draw_field(laws: Survey, random: np.random.Generator) -> list[Light]:
    """Draw the unrelated objects in and around a frame."""
    law = laws.field
    half = SHAPE[-1] / 2 * PIXEL_SCALE
    side = half + law.margin
    lights = []
    for _ in range(random.poisson(law.density * (2 * side) ** 2)):
        place = random.uniform(-side, side), random.uniform(-side, side)
        i, star = one(law.i, random), random.random() < law.stars
        if star:
            flux = counts_of(star_magnitudes(i, one(law.star_g_i, random)))
            # A point beyond the margin of the frame would come back in on its other side.
            if max(map(abs, place)) < half + laws.margin * PIXEL_SCALE:
                lights.append(Light(place, flux, None))
            continue
        flux = counts_of(coloured(i, law.colours, random))
        scale = 10 ** (law.radius_per_magnitude * (i - 22))
        lights.append(
            sersic_light(
                laws,
                place,
                flux,
                radius=one(law.radius_at_22, random) * scale,
                n=one(law.n, random),
                q=one(law.q, random),
                phi=one(laws.angle, random),
                compact=True,
            )
        )
    return lights


def sersic_light(
    laws: Survey,
    place: Place,
    flux: NDArray[np.float64],
    *,
    radius: float,
    n: float,
    q: float,
    phi: float,
    compact: bool = False,
) -> Light:
    core = laws.core if n > laws.core_above else 0.0
    shape = partial(soft_sersic, place=place, radius=radius, n=n, q=q, phi=phi, core=core)
    # Of n = 2.5 and q = 0.3, 1% of the light lies further out; of n = 1 less than 1e-6.
    return Light(place, flux, shape, max(1.0, 14 * radius) if compact else _FAR)


def red_magnitudes(laws: Survey, z: float, i: float, random: np.random.Generator) -> Magnitudes:
    law = laws.galaxy.colours
    g_r, r_i = (
        float(np.interp(z, law.z, colour)) + one(law.scatter, random)
        for colour in (law.g_r, law.r_i)
    )
    return np.array([i + r_i + g_r, i + r_i, i])


def coloured(i: float, colours: Colours, random: np.random.Generator) -> Magnitudes:
    """Magnitudes by that in the last band."""
    g_r, r_i = one(colours.g_r, random), one(colours.r_i, random)
    return np.array([i + r_i + g_r, i + r_i, i])


def blue_magnitudes(g: float, colours: Colours, random: np.random.Generator) -> Magnitudes:
    """Magnitudes by that in the first band."""
    g_r, r_i = one(colours.g_r, random), one(colours.r_i, random)
    return np.array([g, g - g_r, g - g_r - r_i])


def star_magnitudes(i: float, g_i: float) -> Magnitudes:
    """Stars lie on a line in colours: g - r grows to 1.45, then only r - i does."""
    g_r = min(0.72 * g_i, 1.45)
    return np.array([i + g_i, i + g_i - g_r, i])


def whole_number(bounds: tuple[int, int], random: np.random.Generator) -> int:
    return int(random.integers(bounds[0], bounds[1] + 1))


def around(place: Place, distance: float, laws: Survey, random: np.random.Generator) -> Place:
    angle = one(laws.angle, random)
    return place[0] + distance * math.cos(angle), place[1] + distance * math.sin(angle)
