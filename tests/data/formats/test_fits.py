"""FITS files: which extension is the image."""

import io

import numpy as np
import pytest
from astropy.io import fits

from deeplense_batch.data.formats.fits import read_fits
from deeplense_batch.data.formats.untrusted import ImageError

LIGHT = np.random.default_rng(0).random((8, 8)).astype("f4")


def saved(*units):
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), *units]).writeto(file)
    return file.getvalue()


def test_light_is_taken_and_noise_is_not():
    noise = [fits.ImageHDU(LIGHT + 1, name=name) for name in ("VAR", "MASK")]
    data = saved(noise[0], fits.ImageHDU(LIGHT, name="SCI"), noise[1])
    assert (read_fits(data).array == LIGHT).all()
    with pytest.raises(ImageError, match="holds no image"):
        read_fits(saved(*noise))
