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
from deeplense_batch.simulation.overrides import cautions, check_preset, with_overrides
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


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_made(name):
    check_preset(PRESETS[name], 150)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"z_l": [0.3, 1.2], "z_s": 1.1}, "z_s from 1.1 and z_l up to 1.2: a source should lie"),
        ({"z_l": [0, 0.5]}, "a lens before us"),
        ({"camera.psf_sigma": 2.0}, "camera.psf_sigma: 2 arcsec does not fit a frame of 150"),
        ({"lens.mass": -1}, "lens.mass: should be above 0, got -1"),
        ({"lens.q": [0.9, 0.5]}, "lens.q: 0.9 to 0.5; should rise within 0.05 to 1"),
        ({"source.q": {"law": "Normal", "mean": 0.5, "sd": 0.1}}, "source.q: -inf to inf"),
        ({"lens.los_convergence": 1.0}, "lens.los_convergence: 1 to 1; should rise within -1 to"),
        ({"lens.los_convergence": {"law": "Normal", "mean": 0, "sd": 0.1}}, "-1 to 1; should"),
        ({"lens.los_convergence": [0.02, -0.02]}, "lens.los_convergence: 0.02 to -0.02; should"),
        ({"lens.los_convergence": 0.6, "lens.los_shear": 0.35}, "within -1 to 0.549999"),
        ({"lens.los_shear": -0.1}, "lens.los_shear: -0.1 to -0.1; should rise within 0 to 0.89"),
        ({"vort.mass": 1e12}, "vort: up to 1 of the lens in substructure leaves no lens"),
        ({"fraction": 0.01}, "fraction and sphere.count both say how many halos there are"),
        ({"sphere.count": None}, "fraction and sphere.count both say how many halos"),
        ({"sphere.profile": "tnfw"}, "sphere.truncation: profile tnfw needs .* such as 6; got nu"),
        ({"sphere.truncation": 6}, "set it to null: sphere.truncation=null$"),
        ({"sphere.scatter": 0.1}, "sphere.scatter = 0.1: profile point has no such number, only"),
    ],
)
def test_a_preset_that_cannot_be_made_is_refused(overrides, says):
    with pytest.raises(ShardError, match=says) as caught:
        check_preset(with_overrides(PRESET, overrides), 150)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"fraction": [0.1, 1.0]}, "fraction: up to 1 of the lens in substructure leaves no"),
        ({"fraction": 0.5}, "fraction: up to 0.5 of the mass in halos would be up to 13.* 20000"),
        ({"sphere.count": 30}, "fraction and sphere.count both say"),
        ({"sphere.mass": 1e8}, "sphere.mass: halos drawn by a fraction of the mass have"),
        ({"sphere.place.radius": [0, 2]}, "sphere.place: halos drawn by a fraction .* uniformly"),
        ({"sphere.place": {"place": "Cartesian", "x": 0, "y": 0}}, "sphere.place: halos drawn"),
        ({"sphere.truncation": 0}, "sphere.truncation: should be within 0.01 to 10000, got 0$"),
        ({"sphere.truncation": 1e200}, "truncation: should be within 0.01 to 10000, got 1e.200$"),
        ({"sphere.scatter": 5}, "sphere.scatter: should be within 1e-06 to 0.5, got 5$"),
        ({"sphere.scatter": -0.1}, "sphere.scatter: should be within 1e-06 to 0.5, got -0.1$"),
        (
            {"sphere.profile": "pseudo_jaffe"},
            "sphere.truncation = 6 and sphere.scatter = 0.11: profile pseudo_jaffe has no such "
            "number, only tnfw has; set it to null: sphere.truncation=null, sphere.scatter=null$",
        ),
    ],
)
def test_halos_by_a_fraction_of_the_mass(overrides, says):
    with pytest.raises(ShardError, match=says):
        check_preset(with_overrides(PRESETS["physical"], overrides), 150)


def test_tides_of_the_line_of_sight_are_laws_or_none():
    tides = {"lens.los_shear": [0, 0.03], "lens.los_convergence": {"law": "Normal", "mean": 0}}
    tides["lens.los_convergence"]["sd"] = 0.03
    on = with_overrides(PRESET, tides)
    check_preset(on, 150)
    assert on.lens.los_shear == Uniform(0, 0.03) and on.lens.los_convergence == Normal(0, 0.03)
    assert with_overrides(on, dict.fromkeys(tides)) == PRESET


def test_halos_by_a_fraction_or_by_a_number():
    by_number = {"fraction": None, "sphere.count": 30}
    check_preset(with_overrides(PRESETS["physical"], by_number), 150)
    law = {"law": "PowerLaw", "exponent": -1.9, "low": 1e7, "high": 1e10}
    check_preset(with_overrides(PRESETS["physical"], {"fraction": 0.05, "sphere.mass": law}), 150)


@pytest.mark.parametrize("name", PRESETS)
def test_no_preset_needs_a_caution(name):
    assert cautions(PRESETS[name]) == []


def test_what_changes_the_law_of_halos_is_said():
    """Halos that leave no lens are drawn again, and few halos may be none."""
    law = {"law": "PowerLaw", "exponent": -1.9, "low": 1e7, "high": 1e10}

    def said(**changes):
        preset = with_overrides(PRESETS["physical"], changes)
        check_preset(preset, 150)
        return cautions(preset)

    assert said(**{"fraction": 0.25, "sphere.mass": law}) == []
    (much,) = said(**{"fraction": [0.1, 0.45], "sphere.mass": law})
    assert much.startswith("preset physical: fraction: up to 0.45: scenes are drawn again")
    added = said(**{"fraction": 0.45, "sphere.mass": law, "budget": "added"})
    assert added == []
    (few,) = said(**{"sphere.mass": law | {"low": 1e9}})
    assert "an image of sphere may have no halo: their mean number is as low as" in few
    assert said(**{"sphere.mass": law | {"low": 1e9}, "fraction": 0.1}) == []
    assert len(said(**{"fraction": [0.0, 0.45], "sphere.mass": law})) == 2
    assert said(fraction=0.0) == []
