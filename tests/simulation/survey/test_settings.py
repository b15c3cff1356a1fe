"""The settings of the survey: fractions, names and noise, and how they are described."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from deeplense_batch.simulation.survey.objects import counts_of
from deeplense_batch.simulation.survey.settings import (
    BANDS,
    CLASSES,
    FRACTIONS,
    KINDS,
    PIXEL_SCALE,
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


def test_sky_follows_from_depth_and_seeing():
    """A point of five sigma, in the noise area of a Gaussian, 4 pi sigma^2."""
    published = zip((26.6, 26.2, 26.2), (0.77, 0.76, 0.58), SURVEY.camera.sky_sd, strict=True)
    for depth, fwhm, sd in published:
        sigma = fwhm / math.sqrt(8 * math.log(2)) / PIXEL_SCALE
        noise = float(counts_of(np.array(depth))) / 5 / math.sqrt(4 * math.pi * sigma**2)
        assert sd.median == pytest.approx(noise, rel=0.02)
