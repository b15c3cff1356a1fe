"""Images as pictures: of the range of a network, and of flux above a noisy sky."""

from __future__ import annotations

import numpy as np
import pytest

from deeplense_batch.core.scoring.colours import stretched

RANDOM = np.random.default_rng(0)
Y, X = np.mgrid[:48, :48] - 23.5
GALAXY = np.exp(-1.7 * np.sqrt(np.hypot(X, Y) / 4))  # 1 in the centre
BANDS = np.array([0.25, 0.5, 1.0])[:, None, None]  # a red galaxy in g, r, i


def flux(peak=500.0, sky=(0.0, 0.0, 0.0), sd=1.0):
    noise = sd * np.random.default_rng(1).normal(size=(3, 48, 48))
    return peak * BANDS * GALAXY + noise + np.array(sky)[:, None, None]


def test_flux_above_a_noisy_sky_is_bright_on_black_and_keeps_its_hue():
    picture = stretched(flux())
    assert picture.shape == (48, 48, 3) and 0 <= picture.min() <= picture.max() <= 1
    red, green, blue = picture[20:28, 20:28].mean((0, 1))
    assert red > 0.75
    assert (green / red, blue / red) == pytest.approx((0.5, 0.25), abs=0.02)
    corners = picture[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.max() < 0.25  # the noise of the sky
    ring = np.abs(np.hypot(X, Y) - 14) < 0.5  # 4% of the peak: what lifting is for
    assert 0.2 < picture[ring][:, 0].mean() < 0.8  # 0.06 if nothing were lifted


@pytest.mark.parametrize("unit", [1e-9, 1e6])
def test_neither_unit_nor_level_of_the_sky_changes_the_picture(unit):
    level = (100.0, -20.0, 7.0)
    assert stretched(flux(sky=level) * unit) == pytest.approx(stretched(flux()), abs=1e-6)


def test_an_empty_field_stays_dark_and_one_without_noise_is_drawn():
    assert stretched(flux(peak=0.0)).mean() < 0.1
    clean = stretched(flux(sd=0.0))
    assert np.isfinite(clean).all() and clean.max() > 0.95
    assert not stretched(np.full((3, 8, 8), 7.0)).any()


def test_the_picture_of_values_from_0_to_1_scales_each_band_on_its_own():
    """As ever: of a range no band is brighter than another."""
    image = np.clip(0.05 + BANDS * GALAXY * 0.9, 0, 1)
    red, green, blue = np.moveaxis(stretched(image), -1, 0)
    assert red == pytest.approx(green, abs=1e-9) and red == pytest.approx(blue, abs=1e-9)
    whole = (image * 255).astype(np.uint8)  # bytes are pictures too
    assert stretched(whole)[..., 0] == pytest.approx(red, abs=0.1)


def test_channels_are_chosen_and_by_default_the_first_is_blue():
    image = flux()
    assert np.array_equal(stretched(image), stretched(image, rgb=(2, 1, 0)))
    turned = stretched(image, rgb=(0, 1, 2))
    assert np.array_equal(turned, stretched(image)[..., ::-1])
    five = np.concatenate([image, image[2:] * 2, image[2:] * 4])
    assert stretched(five).ndim == 2  # the first alone
    assert np.array_equal(stretched(five, rgb=(4, 3, 2)), stretched(five[2:]))


def test_alike_images_share_black_and_white():
    bright, faint = flux(), flux(peak=50.0)
    like = [bright, faint]
    assert stretched(faint, like)[24, 24, 0] < 0.8 * stretched(faint)[24, 24, 0]
    assert stretched(bright, like).max() <= 1
