"""Odd sources of images, and disks without room: told or refused, and nothing of them is lost."""

import io
import zipfile

import numpy as np
import pytest
from conftest import typed
from PIL import Image as Pillow

from deeplense_batch.data import shard_file
from deeplense_batch.data.packing.pack import pack
from deeplense_batch.data.packing.unpack import unpack
from deeplense_batch.data.shards import ShardError, open_split
from deeplense_batch.data.sources.images import ImageError, read_array
from deeplense_batch.runs.plan import data_notes

N = 16


def noise(seed=0, shape=(N, N)):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def folder(root, *classes):
    for i, class_ in enumerate(classes or ("no", "vort")):
        (root / "train" / class_).mkdir(parents=True)
        for j in range(3):
            np.save(root / "train" / class_ / f"{j}.npy", noise(10 * i + j))
    return root


def a_set(path, **arrays):
    images = np.stack([noise(i) for i in range(10)])
    np.savez(path, **({"images": images, "labels": np.arange(10) % 2} | arrays))
    return path


def test_a_second_array_in_an_npy_is_not_lost():
    buffer = io.BytesIO()
    np.save(buffer, noise(0))
    np.save(buffer, noise(1))
    with pytest.raises(ImageError, match="bytes after its array"):
        read_array("1.npy", buffer.getvalue())


@pytest.mark.parametrize("kind", ["JPEG", "GIF", "BMP"])
def test_a_picture_is_what_its_bytes_say(kind):
    buffer = io.BytesIO()
    Pillow.fromarray(np.uint8(noise() * 20 + 100)).save(buffer, kind)
    with pytest.raises(ImageError, match=f"is {kind} inside"):
        read_array("1.png", buffer.getvalue())


@pytest.mark.parametrize("other", ["Lens", "lens ", " lens", "\uff4cens"])
def test_classes_that_look_the_same_are_refused(tmp_path, other):
    with pytest.raises(ShardError, match="differ by case, spaces or the writing"):
        pack(folder(tmp_path / "set", "lens", other), tmp_path / "out")


@pytest.mark.parametrize("name", ["a\nb.npy", "a\x1b[31m.npy", "a\tb.npy", "a\x85b.npy"])
def test_a_name_with_a_control_character_is_refused_in_one_line(tmp_path, name):
    np.save(folder(tmp_path / "set") / "train" / "no" / name, noise(99))
    with pytest.raises(ShardError, match="control character") as error:
        pack(tmp_path / "set", tmp_path / "out")
    assert str(error.value).isprintable()


def test_a_link_that_leads_nowhere_is_told(tmp_path):
    (folder(tmp_path / "set") / "train" / "lens").symlink_to("/nowhere/lens")
    report = str(pack(tmp_path / "set", tmp_path / "out"))
    assert "WARNING: train/lens is a link to nothing" in report


def test_an_empty_zip_and_a_part_of_one_are_told(tmp_path):
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    with pytest.raises(ShardError, match="is empty"):
        pack(tmp_path / "empty.zip", tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "whole.zip", "w") as archive:
        for i in range(4):
            archive.writestr(f"no/{i}.npy", noise(i).tobytes())
    data = (tmp_path / "whole.zip").read_bytes()
    (tmp_path / "last.zip").write_bytes(data[len(data) // 2 :])
    with pytest.raises(ShardError, match="all parts as one file"):
        pack(tmp_path / "last.zip", tmp_path / "out")


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


def test_labels_that_some_lack_and_arrays_that_are_not_read_are_told(tmp_path):
    path = a_set(tmp_path / "set.npz", labels=np.arange(10) % 2 * 2 - 1, theta_e=np.ones(10))
    report = pack(path, tmp_path / "out")
    assert "5 of 10 images have label -1" in str(report.warnings)
    assert "arrays theta_e of set.npz are not read" in str(report.warnings)


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


def test_a_compressed_table_beside_unlabelled_images_is_told(tmp_path):
    (tmp_path / "set").mkdir()
    for i in range(3):
        np.save(tmp_path / "set" / f"{i}.npy", noise(i))
    (tmp_path / "set" / "labels.csv.gz").write_bytes(b"")
    assert "lies a table, which is not read: labels.csv.gz" in str(
        pack(tmp_path / "set", tmp_path / "out")
    )


def test_numbers_beyond_any_use_are_refused(tmp_path):
    folder(tmp_path / "set")
    for option in ({"shard_size": 10**20}, {"seed": 10**20}):
        with pytest.raises(ShardError, match=f"got {10**20}"):
            pack(tmp_path / "set", tmp_path / "out", **option)
    pack(tmp_path / "set", tmp_path / "out", shard_size=10**9)  # takes no more memory than needed
    assert len(open_split(tmp_path / "out", "train")) == 6


def test_a_full_disk_is_told_before_hdf5_meets_it(tmp_path, monkeypatch, capsys):
    pack(folder(tmp_path / "set"), tmp_path / "data")
    monkeypatch.setattr(shard_file, "_ROOM", 1 << 60)
    code, _, said = typed(capsys, "pack", tmp_path / "set", tmp_path / "out")
    assert code == 4 and "No space left on device" in said
    assert not (tmp_path / "out").exists()


def test_shards_of_one_split_under_the_name_of_another_are_refused(tmp_path):
    data = tmp_path / "data"
    pack(folder(tmp_path / "set"), data)
    (data / "train-00000-of-00001.h5").rename(data / "test-00000-of-00001.h5")
    with pytest.raises(ShardError, match="holds split train, not test"):
        open_split(data, "test")


@pytest.mark.parametrize("content", ["{", "[]", '{"warnings": 3}'])
def test_a_damaged_manifest_is_a_note_beside_the_scores(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    assert data_notes(tmp_path) == [
        "data: manifest.json cannot be read, so that what packing warned of is not known"
    ]


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
    (tmp_path / "set" / "9.fits.fz").write_bytes(b"SIMPLE  ")
    (told,) = pack(tmp_path / "set", tmp_path / "again").warnings
    assert told.startswith("1 .fz beside 6 images left out")


def test_an_npz_with_two_arrays_of_one_name_is_refused(tmp_path):
    a_set(tmp_path / "set.npz")
    with zipfile.ZipFile(tmp_path / "set.npz", "a") as archive, pytest.warns(UserWarning):
        archive.writestr("images.npy", b"")
    with pytest.raises(
        ShardError, match=f"^{tmp_path}/set.npz: holds several arrays named images"
    ):
        pack(tmp_path / "set.npz", tmp_path / "out")


def test_bands_of_two_surveys_are_one_image(tmp_path):
    (tmp_path / "set").mkdir()
    for i in range(3):
        for j, band in enumerate(("VIKING_Ks", "KiDS_g", "KiDS_r")):
            np.save(tmp_path / "set" / f"{i}_{band}.npy", noise(i + 10 * j))
    assert pack(tmp_path / "set", tmp_path / "out").bands == ("g", "r", "Ks")


def test_unpacking_does_not_follow_a_link_that_leads_nowhere(tmp_path):
    pack(folder(tmp_path / "set"), tmp_path / "data")
    (tmp_path / "out").symlink_to("/nowhere/out")
    with pytest.raises(ShardError, match="is there already"):
        unpack(tmp_path / "data", tmp_path / "out")
