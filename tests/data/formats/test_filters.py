"""Bands are in the order of channels."""

import numpy as np
import pytest
from astropy.io import fits

from deeplense_batch.data.sources.bands import band_order, join_bands


def image(seed, shape=(9, 8)):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def fill(root, names):
    """An image of its own at every name, and all of them."""
    images = {name: image(i) for i, name in enumerate(names)}
    for name, pixels in images.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".fits"):
            fits.writeto(root / name, pixels)
        else:
            np.save(root / name, pixels)
    return images


def joined(*names):
    return join_bands("set", {name: name for name in names})


@pytest.mark.parametrize(
    ("given", "order"),
    [
        ("i g r", "g r i"),
        ("R I G U", "U G R I"),
        ("Y VIS H J", "VIS Y J H"),
        ("B G R", "R G B"),
        ("F814W F606W F1600W", "F606W F814W F1600W"),
        ("Band10 Band2", "Band2 Band10"),
    ],
)
def test_channels_are_in_the_order_of_wavelengths(given, order):
    assert band_order(given.split()) == order.split()


def write_extensions(path, bands, extra=()):
    path.parent.mkdir(exist_ok=True)
    names = [*bands, *extra]
    parts = [fits.ImageHDU(image(i), name=name) for i, name in enumerate(names)]
    fits.HDUList([fits.PrimaryHDU(), *parts]).writeto(path)
    return {name: image(i) for i, name in enumerate(names)}
