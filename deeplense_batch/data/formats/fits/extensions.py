"""The image of a FITS file: its only one, or extensions of a band each, or a row of a table."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from deeplense_batch.data.encoding import Array
from deeplense_batch.data.formats.counted import counted
from deeplense_batch.data.formats.filters import band_order, bands_of_names
from deeplense_batch.data.formats.fits.headers import Cards, cards_of, header_of, value_of
from deeplense_batch.data.formats.masks import NO_LIGHT, fill_masked
from deeplense_batch.data.formats.parts import Change, Part, channels_first, join_images, plain
from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.formats.untrusted import ImageError, check_expansion

__all__ = ["read_fits"]

# Extensions of a FITS file that are the image, by the names that surveys give them.
_LIGHT = frozenset({"SCI", "IMAGE"})
_STAMPS = frozenset({"IMAGE", "IMG", "STAMP", "CUTOUT", "SCI", "DATA", "FLUX", "PIXELS"})

Unit = Any  # an HDU of astropy
Named = Sequence[tuple[str, Unit]]


def read_fits(data: bytes, reading: Reading) -> Part:
    """The image of a FITS file.

    It is the only image, or one channel of each extension that is named for a band, or of those
    that are asked for; where there is no image, that in the only row of a table.

    Raises:
        ImageError: It holds none, or several that are no bands of one, or lacks an extension.
        Exception: A broken file makes its reader raise anything at all.
    """
    from astropy.io import fits  # an extra: pip install deeplense-batch[fits]

    with fits.open(io.BytesIO(data), memmap=False) as units:
        asked = reading.extensions
        light = [_extension(units, name) for name in asked] if asked else _light(units)
        for _, unit in light:
            if unit.is_image:
                size = int(np.prod(unit.shape, dtype=object)) * abs(unit.header["BITPIX"]) // 8
                check_expansion(size, len(data))
        parts = [_part(unit, units[0], data) for _, unit in light]
        if name := reading.mask_extension:
            mask = np.asarray(_extension(units, name)[1].data) != 0
            parts = [_without_masked(part, mask, name) for part in parts]
    names = [name for name, _ in light]
    if len(parts) == 1:
        return parts[0]
    return _join_asked(parts, names, reading.bands) if asked else _join_bands(parts, names)


def _light(units: Sequence[Unit]) -> Named:
    """The images of a file that hold light, one at least."""
    images = [
        (unit.name or f"number {i}", unit)
        for i, unit in enumerate(units)
        if unit.is_image and unit.shape and unit.name.lower() not in NO_LIGHT
    ]
    named = [(name, unit) for name, unit in images if name.upper() in _LIGHT]
    light = named if len(named) == 1 else images
    if len(light) > 1:  # WHT_G and the like
        light = [(n, unit) for n, unit in light if not NO_LIGHT & set(n.lower().split("_"))]
    if light:
        return light
    tables = [(unit.name, unit) for unit in units if hasattr(unit, "columns")]
    stamps = [(name, unit) for name, unit in tables if _array_columns(unit)]
    if len(stamps) == 1:
        return stamps
    columns = f", but a table of {', '.join(tables[0][1].columns.names[:12])}" if tables else ""
    raise ImageError(f"holds no image{columns}")


def _extension(units: Sequence[Unit], wanted: str) -> tuple[str, Unit]:
    """An extension by its number or its name."""
    for number, unit in enumerate(units):
        if wanted == str(number) or (unit.name and unit.name.upper() == wanted.upper()):
            if (unit.is_image and unit.shape) or hasattr(unit, "columns"):
                return unit.name or f"number {number}", unit
            raise ImageError(f"extension {wanted} holds no image")
    names = ", ".join(f"{i} {unit.name}".strip() for i, unit in enumerate(units))
    raise ImageError(f"has no extension {wanted}; it has {names}")


def _part(unit: Unit, primary: Unit, data: bytes) -> Part:
    """The array and the header of an extension."""
    array = np.asarray(unit.data) if unit.is_image else _stamp(unit)
    own, file = (_cards(one, data) for one in (unit, primary))
    header = header_of(own, file, array.shape, inherits=not primary.shape)
    return Part(array, _bands_of_planes(own, file, array.shape), header=header)


def _array_columns(unit: Unit) -> list[str]:
    """Columns of a table that hold an image in every row."""
    types = unit.columns.dtype
    return [name for name in unit.columns.names if len(types[name].shape) >= 2]


def _stamp(unit: Unit) -> Array:
    """The image in the only row of a table."""
    columns, rows = _array_columns(unit), unit.header["NAXIS2"]
    light = [name for name in columns if name.lower() not in NO_LIGHT]
    if len(light) > 1:
        light = [name for name in light if name.upper() in _STAMPS]
    if len(light) != 1:
        raise ImageError(
            f"is a table with the images {', '.join(columns) or 'none'} in a row; an image is one"
        )
    if rows != 1:
        raise ImageError(
            f"is a table of {counted(rows, 'row')} with an image each; put them into an .npz or "
            "HDF5 file as 'images'"
        )
    return np.asarray(unit.data[light[0]][0])


def _without_masked(part: Part, mask: Array, name: str) -> Part:
    """An image whose pixels that a mask (H, W) or (C, H, W) marks are filled."""
    pixels = channels_first(plain(part.array))
    if mask.shape not in (pixels.shape, pixels.shape[1:]):
        raise ImageError(f"mask extension {name} has shape {mask.shape}, the image {pixels.shape}")
    hidden = np.broadcast_to(mask, pixels.shape)
    if hidden.all((1, 2)).any():
        raise ImageError(f"mask extension {name} marks all pixels of a channel")
    count = int(hidden.sum())
    changes = (*part.changes, *([Change("mask_extension", count)] if count else []))
    return part._replace(array=fill_masked(pixels, hidden), changes=changes)


def _join_bands(parts: Sequence[Part], names: Sequence[str]) -> Part:
    """Join extensions that are named for bands, by wavelength."""
    filters = bands_of_names(names)
    if filters is None:
        raise ImageError(
            f"holds {len(names)} images (extensions {', '.join(names)}), a file should hold one, "
            "its bands in one array, channels first or last, or in extensions that are named for "
            "them; --extensions takes some of them as channels"
        )
    bands = {filters[name]: part for name, part in zip(names, parts, strict=True)}
    order = band_order(bands)
    return join_images([bands[band] for band in order], order)


def _join_asked(parts: Sequence[Part], names: Sequence[str], asked: tuple[str, ...]) -> Part:
    """Join extensions in the order asked for; their bands are what names or headers say."""
    joined = join_images(parts, names)
    filters, said = bands_of_names(names), [part.header.band for part in parts]
    if len(asked) == len(parts):
        bands = asked
    elif filters:
        bands = tuple(filters[name] for name in names)
    elif all(said) and len(set(said)) == len(said):
        bands = tuple(said)
    else:
        bands = () if any(name.startswith("number ") for name in names) else joined.bands
    return joined._replace(bands=bands)


def _cards(unit: Unit, data: bytes) -> Cards:
    place = unit.fileinfo()
    return cards_of(data[place["hdrLoc"] : place["datLoc"]])


def _bands_of_planes(own: Cards, primary: Cards, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Bands of the planes of a cube, where the header numbers them: BAND0, or BANDS = 'grz'."""
    if len(shape) != 3:
        return ()
    for cards in (own, primary):
        numbered = [value_of(cards, f"BAND{i}") for i in range(min(shape[0], 32))]
        whole = value_of(cards, "BANDS")
        bands = list(whole) if isinstance(whole, str) and len(whole) == shape[0] else numbered
        if len(bands) == shape[0] and all(isinstance(b, str) and b.strip() for b in bands):
            names = tuple(str(band).strip() for band in bands)
            return names if len(set(names)) == len(names) else ()
    return ()
