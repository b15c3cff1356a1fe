"""What the header of a FITS image says: object, band, and where on the sky it is.

A header is taken as the text of its cards, since most of them are never looked at. The projection
of many cutouts of one survey differs by CRVAL and CRPIX alone, so that it is set up once.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Iterable, Mapping
from math import atan2, degrees, hypot, nan
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.data.formats.filters import BAND
from deeplense_batch.data.formats.parts import Header

__all__ = ["Cards", "cards_of", "header_of", "value_of"]

Cards = Mapping[str, str]  # text of a card by its keyword

_OBJECTS = ("OBJID", "OBJ_ID", "OBJECTID", "SOURCEID", "SOURCE_ID", "SRCID", "ID", "ID_STR",
            "OBJNAME", "OBJECT", "TARGNAME", "TARGET", "NAME")  # fmt: skip
_BANDS = ("FILTER", "FILTER1", "FILTER2", "PUPIL", "BAND", "FILTNAM", "FILTNAM1", "FILTER01",
          "INSFLNAM", "FILTERID", "ESO INS FILT1 NAME", "HSCFILT", "FPA.FILTERID")  # fmt: skip
_NO_NAME = frozenset({"", "UNKNOWN", "NONE", "N/A", "NA", "NULL", "NOT SET"})
_NO_BAND = re.compile(r"clear.*|none|n/a|open|empty|blank|unknown|", re.IGNORECASE)
# Lookup tables of distortions (CPDIS, D2IM) lie in other extensions; they move pixels by parts.
_PROJECTION = re.compile(
    r"(?:CTYPE|CRPIX|CDELT|CUNIT|CROTA)\d|(?:CD|PC)\d_\d|PC\d{6}|(?:PV|PS)\d_\d+|"
    r"[AB]P?_(?:ORDER|\d_\d|DMAX)|WCSAXES|LONPOLE|LATPOLE|EQUINOX|EPOCH|RADE(?:SYS|CSYS)|"
    r"(?:MJD|DATE)-OBS|WAT\d_\d+"
)
_ZENITHAL = re.compile(r".*-(?:TAN|SIN|STG|ARC|ZEA|ZPN|TPV)(?:-SIP)?")
_MOST_STRETCHED = 10  # sides of a pixel; a missing scale reads as 1 degree

_lock = threading.Lock()  # a projection is set to one image after the other


class _Projection(NamedTuple):
    """The celestial part of a world coordinate system."""

    wcs: Any  # astropy.wcs.WCS of two axes, longitude first
    axes: tuple[int, int]  # of longitude and latitude among the axes of the file, from 0
    movable: bool  # whether other CRVAL, in degrees, make it that of another image
    frame: Any  # astropy's, of its longitudes and latitudes
    to_icrs: NDArray[np.float64] | None  # (3, 3), of unit vectors; None where it is no rotation


def cards_of(header: bytes) -> dict[str, str]:
    """Text of each card of a header, by its keyword; of several of one keyword the first."""
    text = header.decode("ascii", "replace")
    cards: dict[str, str] = {}
    for start in range(0, len(text), 80):
        card = text[start : start + 80]
        keyword = card[:8].rstrip()
        if keyword == "HIERARCH":
            keyword = card[8:].partition("=")[0].strip()
        cards.setdefault(keyword, card)
    return cards


def value_of(cards: Cards, keyword: str) -> Any:
    """Value of a card; None where there is none, or it cannot be read."""
    from astropy.io import fits

    try:
        return fits.Card.fromstring(cards[keyword]).value if keyword in cards else None
    except Exception:  # a broken card makes its reader raise anything at all
        return None


def header_of(own: Cards, primary: Cards, shape: tuple[int, ...], *, inherits: bool) -> Header:
    """What the header of an image says.

    Arguments:
        own: Header of its extension.
        primary: That of the file.
        shape: Of the array, channels and all.
        inherits: Whether the primary header's coordinates are those of the extension: it has no
            image of its own.
    """
    object_ = _first(_OBJECTS, own, primary, lambda text: text.upper() in _NO_NAME)
    band = _first(_BANDS, own, primary, lambda text: bool(_NO_BAND.fullmatch(text)))
    names = {match[1] for match in BAND.finditer(band) if match[1]}
    scale, ra, dec = nan, nan, nan
    for cards in (own, primary) if inherits else (own,):
        if "CTYPE1" in cards:
            scale, ra, dec = _sky(cards, shape)
            break
    return Header(scale, ra, dec, object_, names.pop() if len(names) == 1 else band)


def _first(keywords: Iterable[str], own: Cards, primary: Cards, is_none: Any) -> str:
    """The first value that says something, of the extension before the file."""
    for cards in (own, primary):
        for keyword in keywords:
            if keyword in cards:
                text = " ".join(str(value_of(cards, keyword) or "").split())
                if not is_none(text):
                    return text
    return ""


def _sky(cards: Cards, shape: tuple[int, ...]) -> tuple[float, float, float]:
    """Pixel scale in arcsec, and ICRS right ascension and declination in deg, of the centre."""
    text = "".join(card for keyword, card in cards.items() if _PROJECTION.fullmatch(keyword))
    crval = "".join(card for keyword, card in cards.items() if keyword.startswith("CRVAL"))
    try:
        with _lock:
            projection = _projection(text)
            if projection is None:
                return nan, nan, nan
            if not projection.movable:
                projection = _build(text + crval)
            else:
                names = [f"CRVAL{axis + 1}" for axis in projection.axes]
                values = [float(value_of(cards, name) or 0) for name in names]
                if abs(values[1]) == 90:  # its default LONPOLE is another
                    projection = _build(text + crval)
                else:
                    projection.wcs.wcs.crval = values
            return _measure(projection, shape) if projection else (nan, nan, nan)
    except Exception:  # broken coordinates make their reader raise anything at all
        return nan, nan, nan


@functools.lru_cache(maxsize=64)
def _projection(text: str) -> _Projection | None:
    return _build(text)


def _build(text: str) -> _Projection | None:
    """Set up the projection that cards describe; None where it is not one of the sky."""
    from astropy.io import fits
    from astropy.wcs import WCS
    from astropy.wcs.utils import wcs_to_celestial_frame

    whole = WCS(fits.Header.fromstring(text), fix=True)
    axes = (whole.wcs.lng, whole.wcs.lat)
    if min(axes) < 0:
        return None
    wcs = whole.sub([axis + 1 for axis in axes])
    degrees = "CUNIT" not in text or set(re.findall(r"CUNIT\d += *'(\w*) *'", text)) <= {"deg"}
    movable = degrees and all(_ZENITHAL.fullmatch(kind) for kind in wcs.wcs.ctype)
    frame = wcs_to_celestial_frame(wcs)
    return _Projection(wcs, axes, movable, frame, _rotation(frame))


def _rotation(frame: Any) -> NDArray[np.float64] | None:
    """The rotation to ICRS, which costs a thousandth of a transformation by astropy."""
    from astropy.coordinates import FK5, ICRS, Galactic, SkyCoord

    if not isinstance(frame, FK5 | ICRS | Galactic):
        return None
    x, y, z = np.eye(3)
    axes = SkyCoord(x, y, z, frame=frame, representation_type="cartesian")
    return np.asarray(axes.icrs.cartesian.xyz.value)


def _measure(projection: _Projection, shape: tuple[int, ...]) -> tuple[float, float, float]:
    """Scale and position at the centre, from points a pixel apart."""
    width, height = (shape[-1 - axis] for axis in projection.axes)
    x, y = (width - 1) / 2, (height - 1) / 2
    points = np.array([[x, y], [x - 0.5, y], [x + 0.5, y], [x, y - 0.5], [x, y + 0.5]])
    world = projection.wcs.all_pix2world(points, 0)
    angles = np.radians(world)
    vectors = _vectors(angles)
    right, up = vectors[2] - vectors[1], vectors[4] - vectors[3]
    area, lengths = np.linalg.norm(np.cross(right, up)), np.linalg.norm([right, up], axis=1)
    if not (area > 0 and lengths.max() < _MOST_STRETCHED * lengths.min()):
        return nan, nan, nan
    ra, dec = _icrs(projection, angles[0], vectors[0])
    return float(np.degrees(np.sqrt(area)) * 3600), ra % 360, dec


def _vectors(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points on the unit sphere, (N, 3), of longitudes and latitudes, (N, 2) in radians."""
    longitude, latitude = angles.T
    across = np.cos(latitude)
    return np.stack(
        [across * np.cos(longitude), across * np.sin(longitude), np.sin(latitude)], axis=1
    )


def _icrs(
    projection: _Projection, angles: NDArray[np.float64], vector: NDArray[np.float64]
) -> tuple[float, float]:
    """A place, by its longitude and latitude in radians and as a vector, in ICRS, in deg."""
    if projection.to_icrs is None:
        from astropy.coordinates import SkyCoord

        place = SkyCoord(*angles, unit="rad", frame=projection.frame).icrs
        return float(place.ra.deg), float(place.dec.deg)
    x, y, z = (projection.to_icrs @ vector).tolist()
    return degrees(atan2(y, x)), degrees(atan2(z, hypot(x, y)))
