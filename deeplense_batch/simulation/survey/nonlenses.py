"""Draw objects that are easily taken for a lens: spirals, rings, mergers, groups, stars."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from deeplense_batch.lensing.galaxies import (
    edge_on,
    exponential,
    ring,
    spiral_arms,
    tail,
)
from deeplense_batch.simulation.distributions import draw_one
from deeplense_batch.simulation.survey.colours import in_bands
from deeplense_batch.simulation.survey.objects import (
    Light,
    Position,
    RedGalaxy,
    around,
    blue_magnitudes,
    coloured,
    light_of,
    red_magnitudes,
    sersic_light,
    star_magnitudes,
    whole_number,
)
from deeplense_batch.simulation.survey.settings import Survey

__all__ = ["draw_nonlens"]


def draw_nonlens(
    kind: str, survey: Survey, red: RedGalaxy, centre: Position, random: np.random.Generator
) -> list[Light]:
    """Draw an object that is no lens.

    Arguments:
        kind: One of the survey's `fractions`.
        survey: All settings.
        red: The elliptical of this image: the object itself, its nucleus, or the galaxy whose
            brightness it has.
        centre: Its position, arcsec.
        random: The stream of the image.
    """
    return _KINDS[kind](survey, red, centre, random)


def _spiral(
    survey: Survey, red: RedGalaxy, centre: Position, random: np.random.Generator
) -> list[Light]:
    settings = survey.spiral
    i = red.i + draw_one(survey.brightness_scatter, random)
    length, q = draw_one(settings.length, random), draw_one(settings.cos_inclination, random)
    phi, bulge, contrast = (
        draw_one(survey.angle, random),
        draw_one(settings.bulge, random),
        draw_one(settings.contrast, random),
    )
    old = survey.counts(red.magnitudes - red.i + i)
    disc = survey.counts(coloured(survey, i, settings.colours, random)) * (1 - bulge)
    bluer = draw_one(settings.arms_bluer, random)
    brighter = in_bands(survey.bands, (1.5 * bluer, 0.5 * bluer, 0.0), (bluer, 0, 0, 0, 0))
    young = disc * 10 ** (0.4 * brighter)
    smooth = partial(exponential, centre=centre, length=length, q=q, phi=phi)
    wound = partial(
        spiral_arms,
        centre=centre,
        length=length,
        q=q,
        phi=phi,
        arms=whole_number(settings.arms, random),
        pitch=draw_one(settings.pitch, random),
        phase=draw_one(survey.angle, random),
    )
    return [
        sersic_light(
            survey,
            centre,
            old * bulge,
            radius=length * draw_one(settings.bulge_radius, random),
            n=2.0,
            q=0.5 + 0.5 * q,
            phi=phi,
        ),
        Light(centre, disc * (1 - contrast), smooth),
        Light(centre, young * contrast, wound),
    ]


def _neighbours(
    survey: Survey, red: RedGalaxy, centre: Position, random: np.random.Generator
) -> list[Light]:
    settings = survey.mimics
    lights = [light_of(survey, red, centre)]
    for _ in range(whole_number(settings.neighbours, random)):
        flux = survey.counts(
            blue_magnitudes(survey, draw_one(settings.neighbour_g, random), settings.blue, random)
        )
        lights.append(
            sersic_light(
                survey,
                around(centre, draw_one(settings.neighbour_distance, random), survey, random),
                flux,
                radius=draw_one(settings.neighbour_radius, random),
                n=draw_one(survey.source.n, random),
                q=draw_one(survey.source.q, random),
                phi=draw_one(survey.angle, random),
                compact=True,
            )
        )
    return lights


def _merger(
    survey: Survey, red: RedGalaxy, centre: Position, random: np.random.Generator
) -> list[Light]:
    settings = survey.mimics
    lights = [light_of(survey, red, centre)]
    fainter = draw_one(settings.merger_fainter, random)
    other = around(centre, draw_one(settings.merger_distance, random), survey, random)
    lights.append(_companion(survey, red, other, fainter, random))
    for _ in range(whole_number(settings.merger_tails, random)):
        i = red.i - 2.5 * math.log10(draw_one(settings.tail_share, random))
        flux = survey.counts(coloured(survey, i, settings.tail_colours, random))
        shape = partial(
            tail,
            centre=centre,
            radius=draw_one(settings.tail_radius, random),
            width=draw_one(settings.tail_width, random),
            phi=draw_one(survey.angle, random),
            opening=draw_one(settings.tail_opening, random),
        )
        lights.append(Light(centre, flux, shape))
    return lights


def _ring(
    survey: Survey, red: RedGalaxy, centre: Position, random: np.random.Generator
) -> list[Light]:
    settings = survey.mimics
    radius = draw_one(settings.ring_radius, random)
    flux = survey.counts(
        blue_magnitudes(survey, draw_one(settings.ring_g, random), settings.blue, random)
    )
    shape = partial(
        ring,
        centre=centre,
        radius=radius,
        width=radius * draw_one(settings.ring_width, random),
        q=draw_one(settings.ring_cosine, random),
        phi=draw_one(survey.angle, random),
    )
    return [light_of(survey, red, centre), Light(centre, flux, shape)]


def _edge_on(
    survey: Survey, red: RedGalaxy, centre: Position, random: np.random.Generator
) -> list[Light]:
    settings = survey.mimics
    i = red.i + draw_one(survey.brightness_scatter, random)
    bulge, length, phi = (
        draw_one(settings.edge_on_bulge, random),
        draw_one(settings.edge_on_length, random),
        draw_one(survey.angle, random),
    )
    disc = survey.counts(coloured(survey, i, settings.edge_on_colours, random)) * (1 - bulge)
    height = length * draw_one(settings.edge_on_height, random)
    old = survey.counts(red.magnitudes - red.i + i) * bulge
    return [
        sersic_light(survey, centre, old, radius=0.4 * length, n=2.0, q=0.7, phi=phi),
        Light(
            centre, disc, partial(edge_on, centre=centre, length=length, height=height, phi=phi)
        ),
    ]


def _group(
    survey: Survey, red: RedGalaxy, centre: Position, random: np.random.Generator
) -> list[Light]:
    settings = survey.mimics
    lights = [light_of(survey, red, centre)]
    for _ in range(whole_number(settings.group, random)):
        other = around(centre, draw_one(settings.group_distance, random), survey, random)
        lights.append(
            _companion(survey, red, other, draw_one(settings.group_fainter, random), random)
        )
    return lights


def _elliptical(
    survey: Survey, red: RedGalaxy, centre: Position, random: np.random.Generator
) -> list[Light]:
    return [light_of(survey, red, centre)]


def _star(
    survey: Survey, red: RedGalaxy, centre: Position, random: np.random.Generator
) -> list[Light]:
    i = red.i + draw_one(survey.brightness_scatter, random)
    magnitudes = star_magnitudes(survey, i, draw_one(survey.mimics.star_g_i, random))
    return [Light(centre, survey.counts(magnitudes), None)]


_KINDS: Mapping[str, Callable[[Survey, RedGalaxy, Position, np.random.Generator], list[Light]]] = {
    "elliptical": _elliptical,
    "spiral": _spiral,
    "neighbours": _neighbours,
    "merger": _merger,
    "ring": _ring,
    "edge_on": _edge_on,
    "group": _group,
    "star": _star,
}


def _companion(
    survey: Survey, red: RedGalaxy, centre: Position, fainter: float, random: np.random.Generator
) -> Light:
    """A smaller elliptical at the redshift of another."""
    settings = survey.galaxy
    i = red.i + fainter
    return sersic_light(
        survey,
        centre,
        survey.counts(red_magnitudes(survey, red.z, i, random)),
        radius=red.radius * 10 ** (-0.25 * fainter),  # R_e ~ L^0.6
        n=draw_one(settings.n, random),
        q=draw_one(settings.q, random),
        phi=draw_one(settings.phi, random),
    )
