"""Images shrunk by a cubic kernel, and skies behind another telescope."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from deeplense_batch.simulation.pairs.poorer import behind_telescope, binned_mean, shrunk


def gaussian(size, sigma, middle=(0.0, 0.0)):
    """A Gaussian of sum 1 around the middle of a frame, pixels."""
    rows, columns = ((np.arange(size) - (size - 1) / 2 - m)[:, None] for m in middle)
    return np.exp(-(rows**2 + columns.T**2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)


def test_shrunk_is_the_cubic_interpolation_of_torch():
    images = np.random.default_rng(0).random((3, 10, 16))
    wanted = F.interpolate(
        torch.from_numpy(images)[:, None], scale_factor=0.5, mode="bicubic", antialias=False
    )
    np.testing.assert_allclose(shrunk(images), wanted[:, 0].numpy(), atol=1e-12)


def test_a_star_behind_a_telescope_is_wider_and_where_it_was_shifted_to():
    """Widths add in squares; flux is kept, and its middle moves by the shift."""
    image = gaussian(64, 2.0)
    made = behind_telescope(image, sigma=3.0, shift=np.array([1.4, -0.6]), ratio=2)
    assert made.shape == (32, 32)
    assert made.sum() * 4 == pytest.approx(1, abs=1e-5)
    places = np.arange(32) - 15.5
    middle = [(made.sum(1 - axis) * places).sum() / made.sum() for axis in (0, 1)]
    assert middle == pytest.approx([0.7, -0.3], abs=1e-4)
    width = (made.sum(1) * (places - middle[0]) ** 2).sum() / made.sum()
    # Of the sampled Gaussians, and of pixels of two, in pixels of two.
    assert width * 4 == pytest.approx(4 + 9 + (4 - 1) / 12, rel=1e-3)


def test_a_constant_sky_keeps_its_brightness():
    assert behind_telescope(np.full((16, 16), 3.0), sigma=2.0, shift=np.ones(2), ratio=2) == (
        pytest.approx(3.0, abs=1e-5)
    )
    assert binned_mean(np.arange(16.0).reshape(1, 4, 4), 2).tolist() == [
        [[2.5, 4.5], [10.5, 12.5]]
    ]
