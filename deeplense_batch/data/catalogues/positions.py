"""Positions on the sky that a catalogue gives: right ascension and declination in degrees.

Numbers are degrees. Texts such as 10:00:01.2 or 10h00m01.2s are read by astropy, right ascensions
without a unit as hours.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.data.catalogues.columns import Columns
from deeplense_batch.data.catalogues.table import about_comma, numbers
from deeplense_batch.data.formats.images import has_fits

__all__ = ["Positions", "positions"]

# What columns are usually called, in lower case; of several as full the first one is read.
_USUAL = {
    "ra": ("ra", "ra_deg", "radeg", "_raj2000", "raj2000"),
    "dec": ("dec", "dec_deg", "decdeg", "_dej2000", "_decj2000", "dej2000", "decj2000"),
}
_RANGES = {"ra": (-180.0, 360.0), "dec": (-90.0, 90.0)}  # deg; some surveys count ra from -180
_UNITS = {"ra": "hourangle", "dec": "deg"}  # of texts that have none
_HAS_UNIT = re.compile(r"[^\d\s:.+-]")  # as in 10h00m or 150.05d


class Positions(NamedTuple):
    """What a catalogue says of the positions of its objects."""

    columns: dict[str, NDArray[np.float64]]  # ra and dec, (rows,) deg, as far as they are known
    notes: list[str]
    warnings: list[str]  # of values that are no positions


class _Read(NamedTuple):
    """One column of the table as coordinates."""

    column: str
    degrees: NDArray[np.float64]  # (rows,), NaN where there is none
    texts: list[int]  # rows that are not plain numbers
    bad: list[int]  # rows that say something else


def positions(columns: Columns) -> Positions:
    """Read the columns of the usual names, in any case; those that hold no position are left out.

    Of several the fullest is read, or that which the user keeps as ``ra`` or ``dec``.
    """
    found = Positions({}, [], [])
    for name, usual in _USUAL.items():
        columns.refuse_repeated(usual)
        lower = {column: column.lower() for column in columns.names}
        mine = sorted((c for c in lower if lower[c] in usual), key=lambda c: usual.index(lower[c]))
        if name in columns.reading.keep:
            mine = [name]
        if mine:
            read = max((_read(columns, column, name) for column in mine), key=_known)
            _add(found, columns, name, read, [column for column in mine if column != read.column])
    return found


def _known(read: _Read) -> int:
    return int(np.isfinite(read.degrees).sum())


def _read(columns: Columns, column: str, name: str) -> _Read:
    degrees, others = numbers(columns.table[column])
    degrees, said, texts = degrees.copy(), columns.texts(column), np.flatnonzero(others).tolist()
    for row in texts:
        degrees[row] = _angle(said[row], _UNITS[name])
    least, most = _RANGES[name]
    off = np.isfinite(degrees) & ((degrees < least) | (degrees > most)) | np.isinf(degrees)
    bad = np.flatnonzero(off | (others & np.isnan(degrees))).tolist()
    degrees[off] = np.nan
    return _Read(column, degrees, texts, bad)


def _add(found: Positions, columns: Columns, name: str, read: _Read, others: list[str]) -> None:
    """Take a column, and say what was made of it."""
    said = columns.texts(read.column)
    if read.bad:
        first, count = read.bad[0], len(read.bad)
        such = f"{said[first]!r} in row {first + 1}{about_comma(said[first])}"
        least, most = _RANGES[name]
        all_bad = f"the table gives no {name}"  # but headers may
        then = f"{name} is unknown (NaN) there" if _known(read) else all_bad
        needs = "" if has_fits() or not read.texts else "; reading texts needs astropy"
        found.warnings.append(
            f"column {read.column} is no position in {count} row{'s' * (count > 1)}, such as "
            f"{such}: {then}; it is degrees from {least:g} to {most:g}, or a text such as "
            f"10:00:01.2{needs}"
        )
    if not _known(read):
        return
    found.columns[name] = read.degrees
    written = sorted(set(read.texts) - set(read.bad))
    bare = next((said[row] for row in written if not _HAS_UNIT.search(said[row])), "")
    how = " in degrees" if written else ""
    if bare:
        how += f"; a text such as {bare} is read as {'hours' if name == 'ra' else 'degrees'}"
    left = f", and {', '.join(others)} is left out (--keep keeps it)" if others else ""
    found.notes.append(f"column {read.column} is kept as {name}{how}{left}")


def _angle(text: str, unit: str) -> float:
    """An angle in degrees; NaN where the text is none, or astropy is missing."""
    if not has_fits():
        return np.nan
    from astropy.coordinates import Angle

    try:
        return float(Angle(text, unit=unit).degree)
    except ValueError:  # as all errors of astropy's angles are
        return np.nan
