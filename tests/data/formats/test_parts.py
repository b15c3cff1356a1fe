"""Bands of one object are joined where they show one patch of the sky."""

import numpy as np
import pytest

from deeplense_batch.data.formats.parts import Header, Part, join_images, same_scale
from deeplense_batch.data.formats.untrusted import ImageError

PLANE = np.random.default_rng(0).random((8, 8))
SKY = Header(0.2, 150.0, 2.0, "a", "g")


def joined(*headers, bands=("g", "r")):
    return join_images([Part(PLANE, header=header) for header in headers], bands)


def test_bands_keep_the_first_header_and_its_object_where_they_agree():
    part = joined(SKY, SKY._replace(band="r"))
    assert part.array.shape == (2, 8, 8) and part.bands == ("g", "r")
    assert part.header == SKY._replace(band="")
    assert joined(SKY, SKY._replace(object="b", band="")).header.object == ""
    assert joined(Header(), SKY._replace(band="HSC-R2")).header == SKY._replace(band="")


@pytest.mark.parametrize(
    ("names", "objects"),
    [
        (("other", "mine"), ("other", "mine")),
        (("a", ""), ()),
        (("lens 7 HSC-G", "lens 7 HSC-R"), ()),
        (("lens 7 HSC-G", "lens 8 HSC-R"), ("lens 7 HSC-G", "lens 8 HSC-R")),
    ],
)
def test_bands_whose_headers_name_several_objects_say_so(names, objects):
    headers = [Header(object=name) for name in names]
    assert joined(*headers).header.objects == objects


@pytest.mark.parametrize(
    ("said", "band", "one"),
    [
        ("HSC-G", "HSC-G", True),
        ("HSC-R2", "r", True),
        ("Ks", "VISTA-K", True),
        ("g DECam SDSS c0001 4720.0 1520.0", "DES-g", True),
        ("clear", "g", True),
        ("VIS", "V", False),
        ("HSC-G", "HSC-R", False),
        ("Ks", "k2", True),  # a name of no filter
    ],
)
def test_headers_and_names_are_compared_by_their_filters(said, band, one):
    headers = [Header(), SKY._replace(band=said)]
    if one:
        assert joined(*headers, bands=("u", band)).bands == ("u", band)
    else:
        with pytest.raises(ImageError, match=f"is band {band} by its name, but {said} by its"):
            joined(*headers, bands=("u", band))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (SKY._replace(pixel_scale=0.3), "differ in pixel scale: g 0.2, r 0.3 arcsec"),
        (SKY._replace(dec=2.001), "have centres 18 pixels apart: g, r"),
        (SKY._replace(band="i"), "is band r by its name, but i by its header"),
    ],
)
def test_headers_that_contradict_each_other_are_no_image(other, message):
    with pytest.raises(ImageError, match=message):
        joined(SKY, other if other.band != "g" else other._replace(band="r"))


def test_centres_on_both_sides_of_the_meridian_are_near():
    near = SKY._replace(ra=359.99999)
    assert joined(near, SKY._replace(ra=0.00001, band="r")).header.ra == near.ra


def test_pixel_scales_are_one_up_to_a_hundredth_and_where_one_is_unknown():
    assert same_scale(0.168, 0.169) and same_scale(float("nan"), 1) and not same_scale(0.2, 0.1)
