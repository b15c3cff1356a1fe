"""Draw the objects in one cutout of the survey: galaxies, sources and the field.

An object is made of lights. A light has a shape of total one and a flux in each band, in counts;
one without a shape is a point. Pixels, blur and noise are the business of `scenes`.
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

from deeplense_batch.data.shards import ShardError
from deeplense_batch.lensing.cosmology import angular_distances, einstein_radius_of_dispersion
from deeplense_batch.lensing.galaxies import clump, soft_sersic
from deeplense_batch.simulation.distributions import draw_one
from deeplense_batch.simulation.survey.colours import (
    beyond_of_galaxy,
    beyond_of_red,
    beyond_of_star,
    in_bands,
)
from deeplense_batch.simulation.survey.settings import Colours, Survey

__all__ = [
    "Light",
    "Magnitudes",
    "Position",
    "RedGalaxy",
    "SourceGalaxy",
    "around",
    "blue_magnitudes",
    "coloured",
    "draw_field",
    "draw_red_galaxy",
    "draw_source",
    "light_of",
    "red_magnitudes",
    "sersic_light",
    "star_magnitudes",
    "whole_number",
]

Position = tuple[float, float]
Magnitudes = NDArray[np.float64]  # (B,), in the order of the bands

_FAR = math.inf
_MOST_GALAXIES = 10_000  # drawn until one has an Einstein radius within bounds


@dataclass(frozen=True)
class Light:
    """One part of an object; its shape is computed within `reach` of its centre."""

    centre: Position
    flux: NDArray[np.float64]  # (B,) counts
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
    i: float  # its magnitude in i, whatever the bands of the images
    magnitudes: Magnitudes


@dataclass(frozen=True)
class SourceGalaxy:
    """What is lensed; its centre is counted from the lens."""

    centre: Position
    radius: float
    n: float
    q: float
    phi: float
    magnitudes: Magnitudes
    clumps: NDArray[np.float64]  # (most, 4) x y sigma share, x and y from the lens
    stamp: int = 0  # number of the real galaxy that it is (`stamps`), from 1; 0 if simulated

    def brightness(self, x: Tensor, y: Tensor) -> Tensor:
        """Shape of total one at a position of the source plane, per arcsec^2."""
        smooth = 1 - float(self.clumps[:, 3].sum())
        light = smooth * soft_sersic(
            x,
            y,
            centre=self.centre,
            radius=self.radius,
            n=self.n,
            q=self.q,
            phi=self.phi,
            core=0.0,
        )
        for clump_x, clump_y, sigma, share in self.clumps.tolist():
            if share:
                light += share * clump(x, y, centre=(clump_x, clump_y), sigma=sigma)
        return light


def draw_red_galaxy(survey: Survey, random: np.random.Generator) -> RedGalaxy:
    """Draw the elliptical that both classes share, whatever happens in its image.

    Raises:
        ShardError: The settings give no galaxy with an Einstein radius within its bounds.
    """
    settings = survey.galaxy
    for _ in range(_MOST_GALAXIES):
        z, sigma_v = draw_one(settings.z, random), draw_one(settings.sigma_v, random)
        z_s = z + draw_one(settings.behind, random)
        distances = angular_distances(*torch.tensor([z, z_s], dtype=torch.float64))
        theta_e = float(einstein_radius_of_dispersion(sigma_v, distances))
        if settings.theta_e[0] <= theta_e <= settings.theta_e[1]:
            break
    else:
        raise ShardError(
            f"preset {survey.name}: galaxy.theta_e: none of {_MOST_GALAXIES} galaxies drawn by "
            "galaxy.z, galaxy.behind and galaxy.sigma_v has an Einstein radius from "
            f"{settings.theta_e[0]:g} to {settings.theta_e[1]:g} arcsec"
        )
    modulus = 5 * math.log10(float(distances.lens) * (1 + z) ** 2 * 1e5)  # of 10 pc
    i = (
        settings.m_i
        + settings.m_i_per_dex * math.log10(sigma_v / 220)
        + settings.m_i_per_z * z
        + modulus
    )
    return RedGalaxy(
        z=z,
        z_s=z_s,
        sigma_v=sigma_v,
        theta_e=theta_e,
        radius=draw_one(settings.radius, random),
        n=draw_one(settings.n, random),
        q=draw_one(settings.q, random),
        phi=draw_one(settings.phi, random),
        i=i,
        magnitudes=red_magnitudes(survey, z, i, random),
    )


def draw_source(survey: Survey, theta_e: float, random: np.random.Generator) -> SourceGalaxy:
    """Draw a galaxy behind a lens.

    Arguments:
        survey: All settings.
        theta_e: Einstein radius of the lens, arcsec.
        random: The stream of the image.
    """
    settings = survey.source
    magnitudes = blue_magnitudes(survey, draw_one(settings.g, random), settings.colours, random)
    centre = around(
        (0.0, 0.0), settings.disc * theta_e * math.sqrt(random.random()), survey, random
    )
    radius = draw_one(settings.radius, random)
    clumps = np.zeros((settings.most_clumps, 4))
    for row in clumps[: random.integers(settings.most_clumps + 1)]:
        row[:2] = around(centre, radius * math.sqrt(random.random()), survey, random)
        row[2:] = draw_one(settings.clump_sigma, random), draw_one(settings.clump_share, random)
    return SourceGalaxy(
        centre=centre,
        radius=radius,
        n=draw_one(settings.n, random),
        q=draw_one(settings.q, random),
        phi=draw_one(survey.angle, random),
        magnitudes=magnitudes,
        clumps=clumps,
    )


def light_of(survey: Survey, galaxy: RedGalaxy, centre: Position) -> Light:
    """The light of an elliptical."""
    return sersic_light(
        survey,
        centre,
        survey.counts(galaxy.magnitudes),
        radius=galaxy.radius,
        n=galaxy.n,
        q=galaxy.q,
        phi=galaxy.phi,
    )


def draw_field(survey: Survey, random: np.random.Generator) -> list[Light]:
    """Draw the unrelated objects in and around a frame."""
    settings = survey.field
    side = survey.half + settings.margin
    lights = []
    for _ in range(random.poisson(settings.density * (2 * side) ** 2)):
        centre = random.uniform(-side, side), random.uniform(-side, side)
        i, star = draw_one(settings.i, random), random.random() < settings.stars
        if star:
            flux = survey.counts(star_magnitudes(survey, i, draw_one(settings.star_g_i, random)))
            # A point beyond the margin of the frame would come back in on its other side.
            if max(map(abs, centre)) < survey.half + survey.margin * survey.pixel_scale:
                lights.append(Light(centre, flux, None))
            continue
        flux = survey.counts(coloured(survey, i, settings.colours, random))
        scale = 10 ** (settings.radius_per_magnitude * (i - 22))
        lights.append(
            sersic_light(
                survey,
                centre,
                flux,
                radius=draw_one(settings.radius_at_22, random) * scale,
                n=draw_one(settings.n, random),
                q=draw_one(settings.q, random),
                phi=draw_one(survey.angle, random),
                compact=True,
            )
        )
    return lights


def sersic_light(
    survey: Survey,
    centre: Position,
    flux: NDArray[np.float64],
    *,
    radius: float,
    n: float,
    q: float,
    phi: float,
    compact: bool = False,
) -> Light:
    core = survey.core if n > survey.core_above else 0.0
    shape = partial(soft_sersic, centre=centre, radius=radius, n=n, q=q, phi=phi, core=core)
    # Of n = 2.5 and q = 0.3, 1% of the light lies further out; of n = 1 less than 1e-6.
    return Light(centre, flux, shape, max(1.0, 14 * radius) if compact else _FAR)


def red_magnitudes(survey: Survey, z: float, i: float, random: np.random.Generator) -> Magnitudes:
    """Magnitudes of an old galaxy by that in i."""
    settings = survey.galaxy.colours
    g_r, r_i = (
        float(np.interp(z, settings.z, colour)) + draw_one(settings.scatter, random)
        for colour in (settings.g_r, settings.r_i)
    )
    return in_bands(survey.bands, (i + r_i + g_r, i + r_i, i), beyond_of_red(z))


def coloured(
    survey: Survey, i: float, colours: Colours, random: np.random.Generator
) -> Magnitudes:
    """Magnitudes by that in i."""
    g_r, r_i = draw_one(colours.g_r, random), draw_one(colours.r_i, random)
    gri = i + r_i + g_r, i + r_i, i
    return in_bands(survey.bands, gri, beyond_of_galaxy(g_r, r_i))


def blue_magnitudes(
    survey: Survey, g: float, colours: Colours, random: np.random.Generator
) -> Magnitudes:
    """Magnitudes by that in g."""
    g_r, r_i = draw_one(colours.g_r, random), draw_one(colours.r_i, random)
    gri = g, g - g_r, g - g_r - r_i
    return in_bands(survey.bands, gri, beyond_of_galaxy(g_r, r_i))


def star_magnitudes(survey: Survey, i: float, g_i: float) -> Magnitudes:
    """Stars lie on a line in colours: g - r grows to 1.45, then only r - i does."""
    g_r = min(0.72 * g_i, 1.45)
    gri = i + g_i, i + g_i - g_r, i
    return in_bands(survey.bands, gri, beyond_of_star(g_i, g_i - g_r))


def whole_number(bounds: tuple[int, int], random: np.random.Generator) -> int:
    return int(random.integers(bounds[0], bounds[1] + 1))


def around(
    centre: Position, distance: float, survey: Survey, random: np.random.Generator
) -> Position:
    angle = draw_one(survey.angle, random)
    return centre[0] + distance * math.cos(angle), centre[1] + distance * math.sin(angle)
