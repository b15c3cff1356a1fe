"""One galaxy with an arc: the arc is what the truth says, and the galaxy is left alone."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from made_galaxies import PIXEL_SCALE, SKY_SD, galaxies, galaxy
from made_survey import stream

from deeplense_batch.simulation.distributions import Fixed, Normal
from deeplense_batch.simulation.survey.arcs import FaintError
from deeplense_batch.simulation.survey.objects import draw_source
from deeplense_batch.simulation.survey.painting.painter import Painter, reddest
from deeplense_batch.simulation.survey.presets import SURVEYS
from deeplense_batch.simulation.survey.settings import Survey

DES = dataclasses.replace(SURVEYS["des"], pixel_scale=PIXEL_SCALE, size=60)
NAMES = ("theta_e", "sigma_v", "z", "z_s", "q", "phi", "mag_i")
UNKNOWN = dict.fromkeys(
    (*NAMES, *(f"{what}_{band}" for band in "gri" for what in ("mag", "fwhm"))), math.nan
)


def painter(survey: Survey = DES, *, is_scaled: bool = False) -> Painter:
    sd = np.resize(SKY_SD, len(survey.bands))
    return Painter(survey, draw_source, is_scaled, sd, np.dtype(np.float32))


def parts(survey: Survey, **changes) -> Survey:
    """A survey with fields of its parts changed."""
    for name, fields in changes.items():
        part = dataclasses.replace(getattr(survey, name), **fields)
        survey = dataclasses.replace(survey, **{name: part})
    return survey


RING = parts(
    DES,
    source={"disc": 0.0, "radius": Fixed(0.1), "q": Fixed(1.0), "clump_share": Fixed(0.0)},
    lens={"q": Fixed(0.3), "q_bounds": (0.5, 0.9999), "shear": Fixed(0.0)},
    camera={"electrons": 1e12, "sky": None, "flattening": Fixed(0.0), "correlation": Fixed(0.0)},
)  # a source behind the middle of a round lens, seen without photon noise


def added(survey: Survey, image: np.ndarray, known=UNKNOWN, key: int = 0):
    """What was painted, (B, H, W) float64, and the truth."""
    made, truth = painter(survey).make(
        image, UNKNOWN | dict(known), is_lens=True, random=stream(key)
    )
    return made.astype(np.float64) - image, truth


class TestPixels:
    def test_a_non_lens_is_untouched(self):
        (image,) = galaxies(1)
        made, truth = painter().make(image, UNKNOWN, is_lens=False, random=stream(1))
        assert (made == image).all()
        arc = ("theta_e", "z_l", "z_s", "sigma_v", "source_magnitudes", "tries", "brightened")
        assert not any(truth[name].any() for name in arc)

    def test_where_the_arc_is_not_pixels_are_those_of_the_user(self):
        (image,) = galaxies(1)
        difference, _ = added(DES, image, {"theta_e": 1.0})
        is_own = difference == 0
        assert 0.3 < is_own.mean() < 0.97
        assert is_own[:, :3].all() and is_own[:, -3:].all()

    def test_flux_of_the_arc_in_every_band(self):
        for key, image in enumerate(galaxies(4)):
            difference, truth = added(RING, image, {"theta_e": 1.3}, key)
            expected = DES.counts(truth["source_magnitudes"]) * truth["magnification"]
            assert difference.sum((1, 2)) == pytest.approx(expected, rel=0.03)

    @pytest.mark.parametrize("theta_e", (0.9, 1.4, 2.0))
    def test_a_ring_has_the_radius_of_the_catalogue(self, theta_e):
        (image,) = galaxies(1)
        known = {"theta_e": theta_e, "q": 1.0} | {f"fwhm_{band}": 0.5 for band in "gri"}
        difference, truth = added(RING, image, known)
        axis = (np.arange(60) - 29.5) * PIXEL_SCALE
        x, y = axis[None, :] - truth["place"][0], axis[:, None] - truth["place"][1]
        distance = np.hypot(x, y)
        edges = np.arange(0, 4, 0.1)
        light, pixels = (
            np.histogram(distance, edges, weights=weights)[0]
            for weights in (difference[0], np.ones_like(distance))
        )
        profile = light / np.maximum(pixels, 1)
        near = slice(int(profile.argmax()) - 3, int(profile.argmax()) + 4)
        middles = (edges[:-1] + 0.05)[near]
        found = (middles * profile[near]).sum() / profile[near].sum()
        assert truth["theta_e"] == pytest.approx(theta_e, rel=1e-6)
        assert found == pytest.approx(theta_e, abs=0.06)

    def test_only_photons_of_the_arc_make_noise(self):
        (image,) = galaxies(1)
        noisy, _ = added(parts(RING, camera={"electrons": 5.0}), image, {"theta_e": 1.2})
        smooth, _ = added(RING, image, {"theta_e": 1.2})
        bright = smooth[0] > 5
        pull = (noisy[0] - smooth[0])[bright] / np.sqrt(smooth[0][bright] / 5.0)
        assert np.std(pull) == pytest.approx(1.0, abs=0.2)
        assert (noisy[0][smooth[0] == 0] == 0).all()

    @pytest.mark.parametrize("size", (41, 60, 151))
    def test_any_size_and_shape(self, size):
        survey = dataclasses.replace(DES, size=min(size, 100))
        image = galaxies(1, size=size)[0][:, : size - 7]
        difference, truth = added(survey, image, {"theta_e": 0.8})
        assert difference.shape == image.shape
        rows, columns = np.nonzero(difference[0] > difference[0].max() / 2)
        middle = np.array([columns.mean(), rows.mean()]) - (np.array(image.shape[:0:-1]) - 1) / 2
        assert np.hypot(*(middle * PIXEL_SCALE - truth["place"])) < 1.6

    @pytest.mark.parametrize("bands", (("i",), ("g", "r", "i", "z", "Y")))
    def test_one_band_or_five(self, bands):
        survey = dataclasses.replace(DES, bands=bands)
        names = [f"{what}_{band}" for band in bands for what in ("mag", "fwhm")]
        (image,) = galaxies(1, bands=len(bands))
        made, truth = painter(survey).make(
            image, UNKNOWN | dict.fromkeys(names, math.nan), is_lens=True, random=stream(2)
        )
        assert made.shape == image.shape and (made != image).any((1, 2)).all()
        assert truth["source_magnitudes"].shape == (len(bands),)

    def test_seen_in_front_of_a_bright_galaxy(self):
        """Where sources of the survey are too faint, brighter ones are taken."""
        (image,) = galaxies(1)
        bright = (image + galaxy(sigma=6.0, flux=1e8)).astype(np.float32)
        _, truth = added(parts(DES, visible={"tries": 24}), bright, {"theta_e": 0.6})
        assert truth["brightened"] > 0
        assert truth["arc_share"] > DES.visible.share

    def test_never_seen(self):
        (image,) = galaxies(1)
        hopeless = parts(DES, visible={"snr": 1e12, "tries": 1})
        with pytest.raises(FaintError, match="no source up to 12 magnitudes brighter than those"):
            added(hopeless, image)


class TestKnowledge:
    def test_mass_follows_the_light(self):
        light = galaxy(centre=(2.3, -1.7), q=0.7, phi=0.9, flux=4e5)
        noise = np.random.default_rng(0).standard_normal((3, 60, 60))
        image = (light + noise * 4).astype(np.float32)
        survey = parts(DES, lens={"q": Fixed(0.0), "phi": Fixed(0.0)})
        _, truth = added(survey, image)
        assert truth["place"] / PIXEL_SCALE == pytest.approx([2.3, -1.7], abs=0.1)
        assert truth["lens"] == pytest.approx(truth["light"])
        assert truth["light"][1] == pytest.approx(0.9, abs=0.1)
        assert truth["light"][0] == pytest.approx(0.66, abs=0.1)  # the blur of DES is taken off

    def test_what_the_catalogue_says_counts(self):
        known = {"q": 0.61, "phi": 2.0, "theta_e": 1.7, "z": 0.31, "z_s": 1.9, "fwhm_i": 1.4}
        (image,) = galaxies(1)
        survey = parts(DES, lens={"q": Fixed(0.0), "phi": Fixed(0.0)})
        _, truth = added(survey, image, known)
        assert truth["lens"] == pytest.approx([0.61, 2.0])
        assert (truth["z_l"], truth["z_s"], truth["theta_e"]) == pytest.approx((0.31, 1.9, 1.7))
        assert truth["seeing"][2] == pytest.approx(1.4)

    def test_einstein_radius_of_a_dispersion(self):
        known = {"sigma_v": 250.0, "z": 0.3, "z_s": 1.5}
        _, truth = added(DES, galaxies(1)[0], known)
        # 4 pi (sigma_v / c)^2 D_ls / D_s, with comoving distances of astropy's FlatLambdaCDM
        ratio = 1 - 1193.5 / 4363.4
        expected = 4 * math.pi * (250.0 / 299792.458) ** 2 * ratio * 206264.806
        assert truth["theta_e"] == pytest.approx(expected, rel=2e-3)
        assert truth["sigma_v"] == pytest.approx(250.0)

    def test_brighter_galaxies_have_more_mass(self):
        image = galaxies(1)[0] / 4
        found = {
            factor: np.mean(
                [
                    float(added(DES, image * np.float32(factor), key=key)[1]["sigma_v"])
                    for key in range(12)
                ]
            )
            for factor in (0.3, 10.0)
        }
        assert found[10.0] > found[0.3] + 15

    def test_the_reddest_band(self):
        assert reddest(("g", "i", "r")) == 1


class TestScaled:
    """Images of which each band is scaled from 0 to 1."""

    @staticmethod
    def scaled(image: np.ndarray) -> np.ndarray:
        least, most = (f(image, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
        return ((image - least) / (most - least)).astype(np.float32)

    def test_flux_by_the_magnitude_of_the_galaxy(self):
        image = self.scaled(galaxies(1)[0])
        magnitudes = {"mag_g": 20.5, "mag_r": 19.6, "mag_i": 19.0}
        _, truth = painter(is_scaled=True).make(
            image, UNKNOWN | magnitudes, is_lens=False, random=stream(1)
        )
        assert DES.magnitudes(truth["galaxy_counts"]) == pytest.approx(
            [20.5, 19.6, 19.0], abs=1e-6
        )

    def test_flux_by_the_noise_of_the_survey(self):
        survey = parts(DES, camera={"depth": dict.fromkeys("gri", Normal(24.0, 0.0))})
        image = self.scaled(galaxies(1)[0])
        _, truth = painter(survey, is_scaled=True).make(
            image, UNKNOWN, is_lens=False, random=stream(1)
        )
        # 10 sd within 1.95 arcsec at 24.0, of pixels that may be correlated
        area = math.pi * (1.95 / 2 / PIXEL_SCALE) ** 2
        white = DES.counts(np.array(24.0)) / 10 / math.sqrt(area)
        assert (truth["sky_sd"] * truth["unit"] / white).tolist() == pytest.approx(
            [1, 1, 1], abs=0.45
        )

    def test_an_arc_that_outshines_the_image_is_scaled_again(self):
        image = self.scaled(galaxies(1)[0] / 40)
        known = UNKNOWN | {"theta_e": 1.5}
        made, truth = painter(is_scaled=True).make(image, known, is_lens=True, random=stream(3))
        assert (made.min(), made.max()) == (0, 1)
        again = truth["scale"][:, 1] > 1
        assert again.any()
        low, high = truth["scale"][0]
        back = made[0] * (high - low) + low
        assert np.median(np.abs(back - image[0])) < 1e-6
