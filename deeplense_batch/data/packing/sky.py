"""What the headers of images say of the sky: kept as columns, and held against what else is said.

A header's position, object and pixel scale come from FITS files (`formats.headers`). They become
columns of the catalogue where the user's table has none of that name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

import numpy as np

from deeplense_batch.data.encoding import Array
from deeplense_batch.data.formats.filters import filters_in, same_filter
from deeplense_batch.data.formats.parts import Header, same_scale
from deeplense_batch.data.header import ShardError

__all__ = ["SkyChecks", "columns_of", "known_columns", "plain_scale"]

_DIGITS = 6  # of a pixel scale: rounding of a projection lies beyond them


def known_columns(header: Header, columns: Mapping[str, Array]) -> frozenset[str]:
    """Names of the columns that a header fills, but for those that a table has."""
    known = {
        "ra": isfinite(header.ra),
        "dec": isfinite(header.dec),
        "object": bool(header.object),
    }
    return frozenset(name for name, is_known in known.items() if is_known and name not in columns)


def columns_of(names: frozenset[str], headers: Sequence[Header]) -> dict[str, Array]:
    """Columns of some headers, each (N,): numbers float64, texts objects."""
    return {
        name: np.array([getattr(h, name) for h in headers], object if name == "object" else float)
        for name in sorted(names)
    }


def plain_scale(scale: float) -> float:
    """A pixel scale without the rounding errors of its projection."""
    return float(f"{scale:.{_DIGITS}g}")


@dataclass
class SkyChecks:
    """Counts images whose headers contradict the table, the pixel scale given, or each other."""

    columns: Mapping[str, Array]
    pixel_scale: float | None  # arcsec, as the user gives it

    _apart: list[tuple[str, float]] = field(default_factory=list)  # id, and pixels
    _scaled: list[tuple[str, float]] = field(default_factory=list)  # id, and arcsec
    _named: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)  # id, and objects
    _bands: Counter[str] = field(default_factory=Counter)  # images of one channel, by filter
    _first_of: dict[str, str] = field(default_factory=dict)  # id of the first in each band

    def add(
        self, ids: Sequence[str], rows: Sequence[int], headers: Sequence[Header], size: int
    ) -> None:
        """Look at some images.

        Arguments:
            ids: Of the images.
            rows: Of each in the columns.
            headers: Of each.
            size: The shorter side of an image, in pixels.
        """
        for id_, header in zip(ids, headers, strict=True):
            if self.pixel_scale and not same_scale(self.pixel_scale, header.pixel_scale):
                self._scaled.append((id_, header.pixel_scale))
            if header.objects:
                self._named.append((id_, header.objects))
            self._add_band(id_, header.band)
        position = [self.columns.get(name) for name in ("ra", "dec")]
        if any(column is None or column.dtype == object for column in position):
            return
        ra, dec = (column[list(rows)] for column in position if column is not None)
        own_ra, own_dec, scale = np.array([(h.ra, h.dec, h.pixel_scale) for h in headers]).T
        east = ((own_ra - ra + 180) % 360 - 180) * np.cos(np.radians(dec))
        pixels = np.hypot(east, own_dec - dec) * 3600 / scale
        self._apart += [(ids[i], pixels[i]) for i in np.flatnonzero(pixels > size / 2).tolist()]

    def warnings(self) -> list[str]:
        """What was found, counted, with the first."""
        lines = []
        if self._scaled:
            first, scale = self._scaled[0]
            lines.append(
                f"{_images(len(self._scaled))} another pixel scale by the header than "
                f"--pixel_scale {self.pixel_scale:g}, such as {first}: {scale:.4g} arcsec"
            )
        if self._apart:
            first, pixels = self._apart[0]
            lines.append(
                f"{_images(len(self._apart))} the position of the table outside of the image, by "
                f"the header, such as {first}: {pixels:.0f} pixels from its centre"
            )
        if mixed := self._mixed_bands():
            lines.append(f"{mixed}: all are one channel, as --bands says")
        if self._named:
            first, names = self._named[0]
            lines.append(
                f"{_images(len(self._named))} bands whose headers name different objects, such as "
                f"{first}: {', '.join(names)}; none of these names is kept"
            )
        return lines

    def refuse_bands(self, root: object) -> None:
        """Refuse images of one channel that are of several bands.

        Raises:
            ShardError: They are; `root` is named.
        """
        if mixed := self._mixed_bands():
            raise ShardError(
                f"{root}: {mixed}; as they are named, all would be one channel. Name the files of "
                "an object for its bands, as in 7_g.fits and 7_r.fits, or pack each band by "
                "itself; if the bands may be mixed, --bands names the channel"
            )

    def _add_band(self, id_: str, said: str) -> None:
        words = filters_in(said)
        if len(words) == 1:  # other words, such as those of a narrow band, are not understood
            own = words.pop()
            band = next((known for known in self._bands if same_filter(known, own)), own)
            self._bands[band] += 1
            self._first_of.setdefault(band, id_)

    def _mixed_bands(self) -> str:
        if len(self._bands) < 2:
            return ""
        counted = (
            f"{band} ({count}, such as {self._first_of[band]})"
            for band, count in self._bands.most_common()
        )
        return f"images are of the bands {', '.join(counted)} by their headers"


def _images(count: int) -> str:
    return f"{count} image{' has' if count == 1 else 's have'}"
