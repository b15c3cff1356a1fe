"""Files beside images that are not read: what is said of them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from made_sources import a_set, fill, folder, noise, told, zipped

from deeplense_batch.data.packing.pack import pack
from deeplense_batch.data.shards import ShardError
from deeplense_batch.data.sources.beside import about_hidden, about_unread, no_images
from deeplense_batch.data.sources.sources import open_source


def test_files_that_may_hold_images_are_never_left_out_in_silence(tmp_path):
    root = fill(tmp_path / "set", "a/1.npy", "b/2.npy")
    for name in ("a/1.jpg", "b/2.JPEG", "b/5.webp", "more.zip", "b/6.h5", "a/.8.npy"):
        (root / name).write_bytes(b"x")
    text = told(root)
    assert "WARNING: 1 .webp beside 2 images left out, such as b/5.webp" in text
    assert "a/1.jpg has the name of another image, and is left out as its preview (2 such)" in text
    assert "WARNING: 1 .zip beside 2 images left out, such as more.zip: they may hold" in text
    assert "WARNING: 1 .h5 beside 2 images left out, such as b/6.h5" in text
    assert "note: 1 file left out, hidden by a name or folder that begins with '.': a/.8" in text
    fill(tmp_path / "hidden", ".a/1.npy")
    with pytest.raises(ShardError, match=r"is empty but for 1 hidden, such as .a/1.npy; images"):
        pack(tmp_path / "hidden", tmp_path / "out")
    (root / "a/._1.npy").write_bytes(b"x")  # of a Mac, never an image
    assert "note: 1 file left out" in told(root)


def test_a_link_that_leads_nowhere_is_told(tmp_path):
    (folder(tmp_path / "set") / "train" / "lens").symlink_to("/nowhere/lens")
    report = str(pack(tmp_path / "set", tmp_path / "out"))
    assert "WARNING: train/lens is a link to nothing" in report


def test_labels_that_some_lack_and_arrays_that_are_not_read_are_told(tmp_path):
    labels = np.arange(10) % 2 * 2 - 1
    path = a_set(tmp_path / "set.npz", labels=labels, theta_e=np.ones(10), psf=np.eye(10))
    report = pack(path, tmp_path / "out")
    assert "5 of 10 images have no label (empty or -1; train 4, val 1)" in str(report.warnings)
    assert "arrays psf of set.npz are not read" in str(report.warnings)
    assert "kept beside the images: theta_e" in str(report.notes)


@pytest.mark.parametrize(
    "name", ["9.npy.part", "9.npy.bz2", "9.npy~", "9.fits.Z", "9.png (1)", "9.png.gz", "9"]
)
def test_an_image_under_another_name_is_told(tmp_path, name):
    lost = folder(tmp_path / "set") / "train" / "no" / name
    with lost.open("wb") as file:
        np.save(file, noise(99))
    (tmp_path / "set" / "README").write_text("no image")
    warnings = pack(tmp_path / "set", tmp_path / "out").warnings
    assert any(f"train/no/{name} seems to be an image under another name" in w for w in warnings)


def test_what_is_no_image_by_name_and_content_is_not_doubted(tmp_path):
    folder(tmp_path / "set")
    for name in ("README", "notes.npy_old", "LICENSE"):
        (tmp_path / "set" / name).write_text("text")
    assert not pack(tmp_path / "set", tmp_path / "out").warnings
    (tmp_path / "set" / "9.h5").write_bytes(b"SIMPLE  ")
    (told,) = pack(tmp_path / "set", tmp_path / "again").warnings
    assert told.startswith("1 .h5 beside 6 images left out")


@pytest.mark.parametrize(
    ("names", "empty", "told"),
    [
        (["no/1.npy", "sphere/1.npy"], "vort", ["vort"]),
        (["no/1.npy"], "vort", ["vort"]),
        (["train/no/1.npy", "val/no/1.npy"], "val/vort", ["val/vort"]),
        (["x/train/no/1.npy", "x/train/vort/1.npy"], "x/val/no", ["x/val"]),
        (["train/no/1.npy", "val/no/1.npy"], "docs", []),
        (["no/1.npy", "vort/1.npy"], "no/thumbs", []),
        (["no/1.npy", "vort/1.npy"], ".git", []),
    ],
)
def test_empty_folders_where_a_class_or_a_split_is_expected(tmp_path, names, empty, told):
    (fill(tmp_path / "set", *names) / empty).mkdir(parents=True)
    (tmp_path / "set" / empty / "notes.txt").write_text("x")
    archive = zipped(tmp_path / "set", tmp_path / "set.zip")
    with zipfile.ZipFile(archive, "a") as more:
        for folder in {empty, str(Path(empty).parent)} - {"."}:
            more.mkdir(folder)
    for root in (tmp_path / "set", archive):
        with open_source(root) as source:
            assert [warning.split()[1] for warning in source.warnings] == told


@pytest.mark.parametrize(
    ("others", "hidden", "says"),
    [
        ([], [], "is empty; images are .fits"),
        ([], [".a/1.npy", ".b"], "is empty but for 2 hidden, such as .a/1.npy; images are"),
        (["a.csv"], [], "holds no images, only 1 other file, such as a.csv; images are"),
        (["0.BMP", "1.gif"], [], "; convert the .bmp, .gif files to .png or .npy"),
    ],
)
def test_what_was_found_in_place_of_images_is_told(others, hidden, says):
    assert says in no_images(others, hidden)


def test_hidden_files_are_told_but_for_those_of_a_mac():
    assert about_hidden([".a.npy", "b/.c.fits", "d/._e.npy", ".DS_Store"]) == [
        "2 files left out, hidden by a name or folder that begins with '.': .a.npy"
    ]
    assert about_hidden(["d/._e.npy"]) == []


def test_arrays_of_a_set_that_are_not_read_are_counted():
    read = ("images", "labels")
    assert about_unread([], read) == []
    assert about_unread([f"x{i}" for i in range(8)], read) == [
        "arrays x0, x1, x2, x3, x4, x5 and 2 more are not read: a set is images, labels"
    ]
