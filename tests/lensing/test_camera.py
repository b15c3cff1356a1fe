"""What a telescope makes of a sky: pixels, blur, counts and noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from deeplense_batch.lensing.camera import camera_matrix, photon_counts, readout_counts


class TestCamera:
    def test_a_constant_sky_keeps_its_brightness(self):
        matrix = camera_matrix(30, 0.05, 2, 0.086)
        image = matrix @ torch.ones(60, 60, dtype=torch.float64) @ matrix.T
        assert torch.allclose(image, torch.ones_like(image), atol=1e-12)

    @pytest.mark.parametrize("supersampling", (1, 2, 4))
    def test_flux_and_centroid_of_a_point(self, supersampling):
        matrix = camera_matrix(61, 0.05, supersampling, 0.086)
        column = matrix[:, 30 * supersampling + supersampling // 2]
        pixels = torch.arange(61, dtype=torch.float64)
        offset = ((supersampling // 2 + 0.5) / supersampling) - 0.5
        flux = column.sum().item() * supersampling
        assert flux == pytest.approx(1.0, abs=1e-6)
        centroid = (column * pixels).sum().item() / column.sum().item()
        assert centroid == pytest.approx(30 + offset, abs=1e-3)

    def test_is_a_convolution(self):
        sky = torch.rand(1, 1, 120, 120, generator=torch.Generator().manual_seed(0)).double()
        step, sigma = 0.025, 0.037
        # Samples from the left edge of a pixel: its own two, and twenty on either side.
        offsets = (torch.arange(42, dtype=torch.float64) - 20.5) * step
        kernel = torch.special.ndtr((0.025 - offsets) / sigma)
        kernel = kernel - torch.special.ndtr((-0.025 - offsets) / sigma)
        kernel = kernel / kernel.sum()
        expected = functional.conv2d(sky, torch.outer(kernel, kernel)[None, None], stride=2)[0, 0]
        matrix = camera_matrix(60, 0.05, 2, sigma)
        image = (matrix @ sky[0, 0] @ matrix.T)[10:50, 10:50]
        assert (image - expected).abs().max() < 1e-6

    def test_photons(self):
        sky = np.zeros((1000, 1000), np.float32)
        counts = photon_counts(sky, 10.0, np.random.default_rng(0))
        assert counts.mean() == pytest.approx(10.0, abs=4 * math.sqrt(10) / 1000)
        assert counts.var() == pytest.approx(10.0, rel=0.01)

    def test_readout(self):
        """Sky: mean 0, variance 1, and no spike at 0 beyond the grain of the readout."""
        sky = np.zeros((1000, 1000), np.float32)
        settings = {"exposure": 2000.0, "sky_sd": 0.01, "counts_per_sky_sd": 64.0}
        frame = readout_counts(sky, **settings, random=np.random.default_rng(0)) / 64
        assert abs(frame.mean()) < 4 / 1000
        assert frame.var() == pytest.approx(1.0, rel=0.01)
        grain = 1 / 64 / math.sqrt(2 * math.pi)
        assert (frame == 0).mean() == pytest.approx(grain, rel=0.1)

    def test_readout_adds_the_photon_noise_of_the_source(self):
        source = np.full((1000, 1000), 0.2, np.float32)
        settings = {"exposure": 1000.0, "sky_sd": 0.01, "counts_per_sky_sd": 64.0}
        frame = readout_counts(source, **settings, random=np.random.default_rng(0)) * (0.01 / 64)
        assert frame.mean() == pytest.approx(0.2, rel=1e-3)
        assert frame.var() == pytest.approx(0.2 / 1000 + 0.01**2, rel=0.01)
