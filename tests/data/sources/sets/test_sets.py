"""Sets of images in .npz files: what they hold, and what is refused."""

import io
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from made_sources import listing, zipped
from PIL import Image as Pillow

from deeplense_batch.data.shards import ShardError
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


def save_set(path, n, labels, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"images": image(n, (n, 1, 6, 8))} | ({} if labels is None else {"labels": labels})
    np.savez(path, **arrays, **more)
    return arrays["images"]


def test_npz_sets(tmp_path):
    train = save_set(tmp_path / "train.npz", 4, [0, 2, 1, 0])
    val = save_set(tmp_path / "val.npz", 2, np.array([1.0, 2.0]))
    layout, classes, splits = listing(tmp_path)
    assert (layout, classes) == ("{split}.npz", ("0", "1", "2"))
    assert splits == {
        "train": [(f"train.npz[{i}]", target) for i, target in enumerate([0, 2, 1, 0])],
        "val": [("val.npz[0]", 1), ("val.npz[1]", 2)],
    }
    with open_source(tmp_path) as source:
        assert "name no classes" in source.notes[0] and "no, vort, sphere" in source.notes[0]
        for split, pixels in (("val", val), ("train", train)):
            source.hold(split)
            for sample, expected in zip(source.splits[split], pixels, strict=True):
                assert (source.read(sample).pixels == expected).all()
    assert listing(zipped(tmp_path, tmp_path.parent / "sets.zip", "x/")) == listing(tmp_path)


def test_npz_sets_that_name_their_classes(tmp_path):
    save_set(tmp_path / "train.npz", 3, [0, 1, 0], classes=np.array(["no", "vort", "sphere"]))
    _, classes, splits = listing(tmp_path / "train.npz")
    assert classes == ("no", "vort", "sphere")
    assert [target for _, target in splits["train"]] == [0, 1, 0]
    save_set(tmp_path / "val.npz", 1, [3], classes=np.array(["no", "vort", "sphere"]))
    with pytest.raises(ShardError, match="has label 3, but names only 3 classes"):
        listing(tmp_path)
    save_set(tmp_path / "val.npz", 1, [0])
    with pytest.raises(ShardError, match="name different classes"):
        listing(tmp_path)


def test_npz_sets_without_split_or_without_labels(tmp_path):
    save_set(tmp_path / "all.npz", 10, [0] * 5 + [1] * 5)
    assert {s: len(x) for s, x in listing(tmp_path / "all.npz")[2].items()} == {
        "train": 8, "val": 2,
    }  # fmt: skip
    save_set(tmp_path / "all.npz", 3, None)
    assert listing(tmp_path / "all.npz")[1:] == (
        (),
        {"train": [(f"all.npz[{i}]", -1) for i in range(3)]},
    )


def test_npz_sets_of_which_only_some_name_a_split_or_none_holds_images(tmp_path):
    save_set(tmp_path / "train.npz", 3, [0, 1, 0])
    save_set(tmp_path / "extra.npz", 3, [0, 1, 0])
    with pytest.raises(ShardError, match=r"unknown layout, extra.npz, train.npz; known are"):
        listing(tmp_path)
    np.savez(tmp_path / "none.npz", images=np.empty((0, 6, 8)), labels=[])
    with pytest.raises(ShardError, match=r"unknown layout, none.npz; known are"):
        listing(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": image(0, (3, 6, 8)), "labels": [0, 1]}, r"3 images, but labels of shape \(2"),
        ({"images": image(0, (3, 6, 8)), "labels": [0, 1, 0.5]}, "labels must be class numbers"),
        ({"images": image(0, (3, 6, 8)), "labels": [0, 1, -2]}, "labels must be class numbers"),
        ({"images": image(0, (2, 6, 8)), "labels": [0, 7500]}, "labels must be class numbers"),
        ({"images": image(0, (2, 6, 8)), "labels": ["a", "b"]}, "labels must be class numbers"),
        ({"images": image(0, (6, 8)), "labels": [0] * 6}, r"'images' has shape \(6, 8\)"),
        ({"images": image(0, (1, 6, 8)), "labels": np.array([None])}, "a pickled object"),
    ],
)
def test_npz_sets_that_do_not_fit_together(tmp_path, arrays, message):
    np.savez(tmp_path / "train.npz", **arrays)
    with pytest.raises(ShardError, match=f"train.npz: {message}"):
        listing(tmp_path)


def test_npz_files_that_must_be_sets(tmp_path):
    arrays = {"X": image(0, (9, 6, 8)), "y": np.zeros(9)}
    for name in ("train", "all", "val_extra"):
        np.savez(tmp_path / f"{name}.npz", **arrays)
    for source in (tmp_path, tmp_path / "all.npz"):
        with pytest.raises(
            ShardError, match=r"npz holds the arrays X, y; a set has 'images' .*'labels' \(N,\)"
        ) as caught:
            listing(source)
        assert "skip_bad" not in str(caught.value)
    save_set(tmp_path / "train.npz", 3, [0, 1, 0])
    for name in ("all", "val_extra"):
        (tmp_path / f"{name}.npz").unlink()
    (tmp_path / "val.npz").write_bytes((tmp_path / "train.npz").read_bytes()[:-40])
    for source in (tmp_path, tmp_path / "val.npz"):
        with pytest.raises(ShardError, match=r"val.npz: is a damaged or incomplete .npz"):
            listing(source)


def test_npz_sets_that_are_broken(tmp_path):
    save_set(tmp_path / "train.npz", 3, [0, 1, 0])
    np.save(tmp_path / "1.npy", image())
    with pytest.raises(ShardError, match=r"unknown layout, .npz sets beside other images such as"):
        listing(tmp_path)
    (tmp_path / "1.npy").unlink()
    np.savez(tmp_path / "train.npz", images=image(0, (40, 64, 64)), labels=[0] * 40)
    data = bytearray((tmp_path / "train.npz").read_bytes())
    data[300_000] ^= 1
    (tmp_path / "train.npz").write_bytes(data)
    with open_source(tmp_path) as source, pytest.raises(ShardError, match=r"train.npz: 'images'"):
        source.hold("train")


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
