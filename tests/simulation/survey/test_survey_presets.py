"""Images of each survey against its preset: depth, seeing, pixels, colours, bands and form."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from made_survey import NONLENS, stream
from scipy.optimize import least_squares

from deeplense_batch.simulation.survey.arcs import framed, render
from deeplense_batch.simulation.survey.noise import SIGMAS, draw_conditions, star
from deeplense_batch.simulation.survey.objects import Light, blue_magnitudes, draw_red_galaxy
from deeplense_batch.simulation.survey.presets import SURVEYS
from deeplense_batch.simulation.survey.psf import psf_spectrum
from deeplense_batch.simulation.survey.scenes import make
from deeplense_batch.simulation.survey.settings import Survey

SKIES = 20

# What the releases say: arcsec a pixel; median FWHM; depth, with its sigmas and circle in arcsec.
PUBLISHED = {
    "ps1": (0.25, (1.31, 1.19, 1.11), (23.3, 23.2, 23.1), 5, None),
    "kids": (0.2, (0.9, 0.7, 0.8), (25.12, 25.02, 23.68), 5, 2.0),
    "des": (0.263, (1.11, 0.95, 0.88), (24.7, 24.4, 23.8), 10, 1.95),
    "lsst": (0.2, (0.87, 0.83, 0.80, 0.78), (27.4, 27.5, 26.8, 26.1), 5, None),
    "euclid_vis": (0.1, (0.13,), (25.6,), 10, 1.3),
    "hst": (0.05, (0.09,), (27.2,), 5, None),
}


@pytest.mark.parametrize("survey", SURVEYS)
def test_the_page_names_the_numbers_of_every_band(survey):
    """docs/simulation.md has a row for each survey, with the values of its preset in order."""
    page = (REPOSITORY / "docs" / "simulation.md").read_text()
    (row,) = [line for line in page.splitlines() if line.startswith(f"| `{survey}`")]
    _, _, bands, pixels, seeing, depth, radii, _ = re.sub(r"\*\*|\[\d+\]", "", row).split("|")
    preset = SURVEYS[survey]
    assert bands.split() == list(preset.camera.fwhm)
    assert f"**{' '.join(preset.bands)}**" in row
    assert [float(v) for v in pixels.split(",")] == [preset.pixel_scale, preset.size]
    widths = [law.median for law in preset.camera.fwhm.values()]
    assert list(map(float, re.findall(r"\d+\.\d+", seeing)))[: len(widths)] == widths
    means = [law.mean for law in preset.camera.depth.values()]
    assert list(map(float, re.findall(r"\d+\.\d+", depth)))[: len(means)] == means
    assert tuple(map(float, radii.split("-"))) == preset.galaxy.theta_e
    camera = preset.camera
    assert f"{camera.sigmas:g} sigma" in depth
    assert (f"in {camera.aperture} arcsec" if camera.aperture else "of a point") in depth


def only(survey: Survey, kind: str, m_i: float) -> Survey:
    """One kind of object of that absolute magnitude, and nothing around it."""
    return dataclasses.replace(
        survey,
        fractions={kind: 1.0},
        field=dataclasses.replace(survey.field, density=0.0),
        galaxy=dataclasses.replace(survey.galaxy, m_i=m_i),
    )


def images_of(survey: Survey, count: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    made = [make(NONLENS, stream(40, i), survey) for i in range(count)]
    truth = {name: np.stack([t[name] for _, t in made]) for name in made[0][1]}
    return np.stack([image for image, _ in made]).astype(float), truth


@pytest.fixture(scope="module", params=PUBLISHED)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def skies(name) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Images without an object."""
    return images_of(only(SURVEYS[name], "elliptical", 10.0), SKIES)


