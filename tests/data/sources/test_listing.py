"""Samples without a split are divided, the same way every time."""

import io

import numpy as np
from made_sources import fill, listing

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


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def axion(shape=(6, 8), mass=1e-23):
    array = np.empty(2, object)
    array[:] = [image(0, shape).astype(np.float64), mass]
    return array
