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


def saved(root, *images):
    root.mkdir()
    for i, image in enumerate(images):
        np.save(root / f"{i}.npy", image)
    return root


def with_border(seed, rows):
    image = np.random.default_rng(seed).normal(size=(2, 20, 20)).astype("f4")
    image[:, :rows] = np.nan
    return image


def test_unknown_borders_are_filled_and_counted_up_to_a_share(tmp_path, capsys):
    root = saved(tmp_path / "set", with_border(0, 2), with_border(1, 0), with_border(2, 5))
    code, shown, _ = typed(capsys, "pack", root, tmp_path / "out", "--fill_nan=.1", "--skip_bad")
    assert code == 0 and "80 pixels had no finite value, in 1 of the images: they are" in shown
    assert "2.npy: 25.00% of channel 0 are NaN or infinite; --fill_nan 0.1 fills at most" in shown
    split = open_split(tmp_path / "out", "train")
    filled = split.images()[split.ids().index("0.npy")]
    assert (filled[:, :2] == np.median(filled[:, 2:], (1, 2))[:, None, None]).all()
    assert (filled[:, 2:] == with_border(0, 2)[:, 2:]).all()


def test_images_of_several_sizes_are_brought_to_one(tmp_path, capsys):
    images = [np.random.default_rng(n).normal(size=(n, n)) for n in (12, 16, 21)]
    root = saved(tmp_path / "set", *images)
    code, shown, _ = typed(capsys, "pack", root, tmp_path / "out", "--crop=16", "--pad=16")
    assert code == 0 and "1 image cropped to 16 pixels, around the middle" in shown
    assert "1 image padded to 16 pixels, with the median of each channel" in shown
    split = open_split(tmp_path / "out", "train")
    by_id = dict(zip(split.ids(), split.images()[:, 0], strict=True))
    assert (by_id["0.npy"][2:14, 2:14] == images[0]).all()
    assert by_id["0.npy"][0, 0] == np.median(images[0])
    assert (by_id["2.npy"] == images[2][2:18, 2:18]).all()


def test_flags_of_fits_are_refused_for_other_files(tmp_path):
    root = saved(tmp_path / "set", noise()[0])
    for flag in ({"extensions": "1"}, {"mask_extension": "1"}):
        with pytest.raises(ShardError, match="is no FITS file, so that it has no extension 1"):
            pack(root, tmp_path / "out", **flag)


def test_pictures_and_cubes_are_not_mixed_in_silence(tmp_path):
    root = saved(tmp_path / "set", *(np.random.default_rng(i).random((3, 8, 8)) for i in range(3)))
    colours = np.random.default_rng(9).integers(0, 255, (8, 8, 3), np.uint8)
    Pillow.fromarray(colours).save(root / "9.jpg")
    with pytest.raises(ShardError, match="bands red, green, blue, most images have"):
        pack(root, tmp_path / "out")


@pytest.mark.parametrize("name", ["1.fits", "1.fits.fz", "1.fit", "1.fits.gz", "1.jpg", "1.png"])
@pytest.mark.parametrize("data", [b"", b"no image at all", b"SIMPLE  =", b"\xff\xd8\xff\xe0" * 9])
def test_a_damaged_file_of_any_kind_is_a_bad_image(tmp_path, capsys, name, data):
    root = saved(tmp_path / "set", noise()[0])
    (root / name).write_bytes(data)
    code, shown, error = typed(capsys, "pack", root, tmp_path / "out", "--skip_bad")
    assert code == 0 and "Traceback" not in error and f"  {name}: " in shown
    assert " object at 0x" not in shown
