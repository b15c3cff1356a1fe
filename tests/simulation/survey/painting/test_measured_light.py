"""What is measured of a galaxy against what it was made of."""

from __future__ import annotations

import math

import numpy as np
import pytest
from made_galaxies import galaxy
from scipy.ndimage import gaussian_filter

from deeplense_batch.simulation.survey.painting.measured_light import (
    central_light,
    flux_within,
    sky_of,
)

PSF = 1.8  # sd, pixels


def seen(noise: float = 0.0, **shape) -> np.ndarray:
    """A galaxy under the blur, with noise."""
    light = gaussian_filter(galaxy(**shape), PSF)
    return light + noise * np.random.default_rng(1).standard_normal(light.shape)


class TestSky:
    def test_level_and_sd_of_a_border_with_neighbours(self):
        random = np.random.default_rng(0)
        image = 30 + 4 * random.standard_normal((2, 64, 64))
        image[:, :6, 10:15] += 500
        sky = sky_of(image)
        assert sky.level == pytest.approx([30, 30], abs=0.6)
        assert sky.sd == pytest.approx([4, 4], rel=0.12)

    def test_what_is_in_the_middle_is_no_sky(self):
        image = np.zeros((1, 40, 40))
        image[0, 4:-4, 4:-4] = 100
        assert sky_of(image) == ([0.0], [0.0])


class TestCentralLight:
    @pytest.mark.parametrize("centre", ((0.0, 0.0), (1.37, -2.61), (-4.2, 3.9)))
    def test_centre_within_a_tenth_of_a_pixel(self, centre):
        light = central_light(seen(2.0, centre=centre), PSF, search=8)
        assert light.centre == pytest.approx(centre, abs=0.1)

    @pytest.mark.parametrize(("q", "phi"), ((0.5, 0.3), (0.7, 1.6), (0.85, 2.9)))
    def test_shape_without_the_blur(self, q, phi):
        light = central_light(seen(1.0, q=q, phi=phi), PSF, search=8)
        assert light.q == pytest.approx(q, abs=0.03)
        assert math.cos(2 * (light.phi - phi)) > 0.99

    def test_width_with_the_blur(self):
        light = central_light(seen(q=1.0, sigma=4.0), PSF, search=8)
        assert light.sigma == pytest.approx(math.hypot(4.0, PSF), rel=0.01)

    def test_a_star_is_round(self):
        light = central_light(seen(sigma=0.4, q=1.0), PSF, search=8)
        assert light.q > 0.6

    def test_a_brighter_neighbour_is_not_the_galaxy(self):
        both = seen(1.0, centre=(0.5, 0.0)) + seen(flux=4e5, centre=(20.0, 12.0), sigma=1.5)
        assert central_light(both, PSF, search=8).centre == pytest.approx((0.5, 0.0), abs=0.3)

    def test_an_empty_frame_has_no_peak(self):
        empty = np.random.default_rng(2).standard_normal((60, 60))
        assert central_light(empty, PSF, search=8).peak < 1.5


def test_flux_in_a_circle():
    image = np.stack([galaxy(flux=100.0, q=1.0), galaxy(flux=300.0, q=1.0)])
    share = 1 - math.exp(-(2**2) / 2)
    assert flux_within(image, (0.0, 0.0), 8.0) == pytest.approx(
        [100 * share, 300 * share], rel=0.02
    )
