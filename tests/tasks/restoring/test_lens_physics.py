"""What of the lens an image keeps."""

from __future__ import annotations

import numpy as np
import pytest
from made_arrays import rings
from scipy.ndimage import gaussian_filter

from deeplense_batch.tasks.restoring.lens_physics import PEAK_SD, measure, summary

NOISE = 0.01


@pytest.fixture(scope="module")
def truth():
    return rings(20, 3)[0]


def scores_of(images, truth, noise=NOISE, width=1.0):
    return summary(measure({"restored": images}, truth, noise), "restored", noise, width)


def test_the_truth_itself_keeps_all(truth):
    found = scores_of(truth, truth)
    assert found == pytest.approx(
        {"ring_error": 0, "flux_error": 0, "power_error": 0, "invented": 0, "lost": 0}, abs=1e-6
    )


def test_each_fault_is_seen_by_its_score(truth):
    brighter = scores_of(1.2 * truth, truth)
    assert brighter["flux_error"] == pytest.approx(0.2, abs=1e-5)
    assert brighter["power_error"] == pytest.approx(np.log10(1.44), abs=1e-4)
    blurred = scores_of(gaussian_filter(truth, (0, 0, 2, 2)).astype(np.float32), truth)
    assert blurred["power_error"] > 0.2 and blurred["flux_error"] < 0.05
    larger = np.stack([np.roll(image, 1, axis) for axis in (1, 2) for image in truth[:10]])
    assert scores_of(larger, truth)["ring_error"] >= 0
    spots = truth.copy()
    spots[:5, :, 2, 2] += 100 * PEAK_SD * NOISE
    assert scores_of(spots, truth)["invented"] == pytest.approx(5 / 20)
    assert scores_of(truth, spots)["lost"] == pytest.approx(5 / 20)


def test_radii_are_in_the_unit_of_the_width():
    y, x = np.mgrid[:64, :64] - 31.5
    r = np.hypot(x, y)
    one, other = (np.exp(-((r - radius) ** 2) / 6)[None, None] for radius in (14.0, 16.0))
    found = scores_of(one.astype(np.float32), other.astype(np.float32), width=0.05)
    assert found["ring_error"] == pytest.approx(0.1, abs=0.02)


def test_without_noise_no_peaks_are_counted_and_without_a_measurement_nothing(truth):
    assert {"invented", "lost"}.isdisjoint(scores_of(truth, truth, noise=0.0))
    assert summary({"psnr": np.ones(3)}, "restored", 0.1, 1.0) == {}


def test_images_without_a_ring_have_no_radius():
    flat = np.random.default_rng(0).normal(1, 1e-9, (3, 1, 32, 32)).astype(np.float32)
    y, x = np.mgrid[:32, :32] - 15.5
    falls = np.exp(-np.hypot(x, y) / 4)[None, None].astype(np.float32)
    assert scores_of(falls, falls)["ring_error"] is None
    assert scores_of(flat, flat)["flux_error"] == pytest.approx(0)


def test_power_is_compared_where_the_truth_is_above_the_noise():
    random = np.random.default_rng(0)
    smooth = gaussian_filter(random.normal(0, 1, (20, 1, 64, 64)), (0, 0, 2, 2), mode="wrap")
    truth = smooth.astype(np.float32)
    noisy = truth + random.normal(0, 0.05, truth.shape).astype(np.float32)
    assert scores_of(noisy, truth, noise=0.05)["power_error"] < 0.15
    assert scores_of(noisy, truth, noise=1e-6)["power_error"] > 1
    assert scores_of(noisy, truth, noise=100.0)["power_error"] is None
