"""Pictures: what they hold, and what is no picture of the sky."""

import io

import numpy as np
import pytest
from PIL import Image as Pillow

from deeplense_batch.data.formats.pictures import read_picture
from deeplense_batch.data.formats.untrusted import ImageError

COLOURS = np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)


def saved(kind, **options):
    file = io.BytesIO()
    Pillow.fromarray(COLOURS).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_picture_keeps_its_values(kind):
    assert (read_picture(saved(kind)).array == COLOURS).all()


def test_several_pictures_in_a_file_are_none():
    with pytest.raises(ImageError, match="holds 2 pictures, an image is one"):
        read_picture(saved("TIFF", save_all=True, append_images=[Pillow.fromarray(COLOURS)]))


def picture(array, kind="PNG", mode=None, **options):
    file = io.BytesIO()
    Pillow.fromarray(array, mode).save(file, kind, **options)
    return file.getvalue()


def test_colours_are_named_and_bytes_stay_bytes():
    part = read_picture(picture(COLOURS))
    assert part.bands == ("red", "green", "blue") and part.array.dtype == np.uint8
    assert read_picture(picture(COLOURS[..., 0])).bands == ()


def test_a_jpeg_is_read_by_its_name_and_noted():
    data = picture(COLOURS, "JPEG", quality=95)
    part = read_picture(data, lossy=True)
    assert part.array.shape == (8, 8, 3) and part.changes == (("lossy", 0),)
    with pytest.raises(ImageError, match="is JPEG inside, not PNG or TIFF"):
        read_picture(data)
    with pytest.raises(ImageError, match="is PNG inside, not JPEG"):
        read_picture(picture(COLOURS), lossy=True)
    cmyk = picture(np.dstack([COLOURS, COLOURS[..., :1]]), "JPEG", "CMYK")
    with pytest.raises(ImageError, match="has CMYK colours"):
        read_picture(cmyk, lossy=True)


def test_a_transparency_is_left_out_where_it_says_nothing():
    alpha = np.full((8, 8, 1), 200, np.uint8)
    part = read_picture(picture(np.dstack([COLOURS, alpha])))
    assert (part.array == COLOURS).all() and part.changes == (("alpha", 0),)
    grey = read_picture(picture(np.dstack([COLOURS[..., :1], alpha])))
    assert (grey.array == COLOURS[..., 0]).all() and grey.changes == (("alpha", 0),)
    alpha[0, 0] = 0
    with pytest.raises(ImageError, match="has a transparency that varies"):
        read_picture(picture(np.dstack([COLOURS, alpha])))
