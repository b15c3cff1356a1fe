"""Names of filters as surveys write them: HSC-G, r, F814W, VIS, band_3; order and colours.

A band is the name of a channel. `bands_of_names` finds it in the names of files, folders and FITS
extensions, which differ by it alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from deeplense_batch.core.job import nearest
from deeplense_batch.data.formats.natural import natural
from deeplense_batch.data.header import ShardError

__all__ = [
    "BAND",
    "band_as_written",
    "band_order",
    "bands_of_names",
    "colour_channels",
    "differing",
    "filter_of",
    "filters_in",
    "named_for_bands",
    "plain_bands",
    "same_bands",
    "same_filter",
    "without_bands",
    "writings",
]

_INSTRUMENTS = (
    "HSC|SDSS|DES|DECam|PS1?|LSST|Rubin|KiDS|CFHT|CFHTLS|CFIS|Euclid|EUC|NISP|NIR|VISTA|VIRCAM|"
    "VIKING|UltraVISTA|UKIDSS|2MASS|GALEX|WISE|unWISE|ZTF|HST|WFC3|ACS|JWST|NIRCam|MegaCam|Roman|"
    "WFI|band|filter"
)
_FILTERS = (
    "(?-i:[ugrizyjhkbUGRIZYJHKBV])|Ks|[RI]2|W[1-4]|[NF]UV|VIS|NIR|F[0-9]{3,4}(?:W2|LP|[WMNX])|"
    "F(?:062|087|106|129|146|158|184|213)|red|green|blue"
)
BAND = re.compile(
    rf"(?<![^\W_])(?:(?:(?:{_INSTRUMENTS})[-_. ]?)?({_FILTERS})|"
    r"((?:band|filter|channel|chan|ch)[-_. ]?[0-9]{1,2}))(?![^\W_])",
    re.IGNORECASE,
)
_ONE_FILTER = {"r2": "r", "i2": "i", "ks": "k"}  # HSC's second r and i
_SMALL = frozenset("ugrizy")
_COLOURS = {"r": 0, "red": 0, "g": 1, "green": 1, "b": 2, "blue": 2}
Rgb = tuple[int, int, int]
_OF_A_CAMERA = ({"red", "green", "blue"}, set("rgb"))
_WAVELENGTHS = {  # nm, roughly: they order the filters of all surveys
    "fuv": 150, "nuv": 230, "u": 360, "b": 440, "g": 480, "v": 550, "r": 620, "vis": 720, "i": 770,
    "z": 900, "y": 1000, "nir": 1100, "j": 1250, "h": 1650, "k": 2150, "w1": 3400, "w2": 4600,
    "w3": 12000, "w4": 22000,
}  # fmt: skip
# F606W is of 606 nm, but F160W of 1.60 um: the numbers of infrared filters are tens of nm. These
# are below 200 or above 999, but for some of NICMOS, Webb and Roman. (F410M is Webb's here.)
_NUMBER = re.compile(r"f([0-9]+)([a-z]*)")
_TENS_OF_NM = {
    "f204m", "f205w", "f207m", "f215n", "f216n", "f222m", "f237m", "f240m",
    "f200w", "f210m", "f212n", "f250m", "f277w", "f300m", "f322w2", "f323n", "f335m", "f356w",
    "f360m", "f380m", "f405n", "f410m", "f430m", "f444w", "f460m", "f466n", "f470n", "f480m",
    "f560w", "f770w", "f213",
}  # fmt: skip


def filter_of(band: str) -> str:
    """A band as it is compared with others: g of G and HSC-G, r of HSC-R2."""
    word = _without_instrument(band).lower()
    return _ONE_FILTER.get(word, word)


def same_filter(one: str, other: str) -> bool:
    """Whether two bands are one filter, such as g, HSC-G and G, or r and HSC-R2."""
    return filter_of(one) == filter_of(other)


def same_bands(one: Sequence[str], other: Sequence[str], *, in_order: bool = True) -> bool:
    """Whether the channels of two images are of the same filters, and in the same order.

    Bands of one filter, such as r and r2 of one image, are told apart by their names.
    """
    filters = [_told_apart(bands) for bands in (one, other)]
    return filters[0] == filters[1] if in_order else sorted(filters[0]) == sorted(filters[1])


def plain_bands(bands: Sequence[str]) -> tuple[str, ...]:
    """Bands as they are stored where nobody names them: g, r, VIS of HSC-G, HSC-R2, VIS.

    Only u, g, r, i, z and y become small, and not beside B, V or a word that is no filter: there
    R is Johnson's, or of a camera, or something else. Two bands that would be one stay apart.
    """
    words, filters = _without_instruments(bands), [filter_of(band) for band in bands]
    is_small = all(map(BAND.fullmatch, bands)) and not {"b", "v"} & set(filters)
    if len(set(filters)) < len(filters) or not is_small:
        return tuple(words)
    return tuple(of if of in _SMALL else word for of, word in zip(filters, words, strict=True))


def band_order(bands: Iterable[str]) -> list[str]:
    """Bands in the order of channels: red, green, blue; else by wavelength; else by name."""
    names = sorted(bands, key=natural)
    filters = {name: filter_of(name) for name in names}
    if len(names) == 3 and set(filters.values()) <= set(_COLOURS):
        return sorted(names, key=lambda name: _COLOURS[filters[name]])
    waves = {name: wave for name in names if (wave := _wavelength(filters[name]))}
    return sorted(names, key=waves.__getitem__) if len(waves) == len(filters) else names


def bands_of_names(names: Sequence[str]) -> dict[str, str] | None:
    """The band of each name, where names differ by their bands alone and no two are one band.

    Arguments:
        names: Such as those of the extensions of a FITS file.
    """
    split_names = {name: without_bands(name) for name in names}
    keys = {key for key, _ in split_names.values()}
    if len(names) < 2 or len(keys) > 1 or not all(bands for _, bands in split_names.values()):
        return None
    bands = differing([bands for _, bands in split_names.values()])
    one_each = len({band.lower() for band in bands}) == len(names) == len(split_names)
    return dict(zip(names, bands, strict=True)) if one_each else None


def without_bands(name: str) -> tuple[str, tuple[str, ...]]:
    """A name with '*' for each band, and these."""
    return BAND.sub("*", name), tuple(match[1] or match[2] for match in BAND.finditer(name))


def differing(bands: Sequence[tuple[str, ...]]) -> list[str]:
    """The one word of each name that tells them apart, if there is one; else all of them."""
    if len({len(words) for words in bands}) > 1:
        return ["-".join(words) for words in bands]
    if len(bands) == 1:
        return [bands[0][-1]]
    for column in reversed(list(zip(*bands, strict=True))):
        if len({word.lower() for word in column}) == len(bands):
            return list(column)
    return ["-".join(words) for words in bands]


def filters_in(text: str) -> set[str]:
    """The filters that a text names, as `filter_of` gives them; not numbered bands or colours."""
    words = {filter_of(match[1]) for match in BAND.finditer(text) if match[1]}
    return words - set(_COLOURS.keys() - {"r", "g", "b"})


def band_as_written(band: str, names: Iterable[str]) -> str | None:
    """The one of some names that means a band: itself, in any case; else the one of its filter."""
    written = sorted(set(names))
    for same in (lambda name: name == band, lambda name: name.lower() == band.lower(),
                 lambda name: same_filter(name, band)):  # fmt: skip
        if len(found := [name for name in written if same(name)]) == 1:
            return found[0]
    return None


def writings(band: str) -> str:
    """A regular expression of all ways to write a band: HSC-G and G for g; in any case."""
    match = BAND.fullmatch(band)
    if not (match and match[1]):
        return f"(?i:{re.escape(band)})"
    filter_ = filter_of(band)
    also = [name for name, first in _ONE_FILTER.items() if first == filter_]
    words = "|".join([filter_, *also])
    return f"(?i:{re.escape(band)}|(?:(?:{_INSTRUMENTS})[-_. ]?)?(?:{words}))"


def named_for_bands(names: Sequence[str]) -> bool:
    """Whether all of several names are those of bands."""
    return len(names) > 1 and all(without_bands(name)[0] == "*" for name in names)


def colour_channels(bands: Sequence[str], asked: Sequence[str] = ()) -> Rgb | None:
    """Choose the channels that are red, green and blue.

    Arguments:
        bands: Names of the channels; none where they are unknown.
        asked: Bands to show as red, green and blue, by name; by default the three of the longest
            waves, the longest as red.

    Returns:
        Their indices; None where nothing is asked and fewer than three bands are known.

    Raises:
        ShardError: What is asked are not three of these bands.
    """
    if asked:
        return _asked(bands, asked)
    if len(bands) < 3:
        return None
    if {filter_of(band) for band in bands} in _OF_A_CAMERA:
        ordered = band_order(bands)  # red, green, blue
    else:
        ordered = band_order(bands)[::-1][:3]
    red, green, blue = (list(bands).index(band) for band in ordered)
    return red, green, blue


def _asked(bands: Sequence[str], asked: Sequence[str]) -> Rgb:
    if not bands:
        raise ShardError(
            "--rgb: the bands of these images have no names; pack them with --bands, such as g,r,i"
        )
    if len(asked) != 3:
        raise ShardError(f"--rgb: expected three bands, got {', '.join(asked)}")
    places = []
    for name in asked:
        written = band_as_written(name, bands)
        if written is None:
            raise ShardError(f"--rgb: there is no band '{name}'; {nearest(name, bands)}")
        places.append(list(bands).index(written))
    red, green, blue = places
    return red, green, blue


def _without_instrument(band: str) -> str:
    match = BAND.fullmatch(band)
    return (match and match[1]) or band


def _without_instruments(bands: Sequence[str]) -> list[str]:
    """G, R of HSC-G, HSC-R; the names as they are where two would be one, such as HSC-G, DES-G."""
    words = [_without_instrument(band) for band in bands]
    return words if len({word.lower() for word in words}) == len(words) else list(bands)


def _told_apart(bands: Sequence[str]) -> list[str]:
    """The filter of each band; where two would be one, their names."""
    filters = [filter_of(band) for band in bands]
    if len(set(filters)) == len(filters):
        return filters
    return [name.lower() for name in _without_instruments(bands)]


def _wavelength(filter_: str) -> int | None:
    """About the wavelength of a filter, nm, as `filter_of` gives it; None if it is unknown."""
    match = _NUMBER.fullmatch(filter_)
    if match is None:
        return _WAVELENGTHS.get(filter_)
    number, kind = int(match[1]), match[2]
    in_nm = kind == "lp" or (200 <= number <= 999 and filter_ not in _TENS_OF_NM)
    return number if in_nm else 10 * number
