"""Bands are in the order of channels."""

import re

import pytest

from deeplense_batch.data.formats.filters import (
    band_as_written,
    band_order,
    colour_channels,
    plain_bands,
    same_bands,
    writings,
)
from deeplense_batch.data.header import ShardError


@pytest.mark.parametrize(
    ("given", "order"),
    [
        ("i g r", "g r i"),
        ("R I G U", "U G R I"),
        ("Y VIS H J", "VIS Y J H"),
        ("B G R", "R G B"),
        ("F814W F606W F1600W", "F606W F814W F1600W"),
        ("F160W F606W F850LP F105W F814W", "F606W F814W F850LP F105W F160W"),  # Hubble's, nm x 10
        ("F444W F115W F814W F277W F770W F200W", "F814W F115W F200W F277W F444W F770W"),
        ("F158 F213 F062 F106", "F062 F106 F158 F213"),
        ("HSC-I HSC-Y HSC-R2 HSC-G", "HSC-G HSC-R2 HSC-I HSC-Y"),
        ("VIS NIR-H NIR-Y NIR-J", "VIS NIR-Y NIR-J NIR-H"),
        ("r2 i r", "r r2 i"),
        ("i g F160W", "g i F160W"),
        ("g depth r", "depth g r"),  # one of them is no filter
        ("Band10 Band2", "Band2 Band10"),
    ],
)
def test_channels_are_in_the_order_of_wavelengths(given, order):
    assert band_order(given.split()) == order.split()


@pytest.mark.parametrize(
    ("bands", "channels"),
    [
        (("g", "r", "i"), (2, 1, 0)),
        (("i", "g", "r"), (0, 2, 1)),  # whatever their order
        (("g", "r", "i", "z", "y"), (4, 3, 2)),  # the reddest three
        (("red", "green", "blue"), (0, 1, 2)),
        (("R", "G", "B"), (0, 1, 2)),
        (("VIS", "Y", "J", "H"), (3, 2, 1)),
        (("F115W", "F150W", "F277W"), (2, 1, 0)),
        (("HSC-G", "HSC-R", "HSC-I"), (2, 1, 0)),
        (("F160W", "F606W", "F814W"), (0, 2, 1)),
        (("g", "i"), None),
        ((), None),
    ],
)
def test_by_default_the_longest_wave_is_red(bands, channels):
    assert colour_channels(bands) == channels


def test_bands_are_named_in_the_order_red_green_blue():
    assert colour_channels(("g", "r", "i", "z"), ("Z", "r", "g")) == (3, 1, 0)
    assert colour_channels(("g", "i"), ("i", "i", "g")) == (1, 1, 0)
    assert colour_channels(("HSC-G", "HSC-R2", "HSC-I"), ("i", "r", "des-g")) == (2, 1, 0)
    assert colour_channels(("r", "r2", "g"), ("r2", "r", "g")) == (1, 0, 2)


@pytest.mark.parametrize(
    ("bands", "asked", "says"),
    [
        ((), ("i", "r", "g"), "the bands of these images have no names; pack them with --bands"),
        (("g", "r", "i"), ("i", "r"), "expected three bands, got i, r"),
        (("g", "r", "i"), ("z", "r", "g"), "there is no band 'z'; allowed: g, i, r"),
    ],
)
def test_what_are_not_three_of_the_bands_is_refused(bands, asked, says):
    with pytest.raises(ShardError, match=f"--rgb: {says}"):
        colour_channels(bands, asked)


@pytest.mark.parametrize(
    ("band", "names", "written"),
    [
        ("g", ["HSC-G", "HSC-R"], "HSC-G"),
        ("HSC-G", ["G", "R"], "G"),
        ("r", ["HSC-R2", "HSC-I2"], "HSC-R2"),
        ("r", ["r", "HSC-R"], "r"),  # itself before another writing
        ("g", ["HSC-g", "DES-g"], None),  # which of the two?
        ("V", ["VIS"], None),
        ("Depth", ["depth", "mean"], "depth"),
    ],
)
def test_a_band_is_found_however_it_is_written(band, names, written):
    assert band_as_written(band, names) == written
    if written:
        assert re.fullmatch(writings(band), written)
    else:
        assert not re.fullmatch(writings(band), "VIS")


@pytest.mark.parametrize(
    ("one", "other", "order", "is_same"),
    [
        ("HSC-G HSC-R2", "g r", True, True),
        ("r g", "HSC-G HSC-R", True, False),
        ("r g", "HSC-G HSC-R", False, True),
        ("r r2", "r2 r", True, False),  # two channels of one filter
        ("r r2", "HSC-R HSC-R2", True, True),
        ("g", "g r", False, False),
    ],
)
def test_bands_of_two_images_are_compared_by_their_filters(one, other, order, is_same):
    assert same_bands(one.split(), other.split(), in_order=order) == is_same


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("HSC-G HSC-R2 HSC-I2 HSC-Z HSC-Y", "g r i z y"),
        ("G R I", "g r i"),
        ("g", "g"),
        ("VIS NIR-Y NIR-J NIR-H", "VIS y J H"),
        ("HST-F814W f160w", "F814W f160w"),
        ("HSC-R HSC-R2 G", "R R2 G"),  # two channels of one filter
        ("HSC-g DES-G", "HSC-g DES-G"),
        ("B V R I", "B V R I"),  # Johnson's
        ("R G B", "R G B"),  # of a camera
        ("red green blue", "red green blue"),
        ("SCI R band_3", "SCI R band_3"),
        ("", ""),
    ],
)
def test_stored_names_are_plain_filters(given, stored):
    assert plain_bands(given.split()) == tuple(stored.split())
    assert plain_bands(stored.split()) == tuple(stored.split())
