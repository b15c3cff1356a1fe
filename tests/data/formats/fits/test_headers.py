"""What FITS headers say: held against astropy for every projection."""

import io
from math import isnan

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales

from deeplense_batch.data.formats.fits.headers import cards_of, value_of
from deeplense_batch.data.formats.images import read_array

PIXELS = np.random.default_rng(0).random((20, 30)).astype("f4")
SCALE = 0.2 / 3600


def sky(ra=150.0, dec=2.0, **cards):
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    header["CRVAL1"], header["CRVAL2"] = ra, dec
    header["CRPIX1"], header["CRPIX2"] = 15.5, 10.5
    header["CD1_1"], header["CD2_2"] = -SCALE, SCALE
    for name, value in cards.items():
        header[name] = value
    return header


def header_of(header, pixels=PIXELS, primary=None, extension=False):
    file = io.BytesIO()
    units = [fits.PrimaryHDU(header=primary), fits.ImageHDU(pixels, header)]
    (fits.HDUList(units) if extension else fits.PrimaryHDU(pixels, header)).writeto(file)
    return read_array("1.fits", file.getvalue()).header


@pytest.mark.parametrize(
    "cards",
    [
        {},
        {"RADESYS": "ICRS"},
        {"RADESYS": "FK5", "EQUINOX": 2000.0},
        {"RADESYS": "FK4", "EQUINOX": 1950.0},
        {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"},
        {"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN", "CRVAL1": 2.0, "CRVAL2": 150.0},
        {"CTYPE1": "RA---CAR", "CTYPE2": "DEC--CAR", "CRPIX2": -200000.0, "CRVAL2": 0.0},
        {"CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN", "CRPIX1": 400.0},
        {"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "PV1_0": 0.001, "PV1_1": 1.0, "PV2_1": 1.0},
        {"CRVAL2": 90.0},
        {"CRVAL2": -90.0},
        {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2, "A_2_0": 1e-3,
         "B_ORDER": 2, "B_0_2": 1e-3, "CRPIX1": 90.0},
        {"CUNIT1": "arcsec", "CUNIT2": "arcsec", "CRVAL1": 3600.0 * 150, "CRVAL2": 7200.0,
         "CD1_1": -0.2, "CD2_2": 0.2},
    ],
)  # fmt: skip
def test_the_centre_and_the_scale_are_those_of_astropy(cards):
    for ra, dec in ((150.0, 2.0), (10.0, -40.0)):  # the second is set from the first
        header = sky(ra, dec, **cards)
        found, wcs = header_of(header), WCS(header)
        place = wcs.pixel_to_world(14.5, 9.5).icrs
        assert SkyCoord(found.ra, found.dec, unit="deg").separation(place).arcsec < 1e-3
        step = wcs.pixel_to_world(15.0, 9.5).separation(wcs.pixel_to_world(14.0, 9.5))
        rise = wcs.pixel_to_world(14.5, 10.0).separation(wcs.pixel_to_world(14.5, 9.0))
        area = step.arcsec * rise.arcsec
        assert found.pixel_scale == pytest.approx(area**0.5, rel=1e-3)
    if "TAN" in str(cards.get("CTYPE1", "TAN")) and "A_ORDER" not in cards:
        scales = np.array(proj_plane_pixel_scales(wcs)) * 3600
        assert found.pixel_scale == pytest.approx(scales.mean(), rel=1e-3)


def test_a_rotated_image_by_cdelt_and_pc():
    header = sky()
    for name in ("CD1_1", "CD2_2"):
        del header[name]
    header["CDELT1"], header["CDELT2"] = -SCALE, SCALE
    header["PC1_1"], header["PC1_2"], header["PC2_1"], header["PC2_2"] = 0.6, -0.8, 0.8, 0.6
    found = header_of(header)
    assert found.pixel_scale == pytest.approx(0.2, rel=1e-6)
    assert (found.ra, found.dec) == (pytest.approx(150.0), pytest.approx(2.0))


def test_no_coordinates_are_nan_and_broken_ones_too():
    for header in (fits.Header(), sky(CD1_1=0.0), sky(CTYPE1="RA---XXX")):
        found = header_of(header)
        assert isnan(found.pixel_scale) and isnan(found.ra) and isnan(found.dec)
    spectrum = fits.Header({"CTYPE1": "WAVE", "CTYPE2": "LINEAR", "CRVAL1": 5000.0})
    assert isnan(header_of(spectrum).pixel_scale)


def test_a_cube_of_bands_has_the_sky_of_its_planes_and_their_names():
    header = sky(CTYPE3="", BANDS="gr", BAND0="g", BAND1="r")
    cube = np.stack([PIXELS, PIXELS])
    file = io.BytesIO()
    fits.PrimaryHDU(cube, header).writeto(file)
    part = read_array("1.fits", file.getvalue())
    assert part.bands == ("g", "r")
    assert part.header.pixel_scale == pytest.approx(0.2, rel=1e-6)


@pytest.mark.parametrize(
    ("cards", "object_", "band"),
    [
        ({"OBJECT": "J0123", "FILTER": "HSC-G"}, "J0123", "G"),
        ({"OBJECT": "field 3", "OBJID": 1234567, "BAND": "r"}, "1234567", "r"),
        ({"TARGNAME": "SL 1", "FILTER1": "CLEAR1L", "FILTER2": "F814W"}, "SL 1", "F814W"),
        ({"FILTER": "g DECam SDSS c0001 4720.0 1520.0"}, "", "g"),
        ({"FILTER": "CLEAR", "PUPIL": "F150W"}, "", "F150W"),
        ({"OBJECT": "", "FILTER": "N/A"}, "", ""),
        ({"SOURCEID": 99, "FILTNAM": "custom"}, "99", "custom"),
        ({"HIERARCH ESO INS FILT1 NAME": "i_SDSS", "ID": "x"}, "x", "i"),
    ],
)
def test_object_and_band(cards, object_, band):
    found = header_of(sky(**cards))
    assert (found.object, found.band) == (object_, band)


def test_an_extension_inherits_what_it_does_not_say():
    primary = sky(OBJECT="a", FILTER="r")
    found = header_of(fits.Header({"FILTER": "g"}), primary=primary, extension=True)
    assert (found.object, found.band) == ("a", "g")
    assert found.ra == pytest.approx(150.0) and found.pixel_scale == pytest.approx(0.2)
    own = header_of(sky(ra=10.0), primary=primary, extension=True)
    assert own.ra == pytest.approx(10.0)


def test_cards_of_a_header_that_is_no_text():
    cards = cards_of(b"OBJECT  = 'a'".ljust(80) + b"\xff" * 80 + b"OBJECT  = 'b'".ljust(80))
    assert value_of(cards, "OBJECT") == "a" and value_of(cards, "NONE") is None
