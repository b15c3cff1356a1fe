"""Labels and class names of a set in an .npz: class numbers, and names of their own."""

from __future__ import annotations

import numpy as np
import pytest
from made_sources import a_set

from deeplense_batch.data.formats.untrusted import ImageError
from deeplense_batch.data.packing.pack import pack
from deeplense_batch.data.shards import ShardError, open_split
from deeplense_batch.data.sources.sets.labels import check_labels, class_names, classes_of_sets


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        (np.arange(10) / 2, r"got 0\.5 \(float64\)"),
        (np.array(["lens", "other"] * 5), r"got lens \(<U5\)"),
        (np.arange(10) == 1, r"got False \(bool\)"),
        (np.where(np.arange(10) == 7, np.nan, 1), "got nan"),
        (np.arange(10) * 1000, "got 1000"),
    ],
)
def test_labels_that_are_no_class_numbers_are_shown(tmp_path, labels, shown):
    with pytest.raises(ShardError, match=f"^{tmp_path}/set.npz: labels must be .* {shown}"):
        pack(a_set(tmp_path / "set.npz", labels=labels), tmp_path / "out")


@pytest.mark.parametrize(
    "classes", [["a", "a"], ["a", "A"], ["a", ""], ["a", "b\n"], ["a", "b\nc"]]
)
def test_classes_of_a_set_have_names_of_their_own(tmp_path, classes):
    path = a_set(tmp_path / "set.npz", classes=np.array(classes))
    if classes == ["a", "b\n"]:  # NumPy keeps what a file of text ends its lines with
        assert pack(path, tmp_path / "out").classes == ("a", "b")
        return
    with pytest.raises(ShardError, match="'classes'"):
        pack(path, tmp_path / "out")


def test_classes_in_bytes_are_text(tmp_path):
    path = a_set(tmp_path / "set.npz", classes=np.array([b"no", b"vort"]))
    assert pack(path, tmp_path / "out").classes == ("no", "vort")


def test_numbers_of_classes_are_labels_whatever_their_type():
    for dtype in (np.uint8, np.int64, np.float32, np.float64):
        check_labels(np.array([0, 2, 999, 1][: 2 if dtype is np.uint8 else 4], dtype))
    check_labels(np.array([-1, 0]))
    check_labels(np.array([], np.int64))


@pytest.mark.parametrize(
    ("labels", "got"),
    [
        (np.array([0, 1000]), r"1000 \(int64\)"),
        (np.array([0.0, 0.5, 1.5]), r"0.5 \(float64\)"),
        (np.array([1, -2]), r"-2 \(int64\)"),
        (np.array([1, np.nan]), r"nan \(float64\)"),
        (np.array(["a"]), r"a \(<U1\)"),
    ],
)
def test_the_first_label_that_is_no_class_number_is_shown(labels, got):
    with pytest.raises(ImageError, match=f"from 0 to 999, or -1 for none; got {got}; np.unique"):
        check_labels(labels)


def test_names_of_classes_are_text_without_spaces_around():
    assert class_names(np.array([b"no", b"l\xc3\xa9ns "])) == ("no", "léns")
    assert class_names(np.array([["a"], ["b"]])) == ("a", "b")
    assert class_names(np.array([], str)) == ()


def test_sets_without_names_are_called_by_their_numbers_and_that_is_noted():
    names, (note,) = classes_of_sets("set", (), 2, ".npz")
    assert names == ("0", "1", "2") and "called 0, 1, 2; --classes names them; Grav" in note
    for most, kind in ((2, ".h5"), (9, ".npz"), (1, ".npz")):
        assert "GravLensNet" not in classes_of_sets("set", (), most, kind)[1][0]
    assert classes_of_sets("set", ("a", "b"), 1, ".npz") == (("a", "b"), [])
    with pytest.raises(ShardError, match=r"^set: has label 1, but names only 1 class$"):
        classes_of_sets("set", ("a",), 1, ".npz")
    assert classes_of_sets("set", (), -1, ".npz") == ((), [])  # nothing is labelled
    with pytest.raises(ShardError, match=r"^set: has label 2, but names only 2 classes"):
        classes_of_sets("set", ("a", "b"), 2, ".npz")


def test_names_that_the_user_gives_are_those_of_the_numbers():
    assert classes_of_sets("set", (), 1, ".h5", ("x", "y", "z")) == (("x", "y", "z"), [])
    assert classes_of_sets("set", ("a", "b"), 1, ".h5", ("b", "a")) == (("b", "a"), [])
    with pytest.raises(ShardError, match="has label 2, but --classes names only 2 classes"):
        classes_of_sets("set", (), 2, ".h5", ("x", "y"))
    with pytest.raises(ShardError, match="--classes names x, y, but the array 'classes' names a"):
        classes_of_sets("set", ("a", "b"), 1, ".h5", ("x", "y"))
    with pytest.raises(ShardError, match="--classes names x, but no image has a label"):
        classes_of_sets("set", (), -1, ".npy", ("x",))


def test_classes_by_the_user_are_in_the_shards(tmp_path):
    path = a_set(tmp_path / "set.npz")
    assert pack(path, tmp_path / "a", classes="no,yes").classes == ("no", "yes")
    path = a_set(tmp_path / "named.npz", classes=np.array(["lens", "other"]))
    before, after = pack(path, tmp_path / "b"), pack(path, tmp_path / "c", classes="other,lens")
    assert before.classes[::-1] == after.classes == ("other", "lens")
    one, other = (open_split(tmp_path / name, "train") for name in "bc")
    assert dict(zip(one.ids(), 1 - one.targets(), strict=True)) == dict(
        zip(other.ids(), other.targets(), strict=True)
    )
