"""Peaks that one image has and another lacks."""

from __future__ import annotations

import numpy as np

from deeplense_batch.core.scoring.images.peaks import peaks_without_partner


def test_a_peak_that_the_other_has_near_by_is_none_and_one_that_it_lacks_is():
    image, other = np.zeros((2, 1, 20, 20))
    image[0, 4, 4] = image[0, 10, 10] = image[0, 15, 4] = 1.0
    other[0, 4, 6] = 1.0  # two pixels off
    other[0, 10, 13] = 1.0  # three: too far
    other[0, 15, 4] = 0.6  # fainter by 0.4
    assert peaks_without_partner(image, other, 0.5).tolist() == [1]
    assert peaks_without_partner(image, other, 0.3).tolist() == [2]
    assert peaks_without_partner(image, image, 0.0).tolist() == [0]


def test_images_are_counted_each_by_itself():
    images = np.zeros((3, 16, 16))
    for number in range(3):
        for place in range(number):
            images[number, 8, 3 + 8 * place] = 2.0
    assert peaks_without_partner(images, np.zeros_like(images), 1.0).tolist() == [0, 1, 2]
