"""Distributions: what they give, their ranges, and how they are written as JSON."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from deeplense_batch.simulation.distributions import (
    Cartesian,
    Fixed,
    LogNormal,
    LogUniform,
    Normal,
    NumberCounts,
    Poisson,
    Polar,
    PowerLaw,
    Rayleigh,
    Uniform,
    Within,
    as_json,
    draw_one,
    rounded,
)
from deeplense_batch.simulation.presets import PRESETS


def test_masses_follow_the_power_law():
    """p(m) ~ m^-1.9 and m^-0.9: distribution, and slope by maximum likelihood."""
    for exponent in (-1.9, -0.9):
        law = PowerLaw(exponent, 1e6, 1e10)
        masses = law.draw(np.random.default_rng(1), 100_000)
        k = exponent + 1

        def below(m, k=k):
            return (m**k - 1e6**k) / (1e10**k - 1e6**k)

        assert stats.kstest(masses, below).pvalue > 1e-3
        slopes = np.linspace(exponent - 0.05, exponent + 0.05, 201)
        norms = np.log((1e10 ** (slopes + 1) - 1e6 ** (slopes + 1)) / (slopes + 1))
        likelihood = slopes * np.log(masses).mean() - norms
        assert slopes[likelihood.argmax()] == pytest.approx(exponent, abs=0.01)


LAWS = [
    Fixed(0.3),
    Uniform(-1.0, 2.0),
    LogUniform(0.01, 10.0),
    PowerLaw(-1.9, 1e6, 1e10),
    PowerLaw(1.0, 0.0, 2.0),
    Rayleigh(0.05, 0.1),
    Poisson(25.0, 60),
]


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_a_law_gives_what_is_in_its_range_and_the_same_from_the_same_stream(law):
    drawn = law.draw(np.random.default_rng(0), 5000)
    assert drawn.shape == (5000,) and drawn.dtype == np.float64
    low, high = law.range
    assert low <= drawn.min() and drawn.max() <= high
    assert (drawn == law.draw(np.random.default_rng(0), 5000)).all()
    assert draw_one(law, np.random.default_rng(0)) == drawn[0]


@pytest.mark.parametrize(
    ("law", "below"),
    [
        (Uniform(-1.0, 2.0), lambda v: (v + 1) / 3),
        (LogUniform(0.01, 10.0), lambda v: np.log(v / 0.01) / math.log(1000)),
        (PowerLaw(1.0, 0.0, 2.0), lambda v: v**2 / 4),  # uniform in area
        (Normal(2.0, 0.5), lambda v: stats.norm.cdf(v, 2.0, 0.5)),
        (Rayleigh(0.05, 0.1), lambda v: np.expm1(-(v**2) / 0.005) / math.expm1(-2.0)),
    ],
    ids=["uniform", "log", "area", "normal", "rayleigh"],
)
def test_a_law_has_its_distribution_function(law, below):
    drawn = law.draw(np.random.default_rng(1), 20_000)
    assert stats.kstest(drawn, below).pvalue > 1e-3


def test_a_count_is_poisson_s_but_never_none():
    drawn = Poisson(2.0, 100).draw(np.random.default_rng(2), 50_000)
    shares = [(drawn == k).mean() for k in (1, 2, 3)]
    expected = [3 * math.exp(-2), 2 * math.exp(-2), 4 / 3 * math.exp(-2)]  # none counts as one
    assert shares == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: LogUniform(0.0, 1.0), "low should be above 0"),
        (lambda: Normal(0.0, -0.1), "sd should be 0 or more"),
        (lambda: PowerLaw(-1.0, 1.0, 2.0), "exponent should not be -1"),
        (lambda: PowerLaw(-1.5, 0.0, 2.0), "nor below it with a low of 0"),
        (lambda: Rayleigh(0.0, 1.0), "sigma and most should be above 0"),
        (lambda: Poisson(0.0, 3), "mean should be above 0, most 1 or more"),
    ],
)
def test_a_law_that_is_none_is_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_a_position_is_by_coordinates_or_by_distance_and_direction():
    random = np.random.default_rng(3)
    plain = Cartesian(Fixed(0.5), Uniform(-1.0, 1.0)).draw(random, 500)
    assert plain.shape == (500, 2) and (plain[:, 0] == 0.5).all()
    assert plain[:, 1].min() < -0.9 and plain[:, 1].max() > 0.9
    around = Polar(Fixed(2.0)).draw(random, 500)
    assert np.hypot(*around.T) == pytest.approx(2.0)
    assert (around < -1.9).any(0).all() and (around > 1.9).any(0).all()
    up = Polar(Fixed(2.0), Fixed(math.pi / 2)).draw(random, 1)
    assert up[0] == pytest.approx([0.0, 2.0])


def test_a_law_is_json_with_its_name():
    assert as_json((Normal(0.0, 0.5), 3, None)) == [
        {"law": "Normal", "mean": 0.0, "sd": 0.5},
        3,
        None,
    ]
    assert as_json(Polar(Fixed(1.0), Uniform(0.0, 2.0))) == {
        "place": "Polar",
        "radius": {"law": "Fixed", "value": 1.0},
        "angle": {"law": "Uniform", "low": 0.0, "high": 2.0},
    }


def test_numbers_are_rounded_to_single_precision():
    assert rounded([0.1, 1.0]).tolist() == [0.10000000149011612, 1.0]
    assert rounded(0.1).dtype == np.float64


def test_a_new_field_is_left_out_of_what_was_made_without_it():
    """So that the settings of older sets are found again."""
    halos = as_json(PRESETS["varied"].sphere)
    assert set(halos) == {"count", "mass", "place", "unit", "profile"}
    assert as_json(PRESETS["physical"].sphere)["truncation"] == 6.0


def test_number_counts_grow_with_their_slope():
    drawn = NumberCounts(0.3, 22.0, 26.0).draw(np.random.default_rng(1), 100_000)
    assert drawn.min() >= 22 and drawn.max() <= 26
    found = [(drawn < limit).mean() for limit in (23, 24, 25)]
    whole = 10 ** (0.3 * 4) - 1
    expected = [(10 ** (0.3 * m) - 1) / whole for m in (1, 2, 3)]
    assert found == pytest.approx(expected, abs=5e-3)


def test_bounds_and_medians():
    drawn = Within(LogNormal(1.0, 0.5), 0.5, 2.0).draw(np.random.default_rng(2), 20_000)
    assert drawn.min() >= 0.5 and drawn.max() <= 2
    assert np.median(drawn) == pytest.approx(1, abs=0.02)


def test_bounds_that_hold_nothing_are_refused():
    for of in (Uniform(0.0, 1.0), Normal(0.0, 1.0), Fixed(3.0)):
        with pytest.raises(ValueError, match="none of 1000 values is from low to high"):
            Within(of, 50.0, 60.0)
