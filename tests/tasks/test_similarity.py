"""Structural similarity of images."""

from __future__ import annotations

import pytest
import torch
from skimage.metrics import structural_similarity
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


@pytest.mark.parametrize("size", [11, 40, 75])
def test_that_of_each_is_by_the_stated_range_and_not_by_the_images(size):
    """That of scikit-image with the settings of Wang et al."""
    torch.manual_seed(0)
    images = torch.rand(3, 1, size, size)
    amounts = torch.tensor([0.05, 0.1, 0.3])[:, None, None, None]
    others = images + amounts * torch.randn(3, 1, size, size)
    found = ssim_of_each(images, others, 2.0)
    whole = [ssim_of_each(images[i : i + 1], others[i : i + 1], 2.0) for i in range(3)]
    assert torch.allclose(found, torch.cat(whole), atol=1e-6)
    expected = [
        structural_similarity(
            a[0], b[0], data_range=2.0, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False,
        )
        for a, b in zip(images.double().numpy(), others.double().numpy(), strict=True)
    ]  # fmt: skip
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
    assert found[0] > found[1] > found[2]
    tiny = ssim_of_each(images * 1e-25, others * 1e-25, 2e-25)
    assert torch.allclose(tiny, found, atol=1e-4)
