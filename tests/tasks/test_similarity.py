"""Structural similarity of images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torchmetrics.functional.image import structural_similarity_index_measure

from deeplense_batch.tasks.similarity import ssim, ssim_of_each


def test_similarity_is_that_of_the_library_and_one_of_itself():
    a, b = torch.rand(2, 3, 1, 40, 40)
    expected = structural_similarity_index_measure(
        a, b, kernel_size=11, sigma=1.5, data_range=float(b.max() - b.min())
    )
    assert float(ssim(a, b)) == pytest.approx(float(expected), abs=1e-5)
    assert float(ssim(a, a)) == pytest.approx(1, abs=1e-6)


def test_it_falls_with_noise_and_does_not_depend_on_the_unit():
    torch.manual_seed(0)
    image, noise = torch.rand(2, 1, 1, 40, 40)
    found = [float(ssim(image + amount * noise, image)) for amount in (0.0, 0.1, 0.3, 1.0)]
    assert found == sorted(found, reverse=True) and found[-1] < 0.9 * found[0]
    scaled = float(ssim(100 * (image + 0.3 * noise), 100 * image))
    assert scaled == pytest.approx(found[2], abs=1e-4)


def test_images_without_any_contrast_are_no_error():
    flat = torch.full((1, 1, 16, 16), 3.0)
    assert float(ssim(flat, flat)) == pytest.approx(1)


def test_that_of_each_is_by_the_stated_range_and_not_by_the_images():
    """Formula 13 of Wang et al. by NumPy."""
    torch.manual_seed(0)
    images = torch.rand(3, 1, 40, 40)
    others = images + torch.tensor([0.05, 0.1, 0.3])[:, None, None, None] * torch.randn(
        3, 1, 40, 40
    )
    found = ssim_of_each(images, others, 2.0)
    whole = [ssim_of_each(images[i : i + 1], others[i : i + 1], 2.0) for i in range(3)]
    assert torch.allclose(found, torch.cat(whole), atol=1e-6)
    pairs = zip(images.numpy(), others.numpy(), strict=True)
    expected = [_by_formula(a[0], b[0], 2.0) for a, b in pairs]
    assert found.tolist() == pytest.approx(expected, abs=2e-3)
    assert found[0] > found[1] > found[2]
    tiny = ssim_of_each(images * 1e-25, others * 1e-25, 2e-25)
    assert torch.allclose(tiny, found, atol=1e-4)


def _by_formula(a: np.ndarray, b: np.ndarray, data_range: float) -> float:
    def mean(values):
        return gaussian_filter(values, 1.5, truncate=3.5, mode="mirror")

    a, b = a.astype(np.float64), b.astype(np.float64)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    of_a, of_b = mean(a), mean(b)
    covariance = mean(a * b) - of_a * of_b
    spread = mean(a * a) - of_a**2 + mean(b * b) - of_b**2
    above = (2 * of_a * of_b + c1) * (2 * covariance + c2)
    return float((above / ((of_a**2 + of_b**2 + c1) * (spread + c2))).mean())
