"""Names of filters as surveys write them: HSC-G, r, F814W, VIS, band_3; and their order.

A band is the name of a channel. `bands_of_names` finds it in the names of files, folders and FITS
extensions, which differ by it alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from deeplense_batch.data.formats.natural import natural

__all__ = [
    "BAND",
    "band_order",
    "bands_of_names",
    "differing",
    "filter_of",
    "filters_in",
    "named_for_bands",
    "without_bands",
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
_COLOURS = {"r": 0, "red": 0, "g": 1, "green": 1, "b": 2, "blue": 2}
_BLUE_TO_RED = (
    "fuv", "nuv", "u", "b", "g", "v", "r", "r2", "vis", "i", "i2", "z", "y", "nir", "j", "h", "k",
    "ks", "w1", "w2", "w3", "w4",
)  # fmt: skip


def band_order(bands: Iterable[str]) -> list[str]:
    """Bands in the order of channels: red, green, blue; else by wavelength; else by name."""
    names = list(bands)
    lower = [filter_of(name) for name in names]
    for known in (_COLOURS, {name: i for i, name in enumerate(_BLUE_TO_RED)}):
        if set(lower) <= set(known) and (known is not _COLOURS or len(names) == 3):
            return [name for _, name in sorted(zip(map(known.get, lower), names, strict=True))]
    return sorted(names, key=natural)


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
        if len({filter_of(word) for word in column}) == len(bands):
            return list(column)
    return ["-".join(words) for words in bands]


def filter_of(band: str) -> str:
    """A band as it is compared with others: G and g are one."""
    return band.lower()


def filters_in(text: str) -> set[str]:
    """The filters that a text names, as `filter_of` gives them; not numbered bands or colours."""
    words = {filter_of(match[1]) for match in BAND.finditer(text) if match[1]}
    return words - set(_COLOURS.keys() - {"r", "g", "b"})


def named_for_bands(names: Sequence[str]) -> bool:
    """Whether all of several names are those of bands."""
    return len(names) > 1 and all(without_bands(name)[0] == "*" for name in names)
