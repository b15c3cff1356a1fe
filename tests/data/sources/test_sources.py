"""Every layout that users have, and every kind of file in it."""

import gzip
import io
import struct
import zipfile
import zlib
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from conftest import read_image
from made_sources import fill, listing, noise, zipped
from PIL import Image as Pillow

from deeplense_batch.data.formats import images
from deeplense_batch.data.formats.images import ImageError
from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.shards import ShardError
from deeplense_batch.data.sources import sources
from deeplense_batch.data.sources.sources import open_source


def image(seed=0, shape=(1, 6, 8)):
    return np.random.default_rng(seed).random(shape).astype(np.float32)


COMMON = [f"{s}/{c}/{i}.npy" for s in ("train", "val") for c in ("no", "sphere", "vort")
          for i in (1, 2, 10)]  # fmt: skip


def test_a_zip_is_read_in_place_and_gives_the_same(tmp_path):
    folder = fill(tmp_path / "folder", *COMMON)
    (folder / "README.md").write_text("x")
    archive = zipped(folder, tmp_path / "set.zip", "dataset/")
    with zipfile.ZipFile(archive, "a") as more:
        more.writestr("__MACOSX/dataset/train/no/._1.npy", b"x")
        more.writestr("dataset/train/.DS_Store", b"x")
        more.writestr("dataset/train/no/.hidden.npy", b"x")
        more.mkdir("dataset/empty")
    before = sorted(tmp_path.rglob("*"))
    assert listing(archive) == listing(folder)
    with open_source(archive) as inside, open_source(folder) as outside:
        assert (inside.ignored, outside.ignored) == (("dataset/README.md",), ("README.md",))
        for split, samples in outside.splits.items():
            for here, there in zip(inside.splits[split], samples, strict=True):
                assert (inside.read(here).pixels == outside.read(there).pixels).all()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("names", "note"),
    [
        (("train_lens/1.npy", "train_lens/2.npy", "test_no/1.npy"), "2 would be in train"),
        (
            ("train/no/1.npy", "val/no/1.npy", "val/lens/2.npy"),
            "1 would be in train, 2 would be in val",
        ),
        (("1.npy", "2.npy"), "2 would be in train"),  # which have no labels
    ],
)
def test_all_images_go_into_the_split_that_is_asked_for(tmp_path, names, note):
    source = fill(tmp_path / "source", *names)
    with open_source(source, reading=Reading(all_in="test")) as found:
        assert {split: len(samples) for split, samples in found.splits.items()} == {
            "test": len(names)
        }
        assert found.notes[-1] == f"--all_in puts every image into test; without it {note}"
        assert not found.warnings


def test_an_object_of_two_splits_that_are_joined_is_named(tmp_path):
    source = fill(tmp_path / "source", "train_lens/120001.npy", "test_no/120001.npy")
    with open_source(source, reading=Reading(all_in="test")) as found:
        (warning,) = found.warnings
    assert warning == (
        "test_no/120001.npy and train_lens/120001.npy are one object by their names, in two "
        "splits that --all_in joins (1 such): it counts twice"
    )


def test_a_broken_member_of_a_zip_is_a_bad_image(tmp_path):
    folder = fill(tmp_path / "folder", "1.npy", "2.npy")
    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w") as file:  # stored: a changed byte is still an image
        file.write(folder / "1.npy", "1.npy")
        file.write(folder / "2.npy", "2.npy")
    data = bytearray(archive.read_bytes())
    data[data.index(b"2.npy") + 150] ^= 1
    archive.write_bytes(data)
    with open_source(archive) as source:
        good, bad = source.splits["train"]
        assert (source.read(good).pixels == noise(0)).all()
        with pytest.raises(ImageError, match=r"cannot be read \(BadZipFile: Bad CRC-32"):
            source.read(bad)


