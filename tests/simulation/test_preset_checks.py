"""Presets that can be made, and what is refused or said of others."""

from __future__ import annotations

import pytest

from deeplense_batch.data.shards import ShardError
from deeplense_batch.simulation.distributions import Normal, Uniform
from deeplense_batch.simulation.overrides import with_overrides
from deeplense_batch.simulation.preset_checks import cautions, check_preset
from deeplense_batch.simulation.presets import PRESETS

PRESET = PRESETS["varied"]


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
