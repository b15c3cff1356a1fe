"""Blur by a Moffat and pixels in the Fourier plane, against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from made_arrays import numbers
from made_survey import SIZE, blur

from deeplense_batch.lensing.camera import fine_grid
from deeplense_batch.lensing.galaxies import clump
from deeplense_batch.simulation.survey.presets import HSC
from deeplense_batch.simulation.survey.psf import moffat, pixels_of, point_spectrum, sky_spectrum


class TestMoffat:
    @pytest.mark.parametrize("beta", (2.5, 3.0, 4.8))
    def test_light_within_an_ellipse(self, beta):
        fwhm, q, phi = 0.7, 0.9, 0.6
        x, y = fine_grid(400, 0.02, 1)
        light = moffat(x, y, *numbers(fwhm, beta, q, phi)) * 0.02**2
        a = fwhm / (2 * math.sqrt(2 ** (1 / beta) - 1))
        u, v = math.cos(phi) * x + math.sin(phi) * y, math.cos(phi) * y - math.sin(phi) * x
        squared = q * u * u + v * v / q
        for radius in (0.3, 1.0, 3.0):
            expected = 1 - (1 + radius**2 / a**2) ** (1 - beta)
            assert float(light[squared < radius**2].sum()) == pytest.approx(expected, rel=2e-3)

    def test_half_of_its_peak_at_half_the_width(self):
        width, beta, one, zero = numbers(0.7, 3.3, 1.0, 0.0)
        ratio = moffat(width / 2, zero, width, beta, one, zero) / moffat(
            zero, zero, width, beta, one, zero
        )
        assert float(ratio) == pytest.approx(0.5, abs=1e-12)

    @pytest.mark.parametrize("centre", [(0.0, 0.0), (0.31, -0.47), (-2.001, 3.3)])
    def test_flux_and_centroid_of_a_point(self, centre):
        pixels = pixels_of(point_spectrum(*centre, SIZE, HSC.pixel_scale) * blur())[0].double()
        x, y = fine_grid(SIZE, HSC.pixel_scale, 1)
        assert float(pixels.sum()) == pytest.approx(1, abs=1e-5)
        # Light of the wings beyond one edge of the torus comes in at the other.
        near = torch.hypot(x[0] - centre[0], y[0] - centre[1]) < 2.0
        total = (pixels * near).sum()
        for axis, expected in zip((x[0], y[0]), centre, strict=True):
            centre = float(((axis - expected) * pixels * near).sum() / total)
            assert abs(centre) < 0.02 * HSC.pixel_scale

    @pytest.mark.parametrize(("fwhm", "tolerance"), [(0.6, 1e-3), (0.48, 2e-3), (0.4, 7e-3)])
    def test_a_point_is_the_profile_integrated_over_pixels(self, fwhm, tolerance):
        x, y = fine_grid(SIZE, HSC.pixel_scale, 9)
        fine = moffat(x - 0.31, y + 0.47, *numbers(fwhm, 3.5, 0.96, 1.0))[0]
        expected = fine.view(SIZE, 9, SIZE, 9).mean((1, 3)) * HSC.pixel_scale**2
        pixels = pixels_of(point_spectrum(0.31, -0.47, SIZE, HSC.pixel_scale) * blur(fwhm))[0]
        error = float((pixels - expected).abs().max() / expected.max())
        assert error < tolerance  # 3e-4, 1.4e-3, 5e-3

    def test_three_samples_a_pixel_are_enough(self):
        def seen(supersampling: int) -> torch.Tensor:
            x, y = (v.float() for v in fine_grid(SIZE, HSC.pixel_scale, supersampling))
            sky = clump(x, y, centre=(0.31, -0.47), sigma=0.04)
            return pixels_of(sky_spectrum(sky, supersampling, HSC.pixel_scale) * blur())[0]

        fine = seen(9)
        assert float((seen(3) - fine).abs().max() / fine.max()) < 1e-3  # 2e-4
        assert float(fine.sum()) == pytest.approx(1, abs=1e-5)