def sums(sky: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum of weights times pixels at many places of a sky, of each band, (B, places)."""
    side = weights.shape[-1]
    places = range(0, sky.shape[-1] - side + 1, max(1, side // 8))
    return np.stack(
        [
            (sky[:, y : y + side, x : x + side] * weights).sum((1, 2))
            for y in places
            for x in places
        ],
        1,
    )


def circle(diameter: float) -> np.ndarray:
    """Share of each pixel in a circle of that many pixels."""
    side, fine = 2 * math.ceil(diameter / 2) + 1, 15
    axis = (np.arange(side * fine) + 0.5) / fine - side / 2
    return (
        (np.hypot(*np.meshgrid(axis, axis)) < diameter / 2)
        .reshape(side, fine, side, fine)
        .mean((1, 3))
    )


def test_depth(name, skies):
    """In empty images, within the circle that the release names, or of points."""
    survey, (images, truth) = SURVEYS[name], skies
    scale, _, depths, sigmas, diameter = PUBLISHED[name]
    for band, published in enumerate(depths):
        measured = np.median(truth["depth"][:, band])  # held against the noise below
        if diameter:
            noise = sums(images[:, band], circle(diameter / scale)).std()
            measured = survey.zero_point - 2.5 * math.log10(sigmas * noise)
        assert measured == pytest.approx(published, abs=0.06), survey.bands[band]


def test_a_point_as_bright_as_the_depth_has_five_sigma(name, skies):
    """PSF flux in empty images, over a fifth of that of the depth: its sd is 1."""
    survey, (images, truth) = SURVEYS[name], skies
    scaled = []
    for i, sky in enumerate(images):
        beta, q, phi = (torch.from_numpy(v) for v in truth["psf"][i].T)
        side, fwhm = survey.padded * survey.oversampling, torch.from_numpy(truth["seeing"][i])
        psf = psf_spectrum(side, survey.fine_scale, fwhm=fwhm, beta=beta, q=q, phi=phi)
        point = star(psf, survey)
        middle, reach = survey.padded // 2, min(survey.size // 3, 24)
        point = point[:, middle - reach : middle + reach, middle - reach : middle + reach]
        weights = point / (point**2).sum((1, 2), keepdims=True)
        expected = survey.counts(truth["depth"][i]) / SIGMAS
        scaled.append(sums(sky, weights) / expected[:, None])
    assert np.concatenate(scaled, 1).std(1) == pytest.approx(1, rel=0.07)


def moffat_in_pixels(values: np.ndarray, size: int, scale: float) -> np.ndarray:
    """A round Moffat, summed over samples of each pixel."""
    light, x, y, fwhm, beta = values
    fine = 7
    axis = ((np.arange(size * fine) + 0.5) / fine - size / 2) * scale
    a = fwhm / (2 * math.sqrt(2 ** (1 / beta) - 1))
    squared = (axis[None, :] - x) ** 2 + (axis[:, None] - y) ** 2
    profile = (1 + squared / a**2) ** -beta
    return light * profile.reshape(size, fine, size, fine).mean((1, 3))


def test_seeing(name):
    """A Moffat fitted to the pixels of bright stars is as wide as truth and release say."""
    survey = SURVEYS[name]
    scale, published, *_ = PUBLISHED[name]
    images, truth = images_of(only(survey, "star", -27.0), 12)
    reach = min(survey.size // 2, math.ceil(3.5 * max(published) / scale))
    cut = slice(survey.size // 2 - reach, survey.size // 2 + reach)
    for band, width in enumerate(published):
        found = []
        for i in range(3):
            star = images[i, band, cut, cut]
            start = [star.max(), *truth["place"][i], width, 3.0]
            fit = least_squares(
                lambda v, star=star: (moffat_in_pixels(v, 2 * reach, scale) - star).ravel(),
                start, x_scale=np.maximum(np.abs(start), 0.05),
            )  # fmt: skip
            found.append(fit.x[3] / truth["seeing"][i, band])
            assert fit.x[1:3] == pytest.approx(truth["place"][i], abs=0.05 * scale)
        assert found == pytest.approx(np.ones(3), abs=0.04)
        median = float(np.median(truth["seeing"][:, band]))
        assert median == pytest.approx(width, rel=4 * 0.08 * 1.25 / math.sqrt(12))


def test_pixels_are_as_wide_as_published(name):
    """Of two stars 2 arcsec apart."""
    survey, scale = SURVEYS[name], PUBLISHED[name][0]
    assert survey.pixel_scale == scale
    psf, flux = draw_conditions(survey, stream(2)).psf, np.ones(len(survey.bands))
    at = [
        np.unravel_index(
            framed(render([Light((x, 0.02), flux, None)], psf, survey), survey)[0].argmax(),
            (survey.size, survey.size),
        )
        for x in (-1.0, 1.0)
    ]
    assert at[0][0] == at[1][0]
    assert (at[1][1] - at[0][1]) * scale == pytest.approx(2.0, abs=1.01 * scale)


def test_fluxes_keep_the_colours(name):
    """The light of a star over that in another band is by its magnitudes; the sky lies at 0."""
    survey = SURVEYS[name]
    images, truth = images_of(only(survey, "star", -25.0), 4)
    light = images.sum((2, 3))
    expected = survey.counts(truth["object_magnitudes"])
    assert light == pytest.approx(expected, rel=0.08)  # wings outside the frame
    colours = np.diff(survey.magnitudes(light)) - np.diff(truth["object_magnitudes"])
    assert np.abs(colours).max(initial=0) < 0.05
    assert survey.zero_point == 31.4 and survey.form == "flux"  # nJy


def test_the_sky_lies_at_zero_with_its_sd(skies):
    images, truth = skies
    scaled = images / truth["sky_sd"][:, :, None, None]
    assert scaled.std((0, 2, 3)) == pytest.approx(1, abs=0.03)
    assert np.abs(scaled.mean((0, 2, 3))).max() < 6 * 2 / math.sqrt(scaled[:, 0].size)
    grains = images / (truth["sky_sd"][:, :, None, None] / 64)
    assert np.abs(grains - np.rint(grains)).max() < 1e-2  # float32


@pytest.mark.parametrize("bands", ("y", "gi", "irg", "zugr", "grizy", "ugrizy"))
def test_one_to_six_bands_in_any_order(bands):
    survey = dataclasses.replace(SURVEYS["lsst"], bands=tuple(bands))
    for target in (0, 1):
        image, truth = make(target, stream(60), survey)
        assert image.shape == (len(bands), 54, 54) and np.isfinite(image).all()
        assert truth["psf"].shape == (len(bands), 3)
        assert all(np.isfinite(values).all() for values in truth.values())


def test_objects_have_their_colours_in_every_band():
    """Old galaxies are red and sources blue, at every wavelength."""
    survey = dataclasses.replace(SURVEYS["lsst"], bands=tuple("ugrizy"))
    red = [-np.diff(draw_red_galaxy(survey, stream(70, i)).magnitudes) for i in range(100)]
    colours = survey.source.colours
    blue = [-np.diff(blue_magnitudes(survey, 24.0, colours, stream(71, i))) for i in range(100)]
    assert (np.median(red, 0) > np.median(blue, 0)).all()
    assert np.abs(np.median(blue, 0)).max() < 0.6 and np.median(red, 0)[1] > 1.2
    assert np.max(red) < 3.2 and np.min(red) > -0.1


@pytest.mark.parametrize("size", (44, 45, 51))
def test_frames_of_even_and_odd_size(size):
    """The middle of a frame of an odd size is a pixel's, of an even size a corner."""
    survey = dataclasses.replace(SURVEYS["ps1"], size=size)
    flux = np.ones(3)
    psf = draw_conditions(survey, stream(2)).psf
    pixels = framed(render([Light((0.0, 0.0), flux, None)], psf, survey), survey)
    assert pixels.shape == (3, size, size)
    axis = np.arange(size) - (size - 1) / 2
    light = pixels.sum((1, 2))
    for along in ((pixels * axis).sum((1, 2)), (pixels * axis[:, None]).sum((1, 2))):
        assert along / light == pytest.approx(np.zeros(3), abs=1e-3)
    assert pixels[0].max() == pytest.approx(pixels[0, size // 2, size // 2], rel=1e-2)
