"""Surveys that can be made, and what is refused of others, in one sentence."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from deeplense_batch.data.shards import ShardError
from deeplense_batch.simulation.distributions import Fixed, LogNormal, Normal, Uniform, Within
from deeplense_batch.simulation.survey.checks import check_survey
from deeplense_batch.simulation.survey.lens_finding import LensFinding
from deeplense_batch.simulation.survey.presets import SURVEYS


@pytest.mark.parametrize("name", SURVEYS)
def test_every_survey_can_be_made(name):
    check_survey(SURVEYS[name])
    every = tuple(SURVEYS[name].camera.fwhm)[:6]
    check_survey(dataclasses.replace(SURVEYS[name], bands=every))


@pytest.mark.parametrize(
    ("set_", "says"),
    [
        ({"bands": ["g", "q"]}, "bands: got 'q'; allowed: g, i, r, y, z"),
        ({"bands": ["g", "g"]}, "bands: got g, g; expected one to 6, each once"),
        ({"bands": []}, "bands: expected a list, got .."),
        ({"bands": [1]}, "bands: expected a word, got 1"),
        ({"camera.fwhm.u": 1.0}, "camera.fwhm.u: no such field; allowed: g, i, r, y, z"),
        ({"camera.fwhm": [1, 2, 3]}, "camera.fwhm: expected a number, .low, high. or .law"),
        ({"camera.fwhm": 0.1}, "camera.fwhm.g: 0.1 arcsec is below a pixel of the blur, 0.25"),
        ({"camera.fwhm": -1}, "camera.fwhm.g: -1 to -1; should rise within 1e-06 to inf"),
        ({"camera.fwhm": {"law": "LogNormal", "median": 0, "scatter": 1}}, "median should be ab"),
        ({"camera.depth": "deep"}, "camera.depth: expected a number"),
        ({"camera.correlation": [0.2, 0.7]}, "camera.correlation: 0.2 to 0.7; should rise"),
        ({"camera.sky": None}, "camera.electrons and camera.sky both say how many photons"),
        ({"camera.electrons": 100}, "camera.electrons and camera.sky both say how many photons"),
        ({"camera.psf": "nowhere.fits"}, "camera.psf: nowhere.fits: no FITS file there"),
        ({"camera.aperture": 0}, "camera.aperture: should be from 0.25 to 20, got 0"),
        ({"pixel_scale": 0}, "pixel_scale: should be from 0.005 to 2, got 0"),
        ({"pixel_scale": "x"}, "pixel_scale: expected a number, got 'x'"),
        ({"form": "counts"}, "form: got 'counts'; allowed: flux, public"),
        ({"size": 12}, "size: should be from 16 to 1024, got 12"),
        ({"size": 20}, "size: 20 pixels of 0.25 arcsec do not hold an Einstein ring of 3 arcsec"),
        ({"galaxy.theta_e": [2, 1]}, "galaxy.theta_e: .2, 1. should rise, above 0"),
        ({"galaxy.theta_e": [4.9, 5]}, "galaxy.theta_e: none of 10000 galaxies drawn by galaxy.z"),
        ({"galaxy.theta_e": 1.5}, "galaxy.theta_e: expected a list of 2, got 1.5"),
        ({"galaxy.q": [0.5, 1.5]}, "galaxy.q: 0.5 to 1.5; should rise within 0.05 to 1"),
        ({"source.radius": [0, 0.5]}, "source.radius: 0 to 0.5; should rise within 1e-06 to inf"),
        ({"spiral.length": -1}, "spiral.length: -1 to -1; should rise within 1e-06 to inf"),
        ({"spiral.contrast": 1.2}, "spiral.contrast: 1.2 to 1.2; should rise within 0 to 1"),
        ({"mimics.ring_cosine": 0}, "mimics.ring_cosine: 0 to 0; should rise within 0.01 to 1"),
        ({"fractions.star": 0.5}, "fractions: .* add up to 1.47; expected 1"),
        ({"fractions.comet": 0.5}, "fractions.comet: no such field"),
        ({"visible.band": "z"}, "visible.band: got 'z'; allowed: g, i, r"),
        ({"seeing": 1.0}, "seeing: no such field; allowed: angle, bands"),
        (
            {"galaxy.z": {"law": "Within", "of": 1, "low": 2, "high": 3}},
            "none of 1000 values is from",
        ),
    ],
)
def test_a_survey_that_cannot_be_made_is_refused(set_, says):
    with pytest.raises(ShardError, match=says) as e:
        LensFinding(preset="ps1", set_=set_)
    assert "\n" not in str(e.value) and len(str(e.value)) < 250


def test_one_law_for_all_bands_or_one_for_each():
    made = LensFinding(preset="ps1", set_={"camera.fwhm": [1.1, 1.3]}).survey
    assert set(made.camera.fwhm.values()) == {Uniform(1.1, 1.3)}
    one = LensFinding(preset="ps1", set_={"camera": {"fwhm": {"r": 1.5}}}).survey.camera.fwhm
    assert one["r"] == Fixed(1.5) and one["g"] == SURVEYS["ps1"].camera.fwhm["g"]
    law = {"law": "Within", "of": {"law": "LogNormal", "median": 1, "scatter": 0.1}}
    cut = LensFinding(set_={"camera.fwhm.i": law | {"low": 0.8, "high": 1.2}}).survey
    assert cut.camera.fwhm["i"] == Within(LogNormal(1, 0.1), 0.8, 1.2)
    depth = LensFinding(set_={"camera.depth.g": {"law": "Normal", "mean": 27, "sd": 0.1}}).survey
    assert depth.camera.depth["g"] == Normal(27, 0.1)


def test_numbers_in_lists_and_a_single_band():
    made = LensFinding(preset="lsst", set_={"bands": "r", "mimics.group": [1, 6]})
    assert made.survey.bands == ("r",) and made.survey.mimics.group == (1, 6)
    assert made.shape == (1, 54, 54) and np.isfinite(made.make("train", [0], seed=1).images).all()
