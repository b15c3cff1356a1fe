"""Draw what a survey may take for a lens: spirals, rings, mergers, groups, neighbours, stars."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from deeplense_batch.simulation.distributions import one
from deeplense_batch.simulation.survey.galaxies import (
    edge_on,
    exponential,
    ring,
    spiral_arms,
    tail,
)
from deeplense_batch.simulation.survey.objects import (
    Light,
    Place,
    RedGalaxy,
    around,
    blue_magnitudes,
    coloured,
    counts_of,
    light_of,
    red_magnitudes,
    sersic_light,
    star_magnitudes,
    whole_number,
)
from deeplense_batch.simulation.survey.settings import Survey

__all__ = ["draw_nonlens"]


def draw_nonlens(
    kind: str, laws: Survey, red: RedGalaxy, place: Place, random: np.random.Generator
) -> list[Light]:
    """Draw an object that is no lens.

    Arguments:
        kind: One of `FRACTIONS`.
        laws: All laws.
        red: The elliptical of this image: the object itself, its nucleus, or the galaxy whose
            brightness it has.
        place: Where it stands, arcsec.
        random: The stream of the image.
    """
    return _KINDS[kind](laws, red, place, random)


def _spiral(
    laws: Survey, red: RedGalaxy, place: Place, random: np.random.Generator
) -> list[Light]:
    law = laws.spiral
    i = red.magnitudes[2] + one(laws.brightness_scatter, random)
    length, q = one(law.length, random), one(law.cos_inclination, random)
    phi, bulge, contrast = (
        one(laws.angle, random),
        one(law.bulge, random),
        one(law.contrast, random),
    )
    old = counts_of(red.magnitudes - red.magnitudes[2] + i)
    disc = counts_of(coloured(i, law.colours, random)) * (1 - bulge)
    bluer = one(law.arms_bluer, random)
    young = disc * 10 ** (0.4 * np.array([1.5 * bluer, 0.5 * bluer, 0.0]))
    smooth = partial(exponential, place=place, length=length, q=q, phi=phi)
    wound = partial(
        spiral_arms,
        place=place,
        length=length,
        q=q,
        phi=phi,
        arms=whole_number(law.arms, random),
        pitch=one(law.pitch, random),
        phase=one(laws.angle, random),
    )
    return [
        sersic_light(
            laws,
            place,
            old * bulge,
            radius=length * one(law.bulge_radius, random),
            n=2.0,
            q=0.5 + 0.5 * q,
            phi=phi,
        ),
        Light(place, disc * (1 - contrast), smooth),
        Light(place, young * contrast, wound),
    ]


def _neighbours(
    laws: Survey, red: RedGalaxy, place: Place, random: np.random.Generator
) -> list[Light]:
    law = laws.mimics
    lights = [light_of(laws, red, place)]
    for _ in range(whole_number(law.neighbours, random)):
        flux = counts_of(blue_magnitudes(one(law.neighbour_g, random), law.blue, random))
        lights.append(
            sersic_light(
                laws,
                around(place, one(law.neighbour_distance, random), laws, random),
                flux,
                radius=one(law.neighbour_radius, random),
                n=one(laws.source.n, random),
                q=one(laws.source.q, random),
                phi=one(laws.angle, random),
                compact=True,
            )
        )
    return lights


def _merger(
    laws: Survey, red: RedGalaxy, place: Place, random: np.random.Generator
) -> list[Light]:
    law = laws.mimics
    lights = [light_of(laws, red, place)]
    fainter = one(law.merger_fainter, random)
    other = around(place, one(law.merger_distance, random), laws, random)
    lights.append(_companion(laws, red, other, fainter, random))
    for _ in range(whole_number(law.merger_tails, random)):
        i = red.magnitudes[2] - 2.5 * math.log10(one(law.tail_share, random))
        flux = counts_of(coloured(i, law.tail_colours, random))
        shape = partial(
            tail,
            place=place,
            radius=one(law.tail_radius, random),
            width=one(law.tail_width, random),
            phi=one(laws.angle, random),
            opening=one(law.tail_opening, random),
        )
        lights.append(Light(place, flux, shape))
    return lights


def _ring(laws: Survey, red: RedGalaxy, place: Place, random: np.random.Generator) -> list[Light]:
    law = laws.mimics
    radius = one(law.ring_radius, random)
    flux = counts_of(blue_magnitudes(one(law.ring_g, random), law.blue, random))
    shape = partial(
        ring,
        place=place,
        radius=radius,
        width=radius * one(law.ring_width, random),
        q=one(law.ring_cosine, random),
        phi=one(laws.angle, random),
    )
    return [light_of(laws, red, place), Light(place, flux, shape)]


def _edge_on(
    laws: Survey, red: RedGalaxy, place: Place, random: np.random.Generator
) -> list[Light]:
    law = laws.mimics
    i = red.magnitudes[2] + one(laws.brightness_scatter, random)
    bulge, length, phi = (
        one(law.edge_on_bulge, random),
        one(law.edge_on_length, random),
        one(laws.angle, random),
    )
    disc = counts_of(coloured(i, law.edge_on_colours, random)) * (1 - bulge)
    height = length * one(law.edge_on_height, random)
    old = counts_of(red.magnitudes - red.magnitudes[2] + i) * bulge
    return [
        sersic_light(laws, place, old, radius=0.4 * length, n=2.0, q=0.7, phi=phi),
        Light(place, disc, partial(edge_on, place=place, length=length, height=height, phi=phi)),
    ]


def _group(laws: Survey, red: RedGalaxy, place: Place, random: np.random.Generator) -> list[Light]:
    law = laws.mimics
    lights = [light_of(laws, red, place)]
    for _ in range(whole_number(law.group, random)):
        other = around(place, one(law.group_distance, random), laws, random)
        lights.append(_companion(laws, red, other, one(law.group_fainter, random), random))
    return lights


def _elliptical(
    laws: Survey, red: RedGalaxy, place: Place, random: np.random.Generator
) -> list[Light]:
    return [light_of(laws, red, place)]


def _star(laws: Survey, red: RedGalaxy, place: Place, random: np.random.Generator) -> list[Light]:
    i = red.magnitudes[2] + one(laws.brightness_scatter, random)
    magnitudes = star_magnitudes(i, one(laws.mimics.star_g_i, random))
    return [Light(place, counts_of(magnitudes), None)]


_KINDS: Mapping[str, Callable[[Survey, RedGalaxy, Place, np.random.Generator], list[Light]]] = {
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
    laws: Survey, red: RedGalaxy, place: Place, fainter: float, random: np.random.Generator
) -> Light:
    """A smaller elliptical at the redshift of another."""
    law = laws.galaxy
    i = red.magnitudes[2] + fainter
    return sersic_light(
        laws,
        place,
        counts_of(red_magnitudes(laws, red.z, i, random)),
        radius=red.radius * 10 ** (-0.25 * fainter),  # R_e ~ L^0.6
        n=one(law.n, random),
        q=one(law.q, random),
        phi=one(law.phi, random),
    )
