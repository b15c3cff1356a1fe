"""Bands are in the order of channels."""

import re

import pytest

from deeplense_batch.data.formats.filters import band_as_written, colour_channels, writings
from deeplense_batch.data.header import ShardError
from deeplense_batch.data.sources.bands import band_order


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
        (("g", "i"), None),
        ((), None),
    ],
)
def test_by_default_the_longest_wave_is_red(bands, channels):
    assert colour_channels(bands) == channels


def test_bands_are_named_in_the_order_red_green_blue():
    assert colour_channels(("g", "r", "i", "z"), ("Z", "r", "g")) == (3, 1, 0)
    assert colour_channels(("g", "i"), ("i", "i", "g")) == (1, 1, 0)


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
