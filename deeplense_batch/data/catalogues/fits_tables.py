"""FITS files that are tables, although their names are those of images."""

from __future__ import annotations

import posixpath
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from deeplense_batch.data.formats.images import has_fits, needs_fits
from deeplense_batch.data.listing.archive import Tree

__all__ = ["TABLE_WORDS", "fits_columns", "fits_tables", "is_fits_table"]

TABLE_WORDS = ("label", "class", "target", "catalog", "truth", "annotation", "metadata")
_NUMBER = re.compile(r"\d+")
_FITS_WORDS = (*TABLE_WORDS, "cat", "table")
_MOST_OPENED = 20  # FITS files, which may be large


def fits_tables(tree: Tree, images: Sequence[str]) -> list[str]:
    """FITS files that are tables of one value a column, although their names are those of images.

    Cutouts are many, and each would have to be opened: only those are whose name is not one of
    a series, first those that are named as catalogues are.

    Arguments:
        tree: Holds the files.
        images: Names of all that may be images.
    """
    named = [name for name in images if needs_fits(name)] if has_fits() else []
    series = Counter(map(_series, named))
    alone = [name for name in named if series[_series(name)] == 1]
    alone.sort(key=lambda name: not any(word in name.lower() for word in _FITS_WORDS))
    return [name for name in alone[:_MOST_OPENED] if _is_fits_table(tree, name)]


def _series(name: str) -> str:
    """What the names of files have in common that differ by numbers alone."""
    folder, base = posixpath.split(name)
    return f"{folder}/{_NUMBER.sub('0', base)}"


def _is_fits_table(tree: Tree, name: str) -> bool:
    with suppress(Exception), tree.open(name) as file:  # reported when it is read
        return is_fits_table(file)
    return False


def fits_columns(file: Path | IO[bytes]) -> list[str]:
    """Names of the columns of the first table of a FITS file."""
    from astropy.io import fits

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fits.open(file) as parts:
            tables = (part for part in parts if isinstance(part, fits.BinTableHDU))
            return list(next(tables).columns.names)


def is_fits_table(file: Path | IO[bytes]) -> bool:
    """Whether a FITS file holds a table and no image, neither alone nor in rows."""
    from astropy.io import fits

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with fits.open(file) as parts:
                if any(part.is_image and part.shape for part in parts):
                    return False
                tables = [part for part in parts if isinstance(part, fits.BinTableHDU)]
                kinds = [
                    part.columns.dtype[i] for part in tables for i in range(len(part.columns))
                ]
                return bool(tables) and not any(len(kind.shape) > 1 for kind in kinds)  # stamps
    except Exception:  # a broken file makes its reader raise anything at all
        return False
