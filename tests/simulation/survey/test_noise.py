"""Noise of a coadd: its correlation, and the depth that images really have."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from made_survey import NONLENS, SIZE, blur, counts, stream, survey_with

from deeplense_batch.simulation.survey.arcs import render
from deeplense_batch.simulation.survey.noise import SIGMAS, noise, sky_sd, star
from deeplense_batch.simulation.survey.objects import Light
from deeplense_batch.simulation.survey.presets import HSC
from deeplense_batch.simulation.survey.psf import psf_spectrum
from deeplense_batch.simulation.survey.scenes import make

_EDGE = 12  # pixels of a stamp around a star, and the margin of the survey


def psf_flux(image: np.ndarray, stamps: np.ndarray, row: int, column: int) -> np.ndarray:
    """PSF flux of a star in the middle of a pixel's corner, of each band: sum(P d) / sum(P^2)."""
    here = image[:, row - _EDGE : row + _EDGE, column - _EDGE : column + _EDGE]
    return (stamps * here).sum((1, 2)) / (stamps**2).sum((1, 2))


def empty_sky(i: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Counts of an image without an object in it, and its truth."""
    dark = dataclasses.replace(
        survey_with("field", density=0.0),
        fractions={"elliptical": 1.0},
        galaxy=survey_with("galaxy", m_i=5.0).galaxy,
    )
    image, truth = make(NONLENS, stream(21, i), dark)
    return counts(image, truth), truth


@pytest.fixture(scope="module")
def measured() -> np.ndarray:
    """PSF flux over its noise of stars as bright as the depth of their image, (N, 3)."""
    found = []
    for i in range(60):
        sky, truth = empty_sky(i)
        beta, q, phi = (torch.from_numpy(v) for v in truth["psf"].T)
        fwhm = torch.from_numpy(truth["seeing"])
        psf = psf_spectrum(SIZE, HSC.pixel_scale, fwhm=fwhm, beta=beta, q=q, phi=phi)
        middle = SIZE // 2
        cut = slice(middle - _EDGE, middle + _EDGE)
        stamps = star(psf, HSC)[:, cut, cut]
        light = Light((0.0, 0.0), HSC.counts(truth["depth"]), None)
        injected = render([light], psf, HSC).numpy()[:, cut, cut]
        expected = HSC.counts(truth["depth"]) / SIGMAS
        for row in range(_EDGE, 64 - _EDGE + 1, 10):
            for column in range(_EDGE, 64 - _EDGE + 1, 10):
                image = sky.copy()
                at = np.s_[:, row - _EDGE : row + _EDGE, column - _EDGE : column + _EDGE]
                image[at] += injected
                found.append(psf_flux(image, stamps, row, column) / expected)
    return np.array(found)


def test_a_star_of_the_stated_depth_has_five_sigma(measured):
    """In the images as they are made: mean signal 5, and noise 1, of each band."""
    assert measured.shape == (60 * 25, 3)
    assert measured.mean(0) == pytest.approx(np.full(3, 5.0), abs=0.1)
    noise_of_flux = measured.std(0)
    assert noise_of_flux == pytest.approx(np.ones(3), rel=0.05)
    assert measured.mean(0) / noise_of_flux == pytest.approx(np.full(3, 5.0), rel=0.05)


def test_depths_are_those_of_the_survey():
    depths = np.array([empty_sky(i)[1]["depth"] for i in range(40)])
    assert np.median(depths, 0) == pytest.approx([26.6, 26.2, 26.2], abs=0.03)


def test_noise_of_psf_flux_without_correlation_is_that_of_a_sum():
    """1 / sqrt(sum(P^2)) for noise 1, which for a Moffat in small pixels is its noise area."""
    psf = blur(fwhm=1.4, beta=3.5, q=1.0, phi=0.0).to(torch.complex128)
    (sd,) = sky_sd(np.array([26.0]), psf, 0.0, HSC)
    a = 1.4 / (2 * math.sqrt(2 ** (1 / 3.5) - 1))
    area = math.pi * a**2 * (2 * 3.5 - 1) / (3.5 - 1) ** 2 / HSC.pixel_scale**2
    assert HSC.counts(26.0) / SIGMAS / sd == pytest.approx(math.sqrt(area), rel=0.02)


def test_correlated_noise_needs_a_quieter_sky_for_one_depth():
    psf, depth = blur().to(torch.complex128), np.array([26.0])
    alone, together = (float(sky_sd(depth, psf, r, HSC)[0]) for r in (0.0, 0.3))
    # Over areas larger than the smoothing the variance grows by (1 + 2 a)^4 / (1 + 2 a^2)^2.
    a = 0.3 / (1 + math.sqrt(1 - 2 * 0.09))
    assert 0.85 < alone / together / ((1 + 2 * a) ** 2 / (1 + 2 * a * a)) < 1


@pytest.mark.parametrize("correlation", (0.0, 0.2))
def test_sd_and_correlation(correlation):
    sky = np.array([0.5, 2.0])
    made = noise(np.zeros((2, 600, 600)), sky, correlation, 1e3, stream(4)) / sky[:, None, None]
    assert made.std((1, 2)) == pytest.approx(np.ones(2), abs=0.01)
    for shifted, other in ((made[:, 1:], made[:, :-1]), (made[..., 1:], made[..., :-1])):
        assert (shifted * other).mean() == pytest.approx(correlation, abs=0.01)


def test_photons_add_to_the_variance():
    made = noise(np.full((1, 400, 400), 30.0), np.array([0.1]), 0.1, 1000.0, stream(5))
    assert made.std() == pytest.approx(math.sqrt(0.01 + 0.03), rel=0.01)
    negative = noise(np.full((1, 400, 400), -30.0), np.array([0.1]), 0.1, 1000.0, stream(5))
    assert negative.std() == pytest.approx(0.1, rel=0.01)


def test_seeing_of_the_survey_is_in_the_noise():
    """A wider star of the same depth needs a quieter sky."""
    depth = np.array([26.0])
    sharp, wide = (sky_sd(depth, blur(w).to(torch.complex128), 0.1, HSC)[0] for w in (0.5, 1.0))
    assert sharp / wide == pytest.approx(2.0, rel=0.2)
