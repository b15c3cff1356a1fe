"""FITS files: which extension is the image."""

import io

import numpy as np
import pytest
from astropy.io import fits

from deeplense_batch.data.formats.fits.extensions import read_fits
from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.formats.untrusted import ImageError

LIGHT = np.random.default_rng(0).random((8, 8)).astype("f4")


def saved(*units):
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), *units]).writeto(file)
    return file.getvalue()


def test_light_is_taken_and_noise_is_not():
    noise = [fits.ImageHDU(LIGHT + 1, name=name) for name in ("VAR", "segmentation")]
    data = saved(noise[0], fits.ImageHDU(LIGHT, name="SCI"), noise[1])
    assert (read_fits(data, Reading()).array == LIGHT).all()
    with pytest.raises(ImageError, match="holds no image"):
        read_fits(saved(*noise), Reading())


PLANES = [np.random.default_rng(i).random((8, 8)).astype("f4") for i in range(3)]


def test_extensions_that_are_asked_for_are_the_channels_in_that_order():
    data = saved(
        *(fits.ImageHDU(p, name=n) for p, n in zip(PLANES, ("SCI", "VAR", "PSF"), strict=True))
    )
    part = read_fits(data, Reading(extensions=("VAR", "sci")))
    assert (part.array == np.stack([PLANES[1], PLANES[0]])).all() and part.bands == ("VAR", "SCI")
    assert read_fits(data, Reading(extensions="1,3", bands="g,r")).bands == ("g", "r")
    assert (read_fits(data, Reading(extensions="2")).array == PLANES[1]).all()
    with pytest.raises(ImageError, match="has no extension 7; it has 0 PRIMARY, 1 SCI, 2 VAR"):
        read_fits(data, Reading(extensions="1,7"))
    with pytest.raises(ImageError, match="extension 0 holds no image"):
        read_fits(data, Reading(extensions="0"))


def test_extensions_without_names_have_the_bands_of_their_headers():
    units = [
        fits.ImageHDU(p, fits.Header({"FILTER": b})) for p, b in zip(PLANES, "gri", strict=True)
    ]
    assert read_fits(saved(*units), Reading(extensions="3,1")).bands == ("i", "g")
    assert read_fits(saved(*map(fits.ImageHDU, PLANES)), Reading(extensions="3,1")).bands == ()


def test_a_mask_extension_fills_what_it_marks_and_counts_it():
    mask = np.zeros((8, 8), "u1")
    mask[:2] = 4
    data = saved(fits.ImageHDU(LIGHT, name="SCI"), fits.ImageHDU(mask, name="DQ"))
    part = read_fits(data, Reading(mask_extension="dq"))
    assert part.changes == (("mask_extension", 16),)
    assert (part.array[0, 2:] == LIGHT[2:]).all()
    assert (part.array[0, :2] == np.median(LIGHT[2:])).all()
    for other, message in ((mask[1:], r"shape \(7, 8\)"), (mask + 1, "marks all pixels")):
        spoilt = saved(fits.ImageHDU(LIGHT, name="SCI"), fits.ImageHDU(other, name="DQ"))
        with pytest.raises(ImageError, match=message):
            read_fits(spoilt, Reading(mask_extension="DQ"))


@pytest.mark.parametrize("kind", ["RICE_1", "GZIP_2"])
def test_a_compressed_image_in_any_extension(kind):
    counts = np.arange(64, dtype="i4").reshape(8, 8)
    data = saved(
        fits.CompImageHDU(counts, fits.Header({"OBJECT": "a"}), name="SCI", compression_type=kind)
    )
    part = read_fits(data, Reading())
    assert (part.array == counts).all() and part.header.object == "a"


def test_values_are_scaled_and_blank_ones_are_unknown():
    header = fits.Header({"BLANK": 3, "BSCALE": 2.0, "BZERO": 10.0})
    unit = fits.ImageHDU(np.arange(16, dtype="i2").reshape(4, 4))
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), unit]).writeto(file)
    data = bytearray(file.getvalue())
    end = data.index(b"END" + b" " * 77, 2880)
    for i, card in enumerate(header.cards):
        data[end + 80 * i : end + 80 * (i + 1)] = str(card).encode()
    data[end + 240 : end + 243] = b"END"
    pixels = read_fits(bytes(data), Reading()).array.ravel()
    assert np.isnan(pixels[3]) and (pixels[4:] == 10 + 2 * np.arange(4, 16)).all()


def test_the_image_in_the_only_row_of_a_table():
    def table(*images, rows=1):
        columns = [
            fits.Column(name, "64E", dim="(8,8)", array=np.stack([image] * rows))
            for name, image in images
        ]
        return saved(fits.BinTableHDU.from_columns(columns))

    data = table(("STAMP", LIGHT), ("VAR", LIGHT + 1))
    assert (read_fits(data, Reading()).array == LIGHT).all()
    with pytest.raises(ImageError, match="is a table of 2 rows with an image each"):
        read_fits(table(("STAMP", LIGHT), rows=2), Reading())
    with pytest.raises(ImageError, match="a table with the images A, B in a row; an image is one"):
        read_fits(table(("A", LIGHT), ("B", LIGHT)), Reading())
