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
