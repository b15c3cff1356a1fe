"""Cutouts of the survey: lights in pixels, noise, arcs, and what their truth says.

With `$DEEPLENSE_REAL_DATA` they are also held against the real cutouts of the public set."""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from made_survey import LENS, NONLENS, blur, counts, stream, survey_with
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deeplense_batch.data.shards import ShardError
from deeplense_batch.lensing.camera import fine_grid
from deeplense_batch.lensing.galaxies import clump, soft_sersic
from deeplense_batch.simulation.distributions import Fixed
from deeplense_batch.simulation.survey.arcs import render
from deeplense_batch.simulation.survey.objects import Light, draw_red_galaxy, light_of
from deeplense_batch.simulation.survey.presets import HSC
from deeplense_batch.simulation.survey.scenes import make
from deeplense_batch.simulation.survey.settings import KINDS


@pytest.fixture(scope="module")
def sample() -> dict[int, tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Images and truth of each class."""
    found = {}
    for target, count in ((NONLENS, 600), (LENS, 200)):
        made = [make(target, stream(3, target, i), HSC) for i in range(count)]
        truth = {name: np.stack([t[name] for _, t in made]) for name in made[0][1]}
        found[target] = np.stack([image for image, _ in made]), truth
    return found


class TestRender:
    psf = torch.cat([blur(fwhm) for fwhm in (0.77, 0.68, 0.48)])

    def test_magnitudes_come_out_as_counts(self):
        magnitudes = np.array([22.0, 20.5, 19.5])
        sky = render([Light((0.1, -0.2), HSC.counts(magnitudes), None)], self.psf, HSC)
        expected = [100.0, 10 ** (0.4 * 6.5), 1000.0]
        assert sky.sum((1, 2)).tolist() == pytest.approx(expected, rel=1e-4)

    def test_flux_of_an_elliptical(self):
        galaxy = dataclasses.replace(draw_red_galaxy(HSC, stream(1)), radius=0.3, n=3.0)
        sky = render([light_of(HSC, galaxy, (0.02, 0.03))], self.psf, HSC)
        ratio = sky.sum((1, 2)).numpy() / HSC.counts(galaxy.magnitudes)
        assert np.abs(ratio - 1).max() < 0.015  # what samples make of the cusp
        assert np.ptp(ratio) < 1e-4

    def test_a_light_within_its_reach_is_the_light(self):
        flux, centre = np.full(3, 100.0), (-4.9, 1.3)

        def shape(x, y):
            return soft_sersic(x, y, centre=centre, radius=0.2, n=1.0, q=0.5, phi=1.0, core=0.01)

        whole, part = (
            render([Light(centre, flux, shape, r)], self.psf, HSC) for r in (math.inf, 2.8)
        )
        assert float((whole - part).abs().max() / whole.max()) < 1e-4

    def test_nothing_comes_from_far_outside(self):
        def shape(x, y):
            return clump(x, y, centre=(30.0, 0.0), sigma=0.1)

        sky = render([Light((30.0, 0.0), np.full(3, 1e6), shape, 1.0)], self.psf, HSC)
        assert float(sky.abs().max()) == 0


class TestImages:
    def test_form(self, sample):
        for images, truth in sample.values():
            assert images.shape[1:] == HSC.shape and images.dtype == np.float32
            assert (images.min((2, 3)) == 0).all() and (images.max((2, 3)) == 1).all()
            assert all(v.dtype == np.float64 and np.isfinite(v).all() for v in truth.values())

    def test_both_classes_have_the_same_truth(self, sample):
        shapes = [
            {name: values.shape[1:] for name, values in truth.items()}
            for _, truth in sample.values()
        ]
        assert shapes[0] == shapes[1]

    @pytest.mark.parametrize("target", (NONLENS, LENS))
    def test_an_image_depends_on_its_stream_only(self, target, sample):
        for i in (17, 3):
            image, truth = make(target, stream(3, target, i), HSC)
            assert (image == sample[target][0][i]).all()
            assert all(
                (truth[name] == values[i]).all() for name, values in sample[target][1].items()
            )
        assert (sample[target][0][3] != sample[target][0][17]).any()

    def test_mixture(self, sample):
        found = np.bincount(sample[NONLENS][1]["kind"].astype(int), minlength=len(KINDS))
        assert found[0] == 0
        expected = np.array(list(HSC.fractions.values())) * found.sum()
        assert stats.chisquare(found[1:], expected).pvalue > 1e-3
        assert (sample[LENS][1]["kind"] == 0).all()

    @pytest.mark.parametrize("kind", HSC.fractions)
    def test_every_kind(self, kind):
        for i in range(5):
            image, truth = make(NONLENS, stream(8, i), survey_with(fractions={kind: 1.0}))
            assert KINDS[int(truth["kind"])] == kind
            # It is there, in the middle.
            middle = counts(image, truth)[2, 24:40, 24:40]
            assert middle.sum() > 100 * truth["sky_sd"][2]

    def test_a_star_has_its_magnitudes(self):
        alone = dataclasses.replace(survey_with("field", density=0.0), fractions={"star": 1.0})
        for i in range(10):
            image, truth = make(NONLENS, stream(9, i), alone)
            near = counts(image, truth)[:, 14:50, 14:50].sum((1, 2))
            expected = HSC.counts(truth["object_magnitudes"])
            noise = 2 * 36 * truth["sky_sd"]  # correlated
            assert (np.abs(near - expected) < 0.01 * expected + 4 * noise).all()

    def test_total_of_a_lens_and_of_its_source(self):
        for i in range(10):
            image, truth = make(LENS, stream(10, i), survey_with("field", density=0.0))
            flux = counts(image, truth).sum((1, 2))
            expected = HSC.counts(truth["object_magnitudes"])
            # The frame holds three quarters of the largest ellipticals.
            assert ((flux > 0.6 * expected - 10) & (flux < 1.02 * expected + 25)).all()

    def test_noise_of_an_empty_sky(self):
        dark = dataclasses.replace(
            survey_with("field", density=0.0),
            fractions={"elliptical": 1.0},
            galaxy=survey_with("galaxy", m_i=0.0).galaxy,
        )
        scaled, expected, measured = [], [], []
        for i in range(60):
            image, truth = make(NONLENS, stream(11, i), dark)
            noise = counts(image, truth) / truth["sky_sd"][:, None, None]
            scaled.append(noise)
            expected.append(float(truth["noise_correlation"]))
            measured.append(float((noise[..., 1:] * noise[..., :-1]).mean()))
        values = np.stack(scaled)
        assert values.std((0, 2, 3)) == pytest.approx(np.ones(3), abs=0.01)
        assert np.abs(values.mean((0, 2, 3))).max() < 4 * 2 / math.sqrt(60 * 4096)
        assert np.abs(np.subtract(measured, expected)).max() < 5 / math.sqrt(3 * 4096)
        assert abs(np.mean(np.subtract(measured, expected))) < 0.005

    def test_photons_of_the_object_add_noise(self):
        silent = dict.fromkeys("gri", Fixed(40.0))
        usual = dict(zip("gri", map(Fixed, (26.6, 26.2, 26.2)), strict=True))
        sky = survey_with("camera", electrons=1e12, depth=usual)
        both = survey_with("camera", electrons=3000.0, depth=usual)
        none = survey_with("camera", electrons=1e12, depth=silent)
        made = [
            make(NONLENS, stream(12), dataclasses.replace(given, fractions={"star": 1.0}))
            for given in (sky, both, none)
        ]
        a, b, c = (counts(*one)[2] for one in made)
        sd = made[0][1]["sky_sd"][2]
        clear = np.abs(a - c) > sd  # counts are rounded to sd / 64
        ratio = np.sqrt(1 + np.maximum(c, 0) / 3000 / sd**2)
        assert ratio.max() > 1.3
        assert np.abs((b - c) / (a - c) - ratio)[clear].max() < 0.02


class TestLenses:
    def test_are_visible(self, sample):
        truth, least = sample[LENS][1], HSC.visible
        assert (truth["arc_snr"] > 20).all() and least.snr == 20
        assert (truth["magnification"] > 3).all() and least.magnification == 3
        assert (truth["arc_contrast"] > 2).all() and least.contrast == 2
        assert (truth["arc_share"] > least.share).all()
        assert ((truth["theta_e"] >= 0.6) & (truth["theta_e"] <= 2.5)).all()
        assert (truth["z_s"] > truth["z_l"] + 0.3 - 1e-9).all()
        assert truth["tries"].max() < HSC.visible.tries / 4
        from_lens = np.hypot(*truth["source"][:, :2].T)
        assert (from_lens <= 0.8 * truth["theta_e"]).all()

    def test_what_only_a_lens_has_is_zero_for_others(self, sample):
        truth = sample[NONLENS][1]
        for name in ("z_s", "theta_e", "source", "lens", "magnification", "arc_snr", "tries"):
            assert (truth[name] == 0).all(), name

    def test_magnification_by_a_sphere(self):
        """Of a small source at beta: 2 theta_e / beta, both images together."""
        given = dataclasses.replace(
            HSC,
            galaxy=survey_with("galaxy", q=Fixed(1.0)).galaxy,
            lens=survey_with("lens", q=Fixed(0.0), q_bounds=(1.0, 1.0), shear=Fixed(0.0)).lens,
            source=survey_with(
                "source", radius=Fixed(0.08), n=Fixed(1.0), q=Fixed(1.0), most_clumps=0
            ).source,
            visible=survey_with(
                "visible", snr=0.0, contrast=0.0, share=-1.0, magnification=0.0
            ).visible,
        )
        ratios = []
        for i in range(60):
            truth = make(LENS, stream(13, i), given)[1]
            beta = math.hypot(*truth["source"][:2])
            if beta > 0.3:
                ratios.append(truth["magnification"] * beta / (2 * truth["theta_e"]))
        # The source is no point, and the smaller of its images has few samples.
        assert len(ratios) > 30
        assert np.mean(ratios) == pytest.approx(1, abs=0.015)  # 1.009
        assert np.abs(np.array(ratios) - 1).max() < 0.07

    def test_an_arc_that_is_never_seen_is_an_error(self):
        with pytest.raises(ShardError, match=r"none of 3 sources .* was visible in g"):
            make(LENS, stream(1), survey_with("visible", snr=1e9, tries=3))


class TestNoShortcut:
    def test_both_classes_have_the_same_galaxies_and_field(self):
        """One stream, two classes: all that is not the object is the same."""
        shared = ("galaxy", "galaxy_magnitudes", "z_l", "sigma_v", "place", "seeing", "psf")
        shared += ("sky_sd", "noise_correlation", "neighbours")
        for i in range(10):
            other, lens = (make(target, stream(14, i), HSC)[1] for target in (NONLENS, LENS))
            assert all((other[name] == lens[name]).all() for name in shared)

    def test_light_and_colour_do_not_tell_the_class(self, sample, record_property):
        features, targets = [], []
        for target, (images, truth) in sample.items():
            for i, image in enumerate(images):
                row = {name: values[i] for name, values in truth.items()}
                features.append(np.log(np.maximum(counts(image, row).mean((1, 2)), 1e-3)))
                targets.append(target)
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
        scores = cross_val_predict(
            model, np.array(features), targets, cv=5, method="decision_function"
        )
        auc = roc_auc_score(targets, scores)
        record_property("auc", auc)
        print(f"AUC of the mean of each band: {auc:.3f}")
        assert auc < 0.75


@pytest.fixture(scope="module")
def real() -> np.ndarray:
    folder = os.environ.get("DEEPLENSE_REAL_DATA")
    if not folder:
        pytest.skip("DEEPLENSE_REAL_DATA is unset: no real images to compare with")
    files = sorted((Path(folder) / "lens_finding").glob("*_lenses/*.npy"))
    images = [np.load(path) for path in files]
    # One of the twelve has no sky in its last band.
    return np.array([statistics(image) for image in images if np.median(image, (1, 2)).max() < 1])


class TestAgainstRealImages:
    def test_lenses(self, real, sample):
        """Of each statistic: our median between the 5th and the 95th percentile of the real."""
        assert len(real) == 11
        ours = np.median([statistics(image) for image in sample[LENS][0]], 0)
        least, most = np.percentile(real, (5, 95), 0)
        assert ((ours > least) & (ours < most)).all(), (ours, least, most)


def statistics(image: np.ndarray) -> list[float]:
    """Of each band, by its noise: log peak and log light within 1.5 arcsec; area of objects."""
    x, y = fine_grid(64, HSC.pixel_scale, 1)
    near = (torch.hypot(x, y)[0] < 1.5).numpy()
    found = []
    for band in image.astype(float):
        sky = np.median(band)
        noise = sky - np.percentile(band, 16)
        above = (band - sky) / noise
        found += [math.log10(above[26:38, 26:38].max()), math.log10(above[near].sum())]
        found.append(float((above > 3).mean()))
    return found
