"""Masked pixels and what they are filled with."""

import numpy as np

from deeplense_batch.data.formats.masks import fill_masked, is_masked


def test_masked_pixels_become_the_median_of_their_channel():
    pixels = np.array([[[1, 2, 4, -99]], [[7, 7, 9, 7]]])
    filled = fill_masked(pixels, is_masked(pixels, -99))
    assert filled.tolist() == [[[1, 2, 4, 2]], [[7, 7, 9, 7]]] and pixels[0, 0, 3] == -99
    assert is_masked(np.float32([[[1e30, np.nan]]]), 1e30).tolist() == [[[True, False]]]