def test_sources_that_are_none(tmp_path):
    with pytest.raises(ShardError, match="no such folder or file"):
        listing(tmp_path / "nowhere")
    with pytest.raises(ShardError, match=r": is empty; images are .fits, .*, in a known layout; "):
        listing(tmp_path)
    (tmp_path / "a.csv").write_text("1")
    with pytest.raises(ShardError, match=r"no images, only 1 other file, such as a.csv; images a"):
        listing(tmp_path)
    (tmp_path / "photos" / "no").mkdir(parents=True)
    for i in range(2):
        (tmp_path / "photos" / "no" / f"{i}.BMP").write_bytes(b"x")
    with pytest.raises(
        ShardError, match=r"only 2 other files, such as no/0.BMP; .*; convert the .bmp files to"
    ):
        listing(tmp_path / "photos")
    with pytest.raises(ShardError, match=r"a.csv: has no row, only the columns 1"):
        listing(tmp_path / "a.csv")
    (tmp_path / "a.pdf").write_text("1")
    with pytest.raises(
        ShardError, match=r"a.pdf: is neither a folder, a zip, a tar nor a file of"
    ):
        listing(tmp_path / "a.pdf")
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04 and no more")


# Sets of images in an .npz


# Files of one image


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


@pytest.mark.parametrize(
    "dtype",
    ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", ">i2", ">f4", ">f8"],
)
def test_npy_of_every_number_type(dtype):
    array = np.arange(48).reshape(6, 8).astype(dtype)
    pixels = read_image("1.npy", npy(array)).pixels
    assert pixels.dtype == np.dtype(dtype).newbyteorder("=") and pixels.dtype.isnative
    assert (pixels == array[None]).all()


@pytest.mark.parametrize(
    ("shape", "order", "expected"),
    [
        ((6, 8), (0, 1), (1, 6, 8)),
        ((1, 6, 8), (0, 1, 2), (1, 6, 8)),
        ((3, 6, 8), (0, 1, 2), (3, 6, 8)),
        ((5, 6, 8), (0, 1, 2), (5, 6, 8)),
        ((6, 8, 3), (2, 0, 1), (3, 6, 8)),
        ((6, 8, 1), (2, 0, 1), (1, 6, 8)),
    ],
)
@pytest.mark.parametrize("memory", ["C", "F"])
def test_channels_first_or_last(shape, order, expected, memory):
    array = np.asarray(image(0, shape), order=memory)
    result = read_image("1.npy", npy(array))
    assert result.pixels.shape == expected and result.pixels.flags.c_contiguous
    assert (result.pixels.squeeze() == array.transpose(order).squeeze()).all()
    assert (result.least, result.most) == (array.min(), array.max())


def test_pictures():
    grey = np.random.default_rng(0).integers(0, 256, (6, 8), dtype=np.uint8)
    colour = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    for name, array, kind in (
        ("1.png", grey, "png"),
        ("1.PNG", grey.astype(np.uint16) * 200, "png"),
        ("1.tif", grey, "tiff"),
        ("1.tiff", grey.astype(np.uint16) * 200, "tiff"),
        ("1.tiff", grey.astype(np.int32) * 70000, "tiff"),
        ("1.tiff", grey / np.float32(7), "tiff"),
    ):
        pixels = read_image(name, picture(array, kind)).pixels
        assert pixels.dtype == array.dtype and (pixels == array).all()
    pixels = read_image("1.png", picture(colour, "png")).pixels
    assert (pixels == colour.transpose(2, 0, 1)).all()
    buffer = io.BytesIO()
    Pillow.fromarray(colour).quantize(40).save(buffer, "png")
    assert read_image("1.png", buffer.getvalue()).pixels.shape == (3, 6, 8)  # not palette numbers


