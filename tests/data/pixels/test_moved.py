"""Images moved by parts of a pixel: what is known of them is moved, and noise stays noise."""

import numpy as np
import pytest
import torch

from deeplense_batch.data.pixels.moved import moved


def blob(rows, columns, *, height=24, width=32, sigma=2.0):
    y, x = np.arange(height)[:, None] - rows, np.arange(width) - columns
    return torch.from_numpy(np.exp(-(y**2 + x**2) / (2 * sigma**2))).float()


def test_each_image_is_moved_by_its_own_shift():
    shifts = torch.tensor([[0.4, -1.3], [2.0, 0.25], [0.0, 0.0]])
    images = blob(11, 15)[None, None].repeat(3, 2, 1, 1)
    made = moved(images, shifts)
    for one, (rows, columns) in zip(made, shifts.tolist(), strict=True):
        for channel in one:
            torch.testing.assert_close(channel, blob(11 + rows, 15 + columns), atol=1e-4, rtol=0)


@pytest.mark.parametrize("shift", [(3, -2), (0, 0), (-1, 5)])
def test_whole_pixels_change_no_value_and_the_mirror_image_comes_in(shift):
    image = torch.rand(1, 1, 9, 12, generator=torch.Generator().manual_seed(0))
    wide = np.pad(image[0, 0].numpy(), 6, mode="symmetric")
    rows, columns = (6 - s for s in shift)
    wanted = torch.from_numpy(wide[rows : rows + 9, columns : columns + 12].copy())
    made = moved(image, torch.tensor([shift], dtype=torch.float32))
    torch.testing.assert_close(made[0, 0], wanted, atol=1e-5, rtol=0)


def test_noise_keeps_its_size():
    noise = torch.randn(8, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    made = moved(noise, torch.full((8, 2), 0.5))
    assert float(made.std() / noise.std()) == pytest.approx(1, abs=0.02)
