"""What a set of images is like, in numbers that need no network."""

from __future__ import annotations

import numpy as np
import pytest
from made_arrays import rings
from scipy.ndimage import gaussian_filter

from deeplense_batch.inference.generation import image_statistics


class TestStatistics:
    def test_the_power_of_white_noise_is_flat_and_that_of_a_wave_is_at_its_wavenumber(self):
        noise = np.random.default_rng(0).normal(0, 2, (200, 32, 32)).astype(np.float32)
        wavenumbers, power = image_statistics.power_spectrum(noise)
        assert np.allclose(power, 4, rtol=0.1) and wavenumbers[-1] == 0.5
        wave = np.cos(2 * np.pi * 5 / 32 * np.arange(32))[None, :, None] * np.ones((1, 1, 32))
        _, power = image_statistics.power_spectrum(wave.astype(np.float32))
        assert power.argmax() + 1 == 5

    def test_peaks_above_the_sky_are_counted(self):
        random = np.random.default_rng(0)
        images = random.normal(1.0, 0.1, (4, 1, 40, 40)).astype(np.float32)
        level, noise = image_statistics.sky_of(images)
        assert level == pytest.approx(1, abs=0.02) and noise == pytest.approx(0.1, rel=0.1)
        for number in range(4):
            for place in range(number):
                images[number, 0, 8 + 8 * place, 20] += 2
        assert image_statistics.peak_counts(images[:, 0], (level, noise)).tolist() == [0, 1, 2, 3]

    def test_every_distance_is_nothing_to_itself_and_sees_its_fault(self):
        images, others = rings(60, 3)[0], rings(60, 4)[0]
        sky = image_statistics.sky_of(images)
        measure = lambda some: image_statistics.measure(some, sky)  # noqa: E731
        of = measure(images)
        assert set(image_statistics.distances(of, of, 0.05).values()) == {0.0}
        real = image_statistics.distances(measure(others), of, 0.05)
        blurred = [
            image_statistics.distances(measure(gaussian_filter(others, (0, 0, s, s))), of, 0.05)
            for s in (0.5, 1.0, 2.0)
        ]
        spectra = [found["power_spectrum"] for found in (real, *blurred)]
        assert spectra == sorted(spectra) and spectra[1] > 3 * spectra[0]
        assert blurred[2]["peaks"] > 3 * real["peaks"]
        bright = image_statistics.distances(measure(1.5 * others), of, np.nan)
        assert bright["flux"] > 3 * real["flux"] and bright["pixels"] > 3 * real["pixels"]
        small = np.pad(others[..., ::2, ::2], ((0, 0), (0, 0), (6, 6), (6, 6)))
        assert image_statistics.distances(measure(small), of, 0.1)["einstein_radius"] > 0.3
