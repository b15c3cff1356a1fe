"""Distributions that only the survey has: counts of galaxies, cut-off and log-normal ones."""

from __future__ import annotations

import numpy as np
import pytest
from made_survey import stream

from deeplense_batch.simulation.survey.distributions import LogNormal, NumberCounts, Within


def test_number_counts_grow_with_their_slope():
    drawn = NumberCounts(0.3, 22.0, 26.0).draw(stream(1), 100_000)
    assert drawn.min() >= 22 and drawn.max() <= 26
    found = [(drawn < limit).mean() for limit in (23, 24, 25)]
    whole = 10 ** (0.3 * 4) - 1
    expected = [(10 ** (0.3 * m) - 1) / whole for m in (1, 2, 3)]
    assert found == pytest.approx(expected, abs=5e-3)


def test_bounds_and_medians():
    drawn = Within(LogNormal(1.0, 0.5), 0.5, 2.0).draw(stream(2), 20_000)
    assert drawn.min() >= 0.5 and drawn.max() <= 2
    assert np.median(drawn) == pytest.approx(1, abs=0.02)
