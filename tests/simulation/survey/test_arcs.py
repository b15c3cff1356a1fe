"""Arcs: rays, flux and visibility of a lensed source, in the pixels of any survey."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from made_survey import stream

from deeplense_batch.simulation.survey.arcs import (
    Mass,
    draw_arc,
    framed,
    is_visible,
    lensed,
    render,
    source_plane,
    visibility,
)
from deeplense_batch.simulation.survey.noise import draw_conditions
from deeplense_batch.simulation.survey.objects import draw_red_galaxy, draw_source, light_of
from deeplense_batch.simulation.survey.presets import SURVEYS

SPHERE = Mass(1.2, 1.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("name", ("ps1", "euclid_vis"))
def test_rays_of_a_sphere_are_bent_by_its_einstein_radius(name):
    survey = SURVEYS[name]
    x, y = source_plane(survey, (0.3, -0.2), SPHERE)
    side = survey.padded * survey.oversampling * survey.supersampling
    assert x.shape[-1] == y.shape[-2] == side
    far = torch.hypot(x, y)[0, 0, 0]  # of a corner, from the lens
    half = (side - 1) / 2 * survey.fine_scale / survey.supersampling
    assert float(far) == pytest.approx(math.hypot(half + 0.3, half - 0.2) - 1.2, rel=1e-9)


@pytest.mark.parametrize("name", SURVEYS)
def test_an_arc_has_its_flux_in_every_band(name):
    survey = SURVEYS[name]
    conditions = draw_conditions(survey, stream(1))
    source = draw_source(survey, 1.2, stream(2))
    shape = source.brightness(*source_plane(survey, (0.0, 0.0), SPHERE))
    magnification = float(shape.sum()) * (survey.fine_scale / survey.supersampling) ** 2
    flux = survey.counts(source.magnitudes)
    pixels = lensed(flux, shape, conditions.psf, survey)
    assert pixels.shape == (len(survey.bands), survey.padded, survey.padded)
    assert pixels.sum((1, 2)).numpy() == pytest.approx(flux * magnification, rel=1e-6)


@pytest.mark.parametrize("name", SURVEYS)
def test_arcs_that_are_drawn_are_visible(name):
    survey = SURVEYS[name]
    for i in range(4):
        random = stream(30, i)
        conditions, red = draw_conditions(survey, random), draw_red_galaxy(survey, random)
        galaxy = render([light_of(survey, red, (0.0, 0.0))], conditions.psf, survey)
        front = framed(galaxy, survey)[survey.seen_in]
        arc = draw_arc(survey, red, (0.0, 0.0), front, conditions.psf, conditions.sky_sd, random)
        assert is_visible(arc.seen, survey) and arc.mass.theta_e == red.theta_e
        # Most of its light lies on a ring of about the Einstein radius.
        seen = framed(arc.pixels, survey)[survey.seen_in]
        axis = (np.arange(survey.size) - (survey.size - 1) / 2) * survey.pixel_scale
        radius = np.hypot(axis[:, None], axis[None, :])
        mean = (seen * radius).sum() / seen.sum()
        wide = conditions.fwhm[survey.seen_in]
        assert 0.5 * red.theta_e < mean < 1.7 * red.theta_e + wide


def test_what_is_not_above_the_sky_is_not_visible():
    survey = SURVEYS["ps1"]
    dark = np.zeros((9, 9))
    seen = visibility(dark, dark, 1.0, survey)
    assert seen == (0.0, 0.0, 0.0) and not is_visible(seen, survey)
    spot = dark.copy()
    spot[4, 3:6] = 30.0
    seen = visibility(spot, dark, 1.0, survey)
    assert seen == pytest.approx((90 / math.sqrt(3), 30.0, 1.0)) and is_visible(seen, survey)
    drowned = visibility(spot, np.full((9, 9), 100.0), 1.0, survey)
    assert drowned.share == pytest.approx(30 / 130) and not is_visible(drowned, survey)


def test_the_band_of_visibility_is_g_or_the_first_or_named():
    assert [SURVEYS[name].seen_in for name in ("hsc", "lsst", "euclid_vis")] == [0, 0, 0]
    kids = dataclasses.replace(SURVEYS["kids"], bands=("u", "g", "r"))
    assert kids.seen_in == 1
    red = dataclasses.replace(kids, visible=dataclasses.replace(kids.visible, band="r"))
    assert red.seen_in == 2
