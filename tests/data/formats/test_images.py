"""Odd sources of images, and disks without room: told or refused, and nothing of them is lost."""

import io
import zipfile

import numpy as np
import pytest
from conftest import typed
from made_sources import a_set, folder, noise
from PIL import Image as Pillow

from deeplense_batch.data import shard_file
from deeplense_batch.data.formats.images import ImageError, read_array
from deeplense_batch.data.packing.pack import pack
from deeplense_batch.data.packing.unpack import unpack
from deeplense_batch.data.shards import ShardError, open_split
from deeplense_batch.runs.scoring import data_notes


def test_a_second_array_in_an_npy_is_not_lost():
    buffer = io.BytesIO()
    np.save(buffer, noise(0))
    np.save(buffer, noise(1))
    with pytest.raises(ImageError, match="bytes after its array"):
        read_array("1.npy", buffer.getvalue())


@pytest.mark.parametrize("kind", ["JPEG", "GIF", "BMP"])
def test_a_picture_is_what_its_bytes_say(kind):
    buffer = io.BytesIO()
    Pillow.fromarray(np.uint8(noise()[0] * 20 + 100)).save(buffer, kind)
    with pytest.raises(ImageError, match=f"is {kind} inside"):
        read_array("1.png", buffer.getvalue())


@pytest.mark.parametrize("other", ["Lens", "lens ", " lens", "\uff4cens"])
def test_classes_that_look_the_same_are_refused(tmp_path, other):
    with pytest.raises(ShardError, match="differ by case, spaces or the writing"):
        pack(folder(tmp_path / "set", "lens", other), tmp_path / "out")


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
