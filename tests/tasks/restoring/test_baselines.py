"""Interpolation, and bicubic fitted to pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deeplense_batch.tasks.restoring.baselines import Fitted, enlarged


def test_interpolation_keeps_the_middle_of_the_image():
    y, x = torch.meshgrid(*[torch.arange(8.0) - 3.5] * 2, indexing="ij")
    plane = (2 * x + y)[None, None]
    finer_y, finer_x = torch.meshgrid(*[(torch.arange(16.0) - 7.5) / 2] * 2, indexing="ij")
    for how, error in {"bilinear": 1e-5, "keys": 1e-5, "bicubic": 0.2}.items():
        inside = enlarged(plane, 2, how)[0, 0, 4:-4, 4:-4]
        assert torch.allclose(inside, (2 * finer_x + finer_y)[4:-4, 4:-4], atol=error)
    blocks = plane.repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert torch.equal(enlarged(plane, 2, "nearest"), blocks)
    assert enlarged(plane, 1, "bicubic") is plane


def test_the_fit_is_that_of_least_squares_over_all_pairs_of_a_channel():
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(12, 2, 6, 6, generator=random)
    images = torch.randn(12, 2, 12, 12, generator=random) + 0.5 * enlarged(inputs, 2)
    images[:, 1] += 3
    fitted = Fitted(2)
    for part in (slice(0, 5), slice(5, 12)):
        fitted.add(inputs[part], images[part], 2)
    fitted.solve()
    for channel in range(2):
        x = enlarged(inputs, 2)[:, channel].numpy().ravel()
        y = images[:, channel].numpy().ravel()
        slope, offset = np.polyfit(x.astype(np.float64), y.astype(np.float64), 1)
        assert fitted.gain[channel] == pytest.approx(slope, rel=1e-4)
        assert fitted.offset[channel] == pytest.approx(offset, rel=1e-4, abs=1e-6)
    gain, offset = (torch.tensor(v)[:, None, None] for v in (fitted.gain, fitted.offset))
    assert torch.allclose(fitted(inputs, 2), enlarged(inputs, 2) * gain + offset)
    again = Fitted.of(fitted.stored())
    assert torch.equal(again(inputs, 2), fitted(inputs, 2))


def test_inputs_without_contrast_give_the_mean_of_the_images():
    fitted = Fitted(1)
    images = torch.arange(32.0).reshape(2, 1, 4, 4)
    fitted.add(torch.ones(2, 1, 2, 2), images, 2)
    fitted.solve()
    assert fitted.gain == [0.0] and fitted.offset == [pytest.approx(15.5)]
