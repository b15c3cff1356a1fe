"""Objects that are taken for a lens: the lights of each kind, how bright and how far they are."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from made_survey import stream, survey_with

from deeplense_batch.simulation.distributions import Fixed
from deeplense_batch.simulation.survey.nonlenses import draw_nonlens
from deeplense_batch.simulation.survey.objects import draw_red_galaxy
from deeplense_batch.simulation.survey.presets import HSC

CENTRE = (0.05, -0.03)
LIGHTS = {  # of each kind: the fewest and the most
    "elliptical": (1, 1),
    "spiral": (3, 3),  # bulge, disc and arms
    "neighbours": (2, 4),
    "merger": (3, 4),  # two nuclei, one or two tails
    "ring": (2, 2),
    "edge_on": (2, 2),
    "group": (3, 5),
    "star": (1, 1),
}


def drawn(kind, number, survey=HSC):
    """The red galaxy of an image and the lights of its object."""
    red = draw_red_galaxy(survey, stream(20, number))
    return red, draw_nonlens(kind, survey, red, CENTRE, stream(21, number))


@pytest.mark.parametrize("kind", HSC.fractions)
def test_a_kind_has_the_lights_that_its_settings_say(kind):
    counts = [len(drawn(kind, number)[1]) for number in range(40)]
    assert (min(counts), max(counts)) == LIGHTS[kind]


@pytest.mark.parametrize("kind", sorted(set(HSC.fractions) - {"spiral", "edge_on", "star"}))
def test_around_the_red_galaxy_everything_else_is_put(kind):
    for number in range(5):
        red, lights = drawn(kind, number)
        assert lights[0].centre == CENTRE
        assert lights[0].flux == pytest.approx(HSC.counts(red.magnitudes), rel=1e-12)


@pytest.mark.parametrize("kind", ["spiral", "edge_on", "star"])
def test_what_stands_for_the_red_galaxy_is_as_bright_as_it(kind):
    """In the last band; bulge and disc, or disc and arms, share that light."""
    even = survey_with(brightness_scatter=Fixed(0.0))
    for number in range(10):
        red, lights = drawn(kind, number, even)
        total = sum(light.flux[2] for light in lights)
        assert total == pytest.approx(HSC.counts(red.magnitudes[2]), rel=1e-12)


def test_a_star_is_a_point():
    (star,) = drawn("star", 0)[1]
    assert star.shape is None and star.centre == CENTRE


@pytest.mark.parametrize(
    ("kind", "first", "distance"),
    [("neighbours", 1, (1.0, 4.0)), ("merger", 1, (0.8, 2.6)), ("group", 1, (1.5, 5.0))],
)
def test_companions_are_as_far_as_the_settings_say(kind, first, distance):
    found = []
    for number in range(40):
        lights = drawn(kind, number)[1]
        lights = lights[first:2] if kind == "merger" else lights[first:]
        found += [math.dist(light.centre, CENTRE) for light in lights]
    assert distance[0] <= min(found) and max(found) <= distance[1]
    assert max(found) - min(found) > 0.6 * (distance[1] - distance[0])


def test_a_fainter_nucleus_is_smaller_and_as_red():
    """2.5 magnitudes are a factor of ten in light, and 10^0.625 in radius (R_e ~ L^0.6)."""
    settings = dataclasses.replace(
        survey_with("mimics", merger_fainter=Fixed(2.5)),
        galaxy=survey_with(
            "galaxy", colours=dataclasses.replace(HSC.galaxy.colours, scatter=Fixed(0.0))
        ).galaxy,
    )
    red, lights = drawn("merger", 3, settings)
    assert lights[0].flux / lights[1].flux == pytest.approx(np.full(3, 10.0), rel=1e-9)
    assert lights[1].shape.keywords["radius"] == pytest.approx(red.radius * 10**-0.625)
