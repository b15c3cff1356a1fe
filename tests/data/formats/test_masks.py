"""Masked pixels and what they are filled with."""

import numpy as np
import pytest
import torch

from deeplense_batch.data.augment import central_crop
from deeplense_batch.data.formats.masks import crop, fill_masked, fill_unknown, is_masked, pad
from deeplense_batch.data.formats.untrusted import ImageError


def test_masked_pixels_become_the_median_of_their_channel():
    pixels = np.array([[[1, 2, 4, -99]], [[7, 7, 9, 7]]])
    filled = fill_masked(pixels, is_masked(pixels, -99))
    assert filled.tolist() == [[[1, 2, 4, 2]], [[7, 7, 9, 7]]] and pixels[0, 0, 3] == -99
    assert is_masked(np.float32([[[1e30, np.nan]]]), 1e30).tolist() == [[[True, False]]]


def test_unknown_pixels_are_filled_up_to_a_share_of_a_channel():
    pixels = np.arange(32.0).reshape(2, 4, 4)
    pixels[0, 0], pixels[0, 1, 0] = np.nan, np.inf
    filled, count = fill_unknown(pixels, 0.4)
    assert count == 5 and (filled[0, 0] == np.median(np.arange(5, 16))).all()
    assert (filled[1] == pixels[1]).all()
    with pytest.raises(
        ImageError, match=r"31\.25% of channel 0 are NaN or infinite; --fill_nan 0.3"
    ):
        fill_unknown(pixels, 0.3)
    pixels[1] = np.nan
    with pytest.raises(ImageError, match=r"100\.00% of channel 1"):
        fill_unknown(pixels, 1)


@pytest.mark.parametrize(("height", "width", "size"), [(7, 8, 4), (9, 4, 6), (5, 5, 5), (3, 9, 4)])
def test_images_are_cropped_as_batches_are(height, width, size):
    pixels = np.random.default_rng(0).random((2, height, width))
    expected = (
        central_crop(torch.from_numpy(pixels), size).numpy()
        if min(height, width) >= size
        else pixels[:, max(height - size, 0) // 2 :][:, :size, max(width - size, 0) // 2 :][
            ..., :size
        ]
    )
    assert (crop(pixels, size) == expected).all()


@pytest.mark.parametrize(("height", "width", "size"), [(4, 4, 7), (3, 4, 8), (5, 9, 6)])
def test_padding_is_undone_by_cropping(height, width, size):
    pixels = np.random.default_rng(0).random((2, height, width))
    padded = pad(pixels, size)
    assert padded.shape == (2, max(height, size), max(width, size))
    for channel, own in zip(padded, pixels, strict=True):
        first = (max(height, size) - height) // 2
        columns = (max(width, size) - width) // 2
        assert (channel[first : first + height, columns : columns + width] == own).all()
        assert np.count_nonzero(channel == np.median(own)) >= channel.size - own.size
