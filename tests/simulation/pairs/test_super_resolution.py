"""Pairs are of one sky, clean images the mean of noisy ones, and shifts those stored."""

import numpy as np
import pytest

from deeplense_batch.data.shards import open_split
from deeplense_batch.simulation.pairs.poorer import binned_mean, shrunk
from deeplense_batch.simulation.simulate import simulate
from deeplense_batch.simulation.substructure import Substructure, preset_of


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Slice ``train`` of a set of each kind, by preset."""
    made = {}
    for preset in ("varied", "common_test_1", "iii_a", "hsc_hst"):
        root, size = tmp_path_factory.mktemp(preset), 150 if preset == "iii_a" else 128
        simulate("super_resolution", root, preset=preset, images=45, size=size)
        made[preset] = open_split(root, "train")
    return made


def corners(images):
    return np.concatenate([images[..., :10, :10], images[..., -10:, -10:]], -1)


@pytest.mark.parametrize("preset", ["varied", "common_test_1"])
def test_pairs_of_one_telescope_are_of_one_sky_with_two_noises(preset, sets):
    low, high = (split.images() for split in (sets[preset].of("inputs"), sets[preset]))
    assert low.shape == (len(high), 1, 64, 64)
    assert (low.min((1, 2, 3)) == 0).all() and (low.max((1, 2, 3)) == 1).all()
    binned = binned_mean(high, 2)
    noise = [np.std(corners(v), (1, 2, 3)) / v.std((1, 2, 3)) for v in (low, binned)]
    assert np.median(noise[0] / noise[1]) == pytest.approx(1, abs=0.05)
    alike = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(low, binned, strict=True)]
    skies = [
        np.corrcoef(corners(a).ravel(), corners(b).ravel())[0, 1]
        for a, b in zip(low, binned, strict=True)
    ]
    assert np.median(alike) > 0.8 and abs(np.median(skies)) < 0.1


@pytest.mark.parametrize("preset", ["varied", "iii_a", "hsc_hst"])
def test_clean_images_are_the_expectation_of_the_noisy_ones(preset, sets):
    """The difference has no mean, no structure, and the noise of the faint corners there."""
    split = sets[preset]
    clean = split.of("clean").images().astype(np.float64)
    noise = split.images() - clean
    assert abs(noise.mean((1, 2, 3)) / (noise.std((1, 2, 3)) / noise[0].size ** 0.5)).mean() < 1.3
    # A smooth sky beneath: neighbouring pixels of it are alike, those of the noise are not.
    for values, least, most in ((clean, 0.9, 1.0), (noise, -0.05, 0.05)):
        both = [values[..., :-1].ravel(), values[..., 1:].ravel()]
        assert least < np.corrcoef(*both)[0, 1] <= most


def test_iii_a_is_as_its_published_set_is(sets):
    """Images from exactly 0 to 1, of smooth lenses; inputs that overshoot; a noise of 41 dB."""
    split = sets["iii_a"]
    images, inputs = split.images(), split.of("inputs").images()
    assert (split.info.classes, images.shape[1:], inputs.shape[1:]) == (
        ("no",), (1, 150, 150), (1, 75, 75),
    )  # fmt: skip
    assert (images.min((1, 2, 3)) == 0).all() and (images.max((1, 2, 3)) == 1).all()
    assert (inputs == shrunk(images).astype(np.float32)).all()
    assert inputs.min() < 0 and 1 < inputs.max() < 1.1
    noise = ((images - split.of("clean").images()) ** 2).mean((1, 2, 3))
    assert 40.3 < np.median(-10 * np.log10(noise)) < 42.5
    assert not np.isfinite(split.truth("axion_mass_ev")).any()
    smooth = Substructure(preset="common_test_1").make("train", [0], seed=0)
    first = int(np.flatnonzero(split.truth("index") == 0)[0])
    assert (split.stored()[0][first] == smooth.images[0]).all()


def test_the_two_telescopes_see_one_sky_that_is_shifted_by_what_is_stored(sets):
    """Of inputs moved back and images blurred alike, what is left is noise."""
    split = sets["hsc_hst"]
    shifts, low = split.truth("shift"), split.of("inputs").images()[:, 0].astype(np.float64)
    clean = split.of("clean").images()[:, 0].astype(np.float64)
    lengths = np.hypot(*shifts.T)
    assert low.shape[1:] == (64, 64) and lengths.max() <= 1
    assert np.median(lengths) == pytest.approx(0.5**0.5, abs=0.12)  # uniform in a disc
    assert split.info.inputs_pixel_scale == pytest.approx(0.168)
    found, widths = [], []
    for one, sky in zip(low, binned_mean(clean, 2), strict=True):
        spectra = [np.fft.fft2(v - np.median(v)) for v in (one, sky)]
        cross = np.conj(spectra[1]) * spectra[0]
        k = np.arange(1, 6)  # waves that the blur leaves, each with its own phase
        own = [(-np.angle(v) * 64 / (2 * np.pi * k), abs(v)) for v in (cross[k, 0], cross[0, k])]
        found.append([np.average(shift, weights=k * weight) for shift, weight in own])
        widths.append(abs(spectra[0][0, 5]) / abs(spectra[1][0, 5]))
    assert np.median(np.abs(np.array(found) - shifts)) < 0.1
    assert np.corrcoef(np.ravel(found), shifts.ravel())[0, 1] > 0.95
    assert np.median(widths) < 1  # the inputs are blurred


def test_pairs_are_known_to_be_simulated_from_the_preset_of_their_images(sets):
    preset = preset_of(sets["hsc_hst"].info.files[0].parent)
    assert (preset.name, preset.pixel_scale) == ("varied", 0.084)
