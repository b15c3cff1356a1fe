"""Samples without a split are divided, the same way every time."""

import io
from itertools import zip_longest
from pathlib import Path

import numpy as np
from astropy.io import fits
from made_sources import listing
from PIL import Image as Pillow

from deeplense_batch.data.sources.sources import open_source


def image(seed=0, shape=(1, 6, 8)):
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def fill(root, *names):
    """Write one image of its own at every name."""
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(root / name, image(i))
    return root


COMMON = [f"{s}/{c}/{i}.npy" for s in ("train", "val") for c in ("no", "sphere", "vort")
          for i in (1, 2, 10)]  # fmt: skip


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


def save_set(path, n, labels, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"images": image(n, (n, 1, 6, 8))} | ({} if labels is None else {"labels": labels})
    np.savez(path, **arrays, **more)
    return arrays["images"]


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def picture(array, kind):
    buffer = io.BytesIO()
    Pillow.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


def cutout(*arrays, names=()):
    buffer = io.BytesIO()
    parts = [fits.ImageHDU(array, name=n) for array, n in zip_longest(arrays, names)]
    fits.HDUList([fits.PrimaryHDU(), *parts]).writeto(buffer)
    return buffer.getvalue()


def axion(shape=(6, 8), mass=1e-23):
    array = np.empty(2, object)
    array[:] = [image(0, shape).astype(np.float64), mass]
    return array


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def spoilt(value, dtype=np.float32):
    array = image().astype(dtype)
    array[0, 2, 3] = value
    return npy(array)