def test_sixteen_bit_colour_is_refused_because_half_of_it_would_be_lost():
    def chunk(kind, data):
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    rows = b"".join(b"\0" + bytes(range(48)) for _ in range(6))
    header = struct.pack(">IIBBBBB", 8, 6, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    with pytest.raises(ImageError, match="16-bit colour, of which only 8 bits can be read"):
        read_image("1.png", b"\x89PNG\r\n\x1a\n" + body)


def test_fits_cutouts_are_brought_to_native_byte_order():
    for array in (image(0, (6, 8)), image(0, (3, 6, 8)), np.arange(48, dtype="i2").reshape(6, 8)):
        pixels = read_image("1.fits", cutout(array)).pixels
        assert pixels.dtype == array.dtype and pixels.dtype.isnative
        assert (pixels == array.reshape(pixels.shape)).all()
    with pytest.raises(ImageError, match="holds no image"):
        read_image("1.fits", cutout())


def test_extensions_of_a_fits_file_that_are_no_light_are_left_aside():
    light, other = image(0, (6, 8)), image(1, (6, 8))
    names = ["mask", "IMAGE", "Variance", "PSF", "WHT"]
    pixels = read_image("1.fits", cutout(other, light, other, other, other, names=names)).pixels
    assert (pixels == light).all()
    names = ["SCI", "MSK", "WGT", "AREA", "VAR_POISSON"]
    pixels = read_image("1.fits", cutout(light, other, other, other, other, names=names)).pixels
    assert (pixels == light).all()
    with pytest.raises(ImageError, match="holds no image"):
        read_image("1.fits", cutout(other, names=["MASK"]))


def test_a_fits_file_of_several_images_is_bad():
    bands = [image(seed, (6, 8)) for seed in range(3)]
    says = r"holds 3 images \(extensions G, R, number 4\), a file should hold one, its bands in"
    with pytest.raises(ImageError, match=says):
        read_image("1.fits", cutout(*bands[:2], bands[0], bands[2], names=["G", "R", "ERR"]))


@pytest.mark.parametrize("place", ["folder", "cutouts.zip"])
def test_fits_cutouts_may_be_compressed(tmp_path, place):
    cut = image(0, (6, 8))
    if place == "folder":
        (tmp_path / place).mkdir()
        (tmp_path / place / "1.fits.gz").write_bytes(gzip.compress(cutout(cut)))
    else:
        with zipfile.ZipFile(tmp_path / place, "w") as archive:
            archive.writestr("1.fits.gz", gzip.compress(cutout(cut)))
    with open_source(tmp_path / place) as source:
        (sample,) = source.splits["train"]
        assert (source.read(sample).pixels == cut).all() and not source.ignored


@pytest.mark.parametrize("name", ["1.fits", "1.fits.gz"])
def test_fits_without_astropy_names_the_extra(tmp_path, monkeypatch, name):
    (tmp_path / name).write_bytes(b"cutout")
    assert listing(tmp_path)[2] == {"train": [(name, -1)]}
    monkeypatch.setattr(sources, "has_fits", lambda: False)
    with pytest.raises(ShardError, match=r"pip install deeplense-batch\[fits\]"):
        listing(tmp_path)
    assert images.has_fits()


def test_an_npz_of_one_image():
    buffer = io.BytesIO()
    np.savez_compressed(buffer, anything=image())
    assert (read_image("1.npz", buffer.getvalue()).pixels == image()).all()


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


def test_pickles_are_read_only_when_allowed(tmp_path):
    fired = tmp_path / "fired"
    bomb = np.array([Bomb(fired), 1.0], object)
    buffer = io.BytesIO()
    np.savez(buffer, image=bomb)
    for name, data in (
        ("1.npy", npy(bomb)),
        ("1.npz", buffer.getvalue()),
        ("1.npy", npy(axion())),
    ):
        with pytest.raises(ImageError, match="may run code; --allow_pickle reads it"):
            read_image(name, data)
    assert not fired.exists()
    result = read_image("1.npy", npy(axion()), allow_pickle=True)
    assert (result.pixels == axion()[0]).all() and result.axion_mass_ev == 1e-23
    assert np.isnan(read_image("1.npy", npy(image()), allow_pickle=True).axion_mass_ev)
    with pytest.raises(ImageError, match=r"an object array, but not \[image, axion mass\]"):
        read_image("1.npy", npy(bomb), allow_pickle=True)
    assert fired.exists()  # so the bomb above was a real one


def spoilt(value, dtype=np.float32):
    array = image().astype(dtype)
    array[0, 2, 3] = value
    return npy(array)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("1.npy", b"", "empty file"),
        ("1.npy", b"no image at all", "not a .npy file"),
        ("1.npy", npy(image())[:-1], "cut short: 191 of 192 bytes"),
        ("1.npy", spoilt(np.nan), "1 of 48 pixels are NaN or infinite"),
        ("1.npy", spoilt(-np.inf), "1 of 48 pixels are NaN or infinite"),
        ("1.npy", spoilt(1e300, np.float64), r"values from .* to 1e\+300 do not fit float32, w"),
        ("1.npy", spoilt(-3.5e38, np.float64), r"values from -3.5e\+38 to .* do not fit float32"),
        ("1.npy", npy(np.full((6, 8), 2.5)), "constant image, all pixels are 2.5"),
        ("1.npy", npy(image() + 1j), "type complex64; images hold integers or"),
        ("1.npy", npy(image() > 0.5), "type bool"),
        ("1.npy", npy(np.full((6, 8), "x")), "type <U1"),
        ("1.npy", npy(np.arange(9.0)), r"shape \(9,\); images are \(H, W\), \(C, H, W\) or"),
        ("1.npy", npy(image(0, (6, 8, 5))), r"shape \(6, 8, 5\); images are .*; many images go"),
        ("1.npy", npy(image(0, (1, 1, 6, 8))), r"shape \(1, 1, 6, 8\); images are"),
        ("1.npy", npy(np.empty((0, 6, 8))), r"shape \(0, 6, 8\) has no pixels"),
    ],
)
def test_bad_files_have_a_reason(name, data, reason):
    with pytest.raises(ImageError, match=reason):
        read_image(name, data)


