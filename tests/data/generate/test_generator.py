"""The contract of what makes images: enough of each class, and each a function of its index."""

from __future__ import annotations

import numpy as np
import pytest
from made_generator import Numbers

from deeplense_batch.data.generate import check_images
from deeplense_batch.data.shards import ShardError
from deeplense_batch.simulation.simulate import KINDS, generator_class


@pytest.mark.parametrize(("splits", "images"), [(1, 1), (2, 3), (3, 5)])
def test_there_is_an_image_of_each_class_in_each_split(splits, images):
    least = 2 * splits
    with pytest.raises(ShardError, match=f"whole number from {least}, one .*; got {images}$"):
        check_images(Numbers(), splits, images)
    check_images(Numbers(), splits, least)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_simulation_keeps_the_contract(kind):
    """Its images are alike from alone and together, and of the form that it says."""
    maker = generator_class(kind)()
    counts = maker.counts(20)
    assert sum(sum(of_class.values()) for of_class in counts.values()) == 20
    assert {len(of_class) for of_class in counts.values()} == {max(len(maker.classes), 1)}
    together = maker.make("train", [3, 0, 4], seed=1)
    assert together.images.shape == (3, *maker.shape)
    assert together.images.dtype == maker.stored
    assert (together.scale is not None) == (maker.stored == np.uint16)
    alone = maker.make("train", [4], seed=1)
    assert (alone.images[0] == together.images[2]).all()
    for name, values in together.truth.items():
        assert np.array_equal(values[2], alone.truth[name][0], equal_nan=True), name
    others = [maker.make(split, [4], seed=1) for split in counts if split != "train"]
    for other in (*others, maker.make("train", [4], seed=2)):
        assert (other.images != alone.images).any()
