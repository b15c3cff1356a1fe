"""The settings of the survey: fractions, names and noise, and how they are described."""

from __future__ import annotations

import json

import pytest

from deeplense_batch.simulation.survey.presets import HSC, survey_of
from deeplense_batch.simulation.survey.settings import CLASSES, KINDS


def test_fractions_and_names():
    assert sum(HSC.fractions.values()) == pytest.approx(1, abs=1e-12)
    assert CLASSES == ("nonlenses", "lenses")  # the order of the packer
    assert ("lens", *HSC.fractions) == KINDS
    assert HSC.bands == ("g", "r", "i") and HSC.shape == (3, 64, 64)


def test_bands_are_named_as_in_the_camera():
    assert HSC.as_written(("HSC-I2", "G", "y", "Y", "VIS")) == ("i", "g", "y", "y", "VIS")
    assert survey_of("des", {"bands": ["HSC-G", "y"]}).bands == ("g", "Y")


def test_described_in_json():
    found = json.loads(json.dumps(HSC.described()))
    assert found["fractions"] == HSC.fractions
    camera = found["laws"]["camera"]
    assert camera["fwhm"][2] == {"law": "LogNormal", "median": 0.48, "scatter": 0.10}
    normal = {"law": "Normal", "mean": 0.62, "sd": 0.13}
    within = {"law": "Within", "of": normal, "low": 0.2, "high": 0.9}
    assert found["laws"]["galaxy"]["z"] == within
    assert found["laws"]["version"] == HSC.version


def test_depth_is_the_published_one():
    assert [HSC.camera.depth[band].mean for band in HSC.bands] == [26.6, 26.2, 26.2]
