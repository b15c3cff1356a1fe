"""FITS files: the extensions that hold light, and their headers."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from deeplense_batch.data.formats.filters import band_order, bands_of_names
from deeplense_batch.data.formats.headers import Cards, cards_of, header_of, value_of
from deeplense_batch.data.formats.parts import Part, join_images
from deeplense_batch.data.formats.untrusted import ImageError, check_expansion

__all__ = ["read_fits"]

# Extensions of a FITS file, by the names that surveys give them: the image, and what is no light.
_LIGHT = frozenset({"SCI", "IMAGE"})
_NO_LIGHT = frozenset(
    {
        "MASK", "DQ", "BPM", "FLAGS", "VAR", "VARIANCE", "IVAR", "ERR", "ERROR", "RMS", "NOISE",
        "SIGMA", "UNC", "WHT", "WEIGHT", "PSF", "BACKGROUND", "BKG", "SKY", "SEGMAP", "MODEL",
        "RESIDUAL",
    }
)  # fmt: skip


def read_fits(data: bytes) -> Part:
    """The image of a FITS file, or the images of its extensions that are named for bands.

    Raises:
        ImageError: It holds none, or several that are no bands of one.
        Exception: A broken file makes its reader raise anything at all.
    """
    from astropy.io import fits  # an extra: pip install deeplense-batch[fits]

    with fits.open(io.BytesIO(data), memmap=False) as parts:
        images = [
            (part.name or f"number {i}", part)
            for i, part in enumerate(parts)
            if part.is_image and part.shape and part.name.upper() not in _NO_LIGHT
        ]
        for _, part in images:
            size = int(np.prod(part.shape, dtype=object)) * abs(part.header["BITPIX"]) // 8
            check_expansion(size, len(data))
        named = [(name, part) for name, part in images if name.upper() in _LIGHT]
        light = named if len(named) == 1 else images
        if len(light) > 1:  # WHT_G and the like
            light = [(n, part) for n, part in light if not _NO_LIGHT & set(n.upper().split("_"))]
        if not light:
            tables = [part.columns.names for part in parts if hasattr(part, "columns")]
            columns = f", but a table of {', '.join(tables[0][:12])}" if tables else ""
            raise ImageError(f"holds no image{columns}")
        primary = parts[0]
        if len(light) == 1:
            return _part(light[0][1], primary, data)
        filters = bands_of_names([name for name, _ in light])
        if filters is None:
            raise ImageError(
                f"holds {len(light)} images (extensions {', '.join(name for name, _ in light)}), "
                "a file should hold one, its bands in one array, channels first or last, or in "
                "extensions that are named for them"
            )
        bands = {filters[name]: _part(part, primary, data) for name, part in light}
    order = band_order(bands)
    return join_images([bands[band] for band in order], order)


def _part(part: Any, primary: Any, data: bytes) -> Part:
    """The array and the header of an extension."""
    array = np.asarray(part.data)
    own, file = (_cards(unit, data) for unit in (part, primary))
    inherits = not primary.shape
    header = header_of(own, file, array.shape, inherits=inherits)
    return Part(array, _bands_of_planes(own, file, array.shape), header=header)


def _cards(unit: Any, data: bytes) -> Cards:
    place = unit.fileinfo()
    return cards_of(data[place["hdrLoc"] : place["datLoc"]])


def _bands_of_planes(own: Cards, primary: Cards, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Bands of the planes of a cube, where the header numbers them: BAND0, or BANDS = 'grz'."""
    if len(shape) != 3:
        return ()
    for cards in (own, primary):
        numbered = [value_of(cards, f"BAND{i}") for i in range(shape[0])]
        whole = value_of(cards, "BANDS")
        bands = list(whole) if isinstance(whole, str) and len(whole) == shape[0] else numbered
        if all(isinstance(band, str) and band.strip() for band in bands):
            names = tuple(str(band).strip() for band in bands)
            return names if len(set(names)) == len(names) else ()
    return ()
