"""Split and class of an image are what its folders say."""

import io

import numpy as np
import pytest
from made_sources import fill, listing

from deeplense_batch.data.shards import ShardError


def image(seed=0, shape=(1, 6, 8)):
    return np.random.default_rng(seed).random(shape).astype(np.float32)


COMMON = [f"{s}/{c}/{i}.npy" for s in ("train", "val") for c in ("no", "sphere", "vort")
          for i in (1, 2, 10)]  # fmt: skip


@pytest.mark.parametrize("above", ["", "dataset", "a/dataset"])
def test_split_and_class_folders(tmp_path, above):
    fill(tmp_path / above, *COMMON)
    layout, classes, splits = listing(tmp_path)
    assert (layout, classes) == ("{split}/{class}/", ("no", "sphere", "vort"))
    assert list(splits) == ["train", "val"]
    assert splits["train"] == [
        *(("train/no/1.npy", 0), ("train/no/2.npy", 0), ("train/no/10.npy", 0)),
        *(("train/sphere/1.npy", 1), ("train/sphere/2.npy", 1), ("train/sphere/10.npy", 1)),
        *(("train/vort/1.npy", 2), ("train/vort/2.npy", 2), ("train/vort/10.npy", 2)),
    ]


def test_one_split_alone_keeps_its_name(tmp_path):
    fill(tmp_path / "dataset", "test/no/1.npy", "test/vort/1.npy")
    assert listing(tmp_path)[2] == {"test": [("test/no/1.npy", 0), ("test/vort/1.npy", 1)]}


def test_validation_is_val(tmp_path):
    fill(tmp_path, "Train/no/1.npy", "validation/no/1.npy", "Test/no/1.npy")
    assert listing(tmp_path)[2] == {
        "train": [("Train/no/1.npy", 0)],
        "val": [("validation/no/1.npy", 0)],
        "test": [("Test/no/1.npy", 0)],
    }


def test_classes_with_test_folders_beside_them(tmp_path):
    fill(tmp_path, *(f"{c}/{i}.npy" for c in ("no_sub", "cdm") for i in range(5)),
         "no_sub_test/1.npy", "cdm_test/1.npy")  # fmt: skip
    _, classes, splits = listing(tmp_path)
    assert classes == ("cdm", "no_sub")
    assert {split: len(samples) for split, samples in splits.items()} == {
        "train": 8, "val": 2, "test": 2,
    }  # fmt: skip
    assert splits["test"] == [("cdm_test/1.npy", 0), ("no_sub_test/1.npy", 1)]


@pytest.mark.parametrize("kinds", [("lenses", "nonlenses"), ("lenses",)])
def test_lens_finding_a_lens_is_1(tmp_path, kinds):
    fill(tmp_path, *(f"{s}_{k}/1.npy" for s in ("train", "test") for k in kinds))
    layout, classes, splits = listing(tmp_path)
    assert (layout, classes) == ("{split}_{class}/", ("nonlenses", "lenses"))
    for split in ("train", "test"):
        assert splits[split] == [
            (f"{split}_{kind}/1.npy", int(kind == "lenses")) for kind in kinds
        ]


@pytest.mark.parametrize("folder", ["", "Samples"])
def test_images_side_by_side_have_no_labels(tmp_path, folder):
    fill(tmp_path / folder, "10.npy", "9.npy", "x1.npy")
    (tmp_path / "notes.txt").write_text("about")
    layout, classes, splits = listing(tmp_path)
    assert (layout, classes) == ("images side by side", ())
    assert splits == {"train": [("9.npy", -1), ("10.npy", -1), ("x1.npy", -1)]}


def test_split_folders_without_classes(tmp_path):
    fill(tmp_path, "train/1.npy", "test/1.npy")
    assert listing(tmp_path) == (
        "{split}/",
        (),
        {"train": [("train/1.npy", -1)], "test": [("test/1.npy", -1)]},
    )


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["a/b/1.npy", "c/b/1.npy"], "a/b, c/b;"),
        (["train/no/1.npy", "vort/1.npy"], "train/no, vort;"),
        (["1.npy", "no/1.npy"], r"\., no;"),
        ([f"{i}/x/1.npy" for i in range(9)], "0/x, 1/x, .*5/x and 3 more;"),
        (["train/a/b/1.npy", "val/a/b/1.npy"], "train/a/b, val/a/b;"),
    ],
)
def test_unknown_layouts_are_described(tmp_path, names, found):
    fill(tmp_path, *names)
    with pytest.raises(
        ShardError, match=f"unknown layout, images in the folders {found}"
    ) as caught:
        listing(tmp_path)
    assert "known are {train,val,test}/{class}/" in str(caught.value)
    assert "\n" not in str(caught.value)


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()