def test_an_npz_of_two_images_and_a_tiff_of_two_pictures_are_bad():
    buffer = io.BytesIO()
    np.savez(buffer, a=image(), b=image())
    with pytest.raises(ImageError, match=r"holds 2 arrays \(a, b\), an image is one; a set of"):
        read_image("1.npz", buffer.getvalue())
    grey = [Pillow.fromarray(np.arange(48, dtype="u1").reshape(6, 8)) for _ in range(2)]
    grey[0].save(buffer := io.BytesIO(), "tiff", save_all=True, append_images=grey[1:])
    with pytest.raises(ImageError, match="holds 2 pictures, an image is one"):
        read_image("1.tif", buffer.getvalue())


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("1.npy", npy(image())[:40]),
        ("1.png", picture(np.arange(4800, dtype="u1").reshape(60, 80), "png")[:-60]),
        ("1.png", b"no picture"),
        ("1.fits", b"no cutout"),
        ("1.fits.gz", gzip.compress(cutout(image()))[:-60]),
        ("1.npz", b"no archive"),
    ],
)
def test_whatever_a_reader_says_of_a_broken_file_is_the_reason(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with open_source(tmp_path) as source, pytest.raises(ImageError, match="cannot be read") as why:
        source.read(source.splits["train"][0])
    assert "\n" not in str(why.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (np.full((32, 32), np.nan, np.float32), "1024 of 3072 pixels are NaN or infinite"),
        (np.eye(32) * 1e300, "values from .* do not fit float32, which networks take"),
        (np.array(["a"]), "type <U1; images hold .*"),
        (None, r"cannot be read \(.*\)"),
    ],
)
def test_the_file_that_is_at_fault_is_named_among_those_of_an_object(tmp_path, content, says):
    root = fill(tmp_path / "s", *(f"{i}_{band}.npy" for i in range(2) for band in "gri"))
    np.save(root / "1_i.npy", np.ones((32, 32), np.float32))  # constant, which one band may be
    if content is None:
        (root / "1_r.npy").write_bytes(b"\x93NUMPY garbage")
    else:
        np.save(root / "1_r.npy", content)
    with open_source(root) as source:
        good, bad = source.splits["train"]
        assert source.read(good).bands == ("g", "r", "i")
        with pytest.raises(ImageError, match=rf"^{says} \(1_r.npy\)$"):
            source.read(bad)
