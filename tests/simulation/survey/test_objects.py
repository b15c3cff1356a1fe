"""What a cutout is drawn from: galaxies, sources behind them, and the field around."""

from __future__ import annotations

import math

import numpy as np
import pytest
from made_survey import stream
from scipy.integrate import quad

from deeplense_batch.lensing.camera import fine_grid
from deeplense_batch.simulation.distributions import Fixed
from deeplense_batch.simulation.survey.objects import (
    blue_magnitudes,
    coloured,
    draw_field,
    draw_red_galaxy,
    draw_source,
    star_magnitudes,
)
from deeplense_batch.simulation.survey.presets import HSC
from deeplense_batch.simulation.survey.settings import Colours


def test_brightness_and_colours_of_ellipticals():
    settings = HSC.galaxy
    drawn = [draw_red_galaxy(HSC, stream(4, i)) for i in range(300)]
    residuals = []
    for galaxy in drawn:
        distance = quad(lambda z: 1 / math.sqrt(0.3 * (1 + z) ** 3 + 0.7), 0, galaxy.z)[0]
        distance *= 299792.458 / 70
        modulus = 5 * math.log10(distance * (1 + galaxy.z) * 1e5)
        absolute = (
            settings.m_i - 10 * math.log10(galaxy.sigma_v / 220) + settings.m_i_per_z * galaxy.z
        )
        g, r, i = galaxy.magnitudes
        assert i == pytest.approx(absolute + modulus, abs=1e-6)
        expected = [
            np.interp(galaxy.z, settings.colours.z, c)
            for c in (settings.colours.g_r, settings.colours.r_i)
        ]
        residuals.append([g - r - expected[0], r - i - expected[1]])
        assert settings.theta_e[0] <= galaxy.theta_e <= settings.theta_e[1]
    assert np.abs(np.mean(residuals, 0)).max() < 4 * 0.07 / math.sqrt(300)
    assert np.std(residuals, 0) == pytest.approx([0.07, 0.07], rel=0.2)


def test_a_count_is_of_magnitude_27_and_ten_are_brighter_by_two_and_a_half():
    magnitudes = np.array([27.0, 24.5, 22.0])
    assert HSC.counts(magnitudes).tolist() == pytest.approx([1, 10, 100])
    assert HSC.magnitudes(HSC.counts(magnitudes)) == pytest.approx(magnitudes)


@pytest.mark.parametrize(("g_i", "g_r"), [(0.5, 0.36), (2.0, 1.44), (2.6, 1.45)])
def test_colours_of_stars_lie_on_a_line_that_bends(g_i, g_r):
    g, r, i = star_magnitudes(HSC, 20.0, g_i)
    assert (g - i, g - r, i) == pytest.approx((g_i, g_r, 20.0))


def test_colours_are_counted_from_the_first_or_from_the_last_band():
    colours = Colours(Fixed(0.3), Fixed(0.1))
    assert blue_magnitudes(HSC, 22.0, colours, stream(0)) == pytest.approx([22.0, 21.7, 21.6])
    assert coloured(HSC, 22.0, colours, stream(0)) == pytest.approx([22.4, 22.1, 22.0])


def test_a_source_lies_behind_the_lens_and_its_light_is_one():
    x, y = fine_grid(400, 0.02, 1)
    clumps = set()
    for number in range(30):
        source = draw_source(HSC, 1.5, stream(5, number))
        assert math.hypot(*source.centre) <= 0.8 * 1.5
        on = source.clumps[source.clumps[:, 3] > 0]
        clumps.add(len(on))
        assert all(math.dist(row[:2], source.centre) <= source.radius for row in on)
        if number < 5:
            total = float(source.brightness(x, y).sum()) * 0.02**2
            assert total == pytest.approx(1, abs=0.02)
    assert clumps == {0, 1, 2, 3, 4}


def test_the_field_is_as_dense_as_the_settings_say():
    """Of 60 frames, within four standard errors; a star beyond the blur's margin is left out."""
    half = HSC.half
    side = half + HSC.field.margin
    fields = [draw_field(HSC, stream(6, number)) for number in range(60)]
    inside = sum(max(map(abs, light.centre)) < half for field in fields for light in field)
    expected = 60 * HSC.field.density * (2 * half) ** 2
    assert abs(inside - expected) < 4 * math.sqrt(expected)
    every = [light for field in fields for light in field]
    assert max(max(map(abs, light.centre)) for light in every) < side
    stars = sum(light.shape is None for light in every) / len(every)
    assert stars == pytest.approx(0.12, abs=4 * math.sqrt(0.12 * 0.88 / len(every)))
