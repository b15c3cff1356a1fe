"""Power spectra of single images."""

from __future__ import annotations

import numpy as np

from deeplense_batch.core.scoring.images.spectra import power_spectra, wavenumbers


def test_the_power_of_white_noise_is_its_variance_at_every_wavenumber():
    noise = np.random.default_rng(0).normal(0, [[[1.0]], [[3.0]]], (2, 256, 256))
    powers = power_spectra(noise)
    assert powers.shape == (2, 128) and wavenumbers(256, 256)[-1] == 0.5
    assert np.allclose(powers[:, 10:].mean(1), [1, 9], rtol=0.02)


def test_that_of_a_wave_is_at_its_wavenumber_alone():
    """Whether or not it closes at the borders."""
    for cycles in (8, 8.5):
        wave = np.cos(2 * np.pi * cycles / 64 * np.arange(64))[:, None] * np.ones(64)
        (power,) = power_spectra(wave[None])
        assert abs(wavenumbers(64, 64)[power.argmax()] - 8.25 / 64) < 1 / 64
        assert power[20:].max() < 1e-4 * power.max()


def test_a_constant_adds_nothing():
    image = np.random.default_rng(0).normal(0, 1, (1, 20, 30))
    assert np.allclose(power_spectra(image + 7), power_spectra(image))
    assert power_spectra(image).shape == (1, 10)
