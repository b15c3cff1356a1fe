"""Squared error, PSNR and SSIM of each image."""

from __future__ import annotations

import pytest
import torch

from deeplense_batch.tasks.restoring.quality import key, quality


def test_psnr_is_that_of_the_stated_range_image_by_image():
    truth = torch.rand(2, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    images = truth + torch.tensor([0.1, 0.01])[:, None, None, None]
    found = quality(images, truth, 1.0)
    assert found["psnr"].tolist() == pytest.approx([20, 40], abs=1e-3)
    assert found["mse"].tolist() == pytest.approx([0.01, 0.0001], rel=1e-3)
    assert quality(images, truth, 10.0)["psnr"].tolist() == pytest.approx([40, 60], abs=1e-3)
    scaled = quality(5 * images, 5 * truth, 5.0)
    assert torch.allclose(scaled["psnr"], found["psnr"], atol=1e-3)
    assert torch.allclose(scaled["ssim"], found["ssim"], atol=1e-5)
    assert torch.allclose(scaled["mse"], 25 * found["mse"], rtol=1e-4)


def test_a_perfect_image_has_a_finite_score():
    truth = torch.rand(1, 1, 16, 16)
    found = quality(truth, truth, 1.0)
    assert found["psnr"].item() == pytest.approx(200) and found["ssim"].item() == pytest.approx(1)


def test_names_say_of_what_and_against_what():
    assert key("psnr") == "psnr"
    assert key("psnr", "", "clean") == "psnr_clean"
    assert key("ssim", "bicubic", "clean") == "ssim_bicubic_clean"
