"""Presets with some of their fields changed: what a value may be, and what is refused."""

from __future__ import annotations

import dataclasses
import math

import pytest

from deeplense_batch.data.shards import ShardError
from deeplense_batch.simulation.distributions import (
    Cartesian,
    Fixed,
    LogUniform,
    Normal,
    Poisson,
    Polar,
    Uniform,
)
from deeplense_batch.simulation.overrides import with_overrides
from deeplense_batch.simulation.presets import PRESETS

PRESET = PRESETS["varied"]


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (2, Fixed(2.0)),
        ([1, 2.5], Uniform(1, 2.5)),
        ({"law": "Normal", "mean": 1, "sd": 0.5}, Normal(1, 0.5)),
        ({"law": "LogUniform", "low": 0.5, "high": 2}, LogUniform(0.5, 2)),
    ],
)
def test_a_law_is_a_number_a_range_or_named(value, read):
    changed = with_overrides(PRESET, {"source.n": value})
    assert changed.source.n == read
    assert dataclasses.replace(
        changed, source=dataclasses.replace(changed.source, n=PRESET.source.n)
    ) == PRESET  # fmt: skip


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ({"place": "Polar", "radius": [0, 1]}, Polar(Uniform(0, 1))),
        ({"place": "Polar", "radius": 1, "angle": 0}, Polar(Fixed(1.0), Fixed(0.0))),
        ({"place": "Cartesian", "x": 0, "y": [0, 1]}, Cartesian(Fixed(0.0), Uniform(0, 1))),
    ],
)
def test_a_position_is_polar_or_by_coordinates(value, read):
    assert with_overrides(PRESET, {"vort.centre": value}).vort.centre == read


def test_sections_may_be_nested_or_dotted_and_several_fields_change_at_once():
    law = {"law": "Poisson", "mean": 5, "most": 30}
    nested = with_overrides(PRESET, {"sphere": {"count": law, "profile": "point"}, "z_s": 2})
    dotted = with_overrides(PRESET, {"sphere.count": law, "sphere.profile": "point", "z_s": 2})
    assert nested == dotted != PRESET
    assert nested.sphere.count == Poisson(5, 30) and nested.z_s == Fixed(2.0)
    assert with_overrides(PRESET, {}) == PRESET


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"lens.shaer": 0.1}, "preset varied: lens.shaer: no such field; did you mean 'shear'"),
        ({"version": 3}, "preset varied: version: no such field"),
        ({"z_s.low": 1}, "z_s.low: no such field; allowed: value"),
        ({"source.n": True}, "source.n: expected a number, .low, high. or .law"),
        ({"source.n": math.inf}, "source.n: expected a number"),
        ({"source.n": {"law": "Normal", "mean": 1}}, "Normal takes numbers for mean, sd; got"),
        ({"source.n": {"law": "Normal", "mean": 1, "sd": -1}}, "Normal: sd should be 0 or more"),
        ({"lens.mass": "heavy"}, "lens.mass: expected a number, got 'heavy'"),
        ({"supersampling": 1.5}, "supersampling: expected a whole number above 0, got 1.5"),
        ({"vort.centre": {"place": "Cartesian", "x": 0}}, "expected {place: Polar, radius"),
        ({"sphere.profile": "nfw"}, "sphere.profile: got 'nfw'; did you mean 'tnfw'"),
        ({"sphere.truncation": "far"}, "sphere.truncation: expected a number, got 'far'"),
    ],
)
def test_what_is_no_field_or_no_value_is_one_sentence(overrides, says):
    with pytest.raises(ShardError, match=says) as caught:
        with_overrides(PRESET, overrides)
    assert "\n" not in str(caught.value)
