"""Samples without a split are divided, the same way every time."""

import io
from dataclasses import replace

import numpy as np
import pytest
from made_sources import fill, listing

from deeplense_batch.data.listing.listing import (
    Listing,
    Sample,
    about_share,
    about_ungrouped,
    split_four_to_one,
)
from deeplense_batch.data.sources.sources import open_source


def image(seed=0, shape=(1, 6, 8)):
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def test_class_folders_are_split_four_to_one_in_every_class(tmp_path):
    names = [f"{c}/{i}.npy" for c, n in (("cdm", 10), ("axion", 20)) for i in range(n)]
    fill(tmp_path, *names)
    layout, classes, splits = listing(tmp_path)
    assert (layout, classes) == ("{class}/", ("axion", "cdm"))
    assert {s: [t for _, t in x] for s, x in splits.items()} == {
        "train": [0] * 16 + [1] * 8,
        "val": [0] * 4 + [1] * 2,
    }
    assert sorted(id_ for x in splits.values() for id_, _ in x) == sorted(names)
    assert listing(tmp_path)[2] == splits
    assert listing(tmp_path, seed=1)[2] != splits
    with open_source(tmp_path, seed=5) as source:
        assert source.notes == ("no split given: each class split 4:1 into train and val, seed 5",)


def grouped(sizes, targets=None):
    """A listing of groups of these sizes, in the column tile, not split yet."""
    tiles = np.repeat([f"t{i}" for i in range(len(sizes))], sizes).astype(object)
    classes = np.repeat(targets or [0] * len(sizes), sizes).tolist()
    samples = [Sample(f"{i}", (f"{i}.npy",), "", classes[i], None, i) for i in range(len(tiles))]
    return Listing(samples, ("a", "b"), "", columns={"tile": tiles}, group="tile")


@pytest.mark.parametrize(
    ("sizes", "targets", "most", "warns"),
    [
        ((25, 25, 25, 25), None, {25}, False),
        ((60, 10, 10, 10, 10), None, {20}, False),  # goes on past the large group
        ((50, 50), None, {50}, True),
        ((100,), None, {0}, True),
        ((90, 5, 5), None, {10}, False),
        ((4,) * 10, None, {8}, False),
        ((10, 10, 10, 10, 20, 20), [0, 0, 0, 0, 1, 1], {30}, True),  # of each class one
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_groups_give_val_about_a_fifth(sizes, targets, most, warns, seed):
    listing = grouped(sizes, targets)
    groups = listing.groups(listing.samples)
    listing.samples = split_four_to_one(listing.samples, seed, groups)
    val = sum(sample.split == "val" for sample in listing.samples)
    assert val in most
    assert bool(about_share(listing)) is warns
    splits = {(group, s.split) for group, s in zip(groups, listing.samples, strict=True)}
    assert len(splits) == len(sizes)


def test_the_share_that_groups_leave_is_a_warning():
    listing = grouped((50, 50))
    listing.samples = split_four_to_one(listing.samples, 0, listing.groups(listing.samples))
    assert about_share(listing) == [
        "val has 50 of 100 images (50%), not a fifth: the groups by tile stay whole, and of 2 the "
        "largest has 50 images"
    ]
    alone = grouped((1,) * 6)
    alone.samples = [replace(sample, split="train") for sample in alone.samples]
    assert about_share(alone)[0].endswith("and of 6 the largest has 1 image")


@pytest.mark.parametrize("none", ["", np.nan])
def test_images_without_a_group_are_each_their_own_and_counted(none):
    listing = grouped((3, 3, 4))
    tiles = np.array(["a", none, "b", none, "a", "b", none, "c", "c", "c"], object)
    if none != "":
        names = {"a": 1.0, "b": 2.0, "c": 3.0}
        tiles = np.array([names.get(tile, np.nan) for tile in tiles])
    listing.columns = {"tile": tiles}
    groups = listing.groups(listing.samples)
    assert groups.tolist() == [0, 3, 1, 4, 0, 1, 5, 2, 2, 2]
    assert about_ungrouped(listing) == ["3 images have no tile, and each is a group of its own"]


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def axion(shape=(6, 8), mass=1e-23):
    array = np.empty(2, object)
    array[:] = [image(0, shape).astype(np.float64), mass]
    return array
