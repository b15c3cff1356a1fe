"""Blur by a Moffat and pixels in the Fourier plane, against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from astropy.io import fits
from made_arrays import numbers
from made_survey import SIZE, blur

from deeplense_batch.data.shards import ShardError
from deeplense_batch.lensing.camera import fine_grid
from deeplense_batch.lensing.galaxies import clump
from deeplense_batch.simulation.survey.lens_finding import LensFinding
from deeplense_batch.simulation.survey.presets import HSC
from deeplense_batch.simulation.survey.psf import (
    binned,
    digest_of_psfs,
    measured_psfs,
    moffat,
    pixels_of,
    point_spectrum,
    shape_of_kernel,
    sky_spectrum,
    spectrum_of_kernel,
)


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

    @pytest.mark.parametrize("size", (88, 87))
    def test_a_sky_of_even_and_odd_size(self, size):
        """A Gaussian keeps its light and its place, but for 2e-5 in what pixels do not hold."""
        x, y = fine_grid(size, 0.2, 3)
        sky = clump(x, y, centre=(0.31, -0.47), sigma=0.25)
        pixels = pixels_of(sky_spectrum(sky, 3, 0.2))[0]
        x, y = fine_grid(size, 0.2, 1)
        assert float(pixels.sum()) == pytest.approx(1, abs=1e-9)
        assert float((pixels * x[0]).sum()) == pytest.approx(0.31, abs=1e-4)
        assert float((pixels * y[0]).sum()) == pytest.approx(-0.47, abs=1e-4)

    def test_pixels_are_summed_in_squares(self):
        fine = torch.arange(36.0).view(1, 6, 6)
        assert binned(fine, 3)[0].tolist() == [[63.0, 90.0], [225.0, 252.0]]
        assert binned(fine, 1) is fine


def kernels(bands: int, side: int = 25) -> np.ndarray:
    """Gaussians of sd 2 pixels, twice as long as wide, a little wider in every further band."""
    axis = np.arange(side) - side // 2
    width = 2 + 0.2 * np.arange(bands)[:, None, None]
    return np.exp(-(axis**2 / 4 + axis[:, None] ** 2) / 2 / (width / math.sqrt(2)) ** 2) * 3


class TestMeasured:
    def test_a_file_of_one_kernel_is_for_all_bands(self, tmp_path):
        fits.PrimaryHDU(kernels(1)[0]).writeto(tmp_path / "psf.fits")
        (found,) = measured_psfs(str(tmp_path / "psf.fits"), 3)
        assert found.shape == (3, 25, 25) and (found[0] == found[2]).all()
        assert found.sum((1, 2)) == pytest.approx(np.ones(3))

    def test_a_folder_holds_many(self, tmp_path):
        for name, wider in (("b", 1.0), ("a", 2.0)):
            fits.PrimaryHDU(kernels(2) ** wider).writeto(tmp_path / f"{name}.fits")
        first, second = measured_psfs(str(tmp_path), 2)
        assert first.max() > second.max()  # in the order of their names
        assert digest_of_psfs(str(tmp_path), 2) != digest_of_psfs(str(tmp_path / "a.fits"), 2)

    @pytest.mark.parametrize(
        ("data", "says"),
        [
            (np.ones((24, 24)), "24 x 24; expected K x K, or 3 x K x K for 3 bands, with an odd"),
            (np.ones((2, 5, 5)), "2 x 5 x 5; expected K x K, or 3 x K x K"),
            (np.ones(5), "no image of two or three axes"),
            (np.full((5, 5), np.nan), "its light should be finite, and above 0 in total"),
            (np.zeros((5, 5)), "its light should be finite, and above 0 in total"),
        ],
    )
    def test_what_is_no_kernel_is_refused(self, data, says, tmp_path):
        fits.PrimaryHDU(data).writeto(tmp_path / "psf.fits")
        with pytest.raises(ShardError, match=says):
            measured_psfs(str(tmp_path), 3)

    def test_a_file_that_is_none_is_refused(self, tmp_path):
        (tmp_path / "psf.fits").write_text("no fits at all")
        with pytest.raises(ShardError, match=r"camera\.psf: .*psf\.fits: "):
            measured_psfs(str(tmp_path), 3)

    def test_the_shape_of_a_gaussian(self):
        fwhm, q, phi = shape_of_kernel(kernels(2), 0.2)
        expected = 2 * math.sqrt(2 * math.log(2)) * np.array([2.0, 2.2]) * 0.2
        assert fwhm == pytest.approx(expected, rel=0.01)
        assert q == pytest.approx([0.5, 0.5], abs=0.01) and np.abs(phi).max() < 0.01

    @pytest.mark.parametrize("size", (64, 63))
    def test_a_point_in_the_middle_of_a_pixel_is_the_kernel(self, size):
        kernel = kernels(2) / kernels(2).sum((1, 2), keepdims=True)
        at = 0.0 if size % 2 else 0.1
        point = point_spectrum(at, at, size, 0.2)
        pixels = pixels_of(point * spectrum_of_kernel(kernel, size)).numpy()
        middle = size // 2
        cut = slice(middle - 12, middle + 13)
        assert pixels[:, cut, cut] == pytest.approx(kernel, abs=1e-6 * kernel.max())

    def test_images_have_the_measured_kernel(self, tmp_path):
        """A star in the middle of a pixel, out of the whole simulation."""
        for i in range(3):
            fits.PrimaryHDU(kernels(3) ** (1 + i)).writeto(tmp_path / f"{i}.fits")
        set_ = {
            "camera.psf": str(tmp_path), "camera.jitter": 0, "field.density": 0, "size": 63,
            "galaxy.m_i": -30, "form": "flux", "fractions": dict.fromkeys(HSC.fractions, 0) | {
                "star": 1},
        }  # fmt: skip
        generator = LensFinding(set_=set_)
        assert len(generator.described()["laws"]["laws"]["camera"]["psf"]) == 16
        batch = generator.make("train", range(0, 16, 2), seed=3)
        numbers_ = batch.truth["psf_kernel"].astype(int)
        assert set(numbers_) == {0, 1, 2} and (batch.truth["psf"][..., 0] == 0).all()
        kept = measured_psfs(str(tmp_path), 3)
        for image, number in zip(batch.images, numbers_, strict=True):
            star = image[:, 31 - 12 : 31 + 13, 31 - 12 : 31 + 13]
            assert star / star.sum((1, 2), keepdims=True) == pytest.approx(
                kept[number], abs=0.01 * kept[number].max()
            )
