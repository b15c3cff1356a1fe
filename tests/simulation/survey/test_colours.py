"""Colours beyond g, r and i: of old galaxies, of blue ones and of stars, in every band."""

from __future__ import annotations

import numpy as np
import pytest

from deeplense_batch.simulation.survey.colours import (
    WAVELENGTHS,
    beyond_of_galaxy,
    beyond_of_red,
    beyond_of_star,
    in_bands,
)

BANDS = tuple(WAVELENGTHS)
REFERENCE = BANDS[:8]


def test_g_r_and_i_are_what_they_were():
    gri = 22.123456789, 21.1, 20.7
    assert in_bands("gri", gri, [9.0] * 5).tolist() == list(gri)
    assert in_bands("ig", gri, [9.0] * 5).tolist() == [20.7, 22.123456789]


def test_colours_add_up_in_the_order_of_wavelength():
    beyond = [0.5, 0.1, 0.2, 0.3, 0.4]
    found = in_bands(REFERENCE, (21.0, 20.5, 20.3), beyond)
    assert found == pytest.approx([21.5, 21.0, 20.5, 20.3, 20.2, 20.0, 19.7, 19.3])


def test_a_band_between_two_is_between_them():
    gri, beyond = (21.0, 20.0, 19.0), [1.0] * 5
    for band, (blue, red) in {"VIS": "ri", "F814W": "iz", "F606W": "gr", "Y": "yJ"}.items():
        bluer, here, redder = in_bands((blue, band, red), gri, beyond)
        assert redder < here < bluer, band
    share = (WAVELENGTHS["VIS"] - WAVELENGTHS["r"]) / (WAVELENGTHS["i"] - WAVELENGTHS["r"])
    assert in_bands(("VIS",), gri, beyond)[0] == pytest.approx(20.0 - share)


@pytest.mark.parametrize("z", (0.2, 0.4, 0.6, 0.8, 0.9))
def test_an_old_galaxy_gets_brighter_with_wavelength(z):
    """Whose break passes through g and r at these redshifts: no colour is blue, none above 3."""
    magnitudes = in_bands(REFERENCE, (21.9, 20.2, 19.3), beyond_of_red(z))
    colours = -np.diff(magnitudes)
    assert (colours > 0.1).all() and (colours < 3).all()
    assert 0.2 < colours[3] < 1.1 and 0.1 < colours[4] < 0.6  # i - z, z - y


@pytest.mark.parametrize(("g_r", "r_i"), [(0.0, 0.0), (0.2, 0.1), (0.7, 0.35), (0.9, 0.5)])
def test_other_galaxies_are_bluer_than_old_ones(g_r, r_i):
    beyond = np.array(beyond_of_galaxy(g_r, r_i))
    assert (beyond > -0.1).all() and (beyond < 1.0).all()
    assert (beyond[:2] < np.array(beyond_of_red(0.6))[:2]).all()


def test_stars_follow_the_locus():
    """A star like the Sun, and a dwarf of type M (Covey et al. 2007)."""
    sun, dwarf = (beyond_of_star(g_i, r_i) for g_i, r_i in ((0.55, 0.15), (2.6, 1.1)))
    assert sun[0] == pytest.approx(1.3, abs=0.15) and abs(sun[1]) < 0.1
    assert dwarf[0] == pytest.approx(2.6, abs=0.1) and dwarf[1] == pytest.approx(0.6, abs=0.1)
