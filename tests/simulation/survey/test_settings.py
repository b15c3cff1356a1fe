"""The settings of the survey: fractions, names and noise, and how they are described."""

from __future__ import annotations

import json

import pytest

from deeplense_batch.simulation.survey.settings import (
    BANDS,
    CLASSES,
    FRACTIONS,
    KINDS,
    SHAPE,
    SURVEY,
    described,
)


def test_fractions_and_names():
    assert sum(FRACTIONS.values()) == pytest.approx(1, abs=1e-12)
    assert CLASSES == ("nonlenses", "lenses")  # the order of the packer
    assert ("lens", *FRACTIONS) == KINDS
    assert BANDS == ("g", "r", "i") and SHAPE == (3, 64, 64)


def test_described_in_json():
    found = json.loads(json.dumps(described()))
    assert found["fractions"] == FRACTIONS
    camera = found["laws"]["camera"]
    assert camera["fwhm"][2] == {"law": "LogNormal", "median": 0.48, "scatter": 0.10}
    normal = {"law": "Normal", "mean": 0.62, "sd": 0.13}
    within = {"law": "Within", "of": normal, "low": 0.2, "high": 0.9}
    assert found["laws"]["galaxy"]["z"] == within
    assert found["laws"]["version"] == SURVEY.version


def test_depth_is_the_published_one():
    assert [distribution.mean for distribution in SURVEY.camera.depth] == [26.6, 26.2, 26.2]
