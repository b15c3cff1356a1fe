"""What the columns of a catalogue mean: as the user says, or by the names they usually have."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.data.catalogues.table import (
    REPEATED,
    lost_digits,
    read_table,
    texts,
    without_points,
)
from deeplense_batch.data.catalogues.usual import USUAL, usual_columns
from deeplense_batch.data.formats.filters import band_order
from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.shards import ShardError

__all__ = ["Columns", "flags_of_bands"]

_OPTIONAL = ("id", "label", "split")  # which the word none leaves out
_MOST_NAMED = 20  # columns in a sentence


class Columns:
    """A table and what its columns mean.

    Arguments:
        root: The file.
        reading: Columns by their meaning, as far as the user says it.

    Raises:
        ShardError: It cannot be read, has no such column, or several that may be meant.
    """

    def __init__(self, root: Path, reading: Reading) -> None:
        self.root, self.reading = root, reading
        self.table = read_table(root)
        self.names = [str(name) for name in self.table.columns]
        self._left_out: dict[str, str] = self.table.attrs.get("left_out", {})
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self._refuse_unknown()
        self.id, self.label = self._column_of("id"), self._column_of("label")
        self.split = self._column_of("split")
        self._about_ids()

    def __len__(self) -> int:
        return len(self.table)

    def texts(self, name: str) -> NDArray[np.object_]:
        """A column as text, (rows,), "" where nothing is known; ids without a point."""
        found = texts(self.table[name])
        return without_points(found) if name == self.id else found

    def refused(self, why: str) -> ShardError:
        """An error that names the columns."""
        more = len(self.names) - _MOST_NAMED
        named = ", ".join(self.names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
        return ShardError(f"{self.root}: {why}; its columns are {named}")

    def refuse_repeated(self, usual: Collection[str]) -> None:
        """Refuse a column of one of some usual names, in lower case, that is there twice."""
        for name, why in self._left_out.items():
            if why == REPEATED and name.lower() in usual:
                raise self.refused(f"column {name} {why}: rename those that are not meant")

    def usual_path(self) -> tuple[str, ...]:
        """The column of paths by its usual name, or those of the bands."""
        bands = self.reading.bands
        for name in USUAL["path"]:
            each = tuple(f"{name}_{band}" for band in bands)
            if each and set(each) <= set(self.names):
                self.notes.append(f"columns {', '.join(each)} are taken for the paths")
                return each
        self.refuse_repeated(USUAL["path"])
        found = usual_columns(self.names, "path")
        if not found and (flags := flags_of_bands(self.names)):
            raise self.refused(f"the path of the images has a column a band: {flags} reads them")
        if len(found) != 1:
            what = f"columns {', '.join(found)} may each be" if found else "no column is known as"
            raise self.refused(
                f"{what} the path of the images: --path names it, or --pattern '{{id}}.fits' says "
                "how files are called"
            )
        self._note("path", found[0])
        return (found[0],)

    def _refuse_unknown(self) -> None:
        """Refuse names that no column has, or that shards cannot keep."""
        asked = self.reading
        for flag in ("path", "truth", "keep", "id", "label", "split", "group"):
            given = getattr(asked, flag)
            for name in (given,) if isinstance(given, str) else given:
                plain = "{" not in name and not (name == "none" and flag in _OPTIONAL)
                if name and plain and (why := self._left_out.get(name)):
                    raise self.refused(f"--{flag}: column {name} {why}, and one is needed")
                if name and plain and name not in self.names:
                    raise self.refused(f"--{flag}: there is no column {name!r}")
                if flag in ("keep", "group", "truth") and "/" in name:
                    raise self.refused(f"--{flag}: {name!r} has a '/', which shards cannot keep")

    def _about_ids(self) -> None:
        """Warn of ids that lost digits, since they were saved as floats."""
        lost = list(filter(lost_digits, texts(self.table[self.id]))) if self.id else []
        if lost:
            rows = "1 row" if len(lost) == 1 else f"{len(lost)} rows"
            self.warnings.append(
                f"column {self.id} was saved as floats, which lost the last digits in {rows}, "
                f"such as {lost[0]}: no other table calls an object so; save it as whole numbers "
                "or as text"
            )

    def _column_of(self, role: str) -> str:
        """The column of a role: the one asked for, or the one of a usual name; "" for none."""
        asked: str = getattr(self.reading, role)
        if asked:
            return "" if asked == "none" and asked not in self.names else asked
        self.refuse_repeated(USUAL[role])
        found = usual_columns(self.names, role)
        if len(found) > 1:
            words = f"columns {', '.join(found)} may each be the {role}"
            raise self.refused(f"{words}: name one, --{role} {found[0]}")
        if not found:
            left_out = usual_columns(list(self._left_out), role)
            self.warnings += [
                f"column {name} {self._left_out[name]}, and is not taken for the {role}"
                for name in left_out
            ]
            return ""
        self._note(role, found[0])
        return found[0]

    def _note(self, role: str, taken: str) -> None:
        """Note the column that is taken for a role, and those that are not."""
        others = [name for name in self.names if name.lower() in USUAL[role] and name != taken]
        but = f", not {' or '.join(others)}" if others else ""
        self.notes.append(f"column {taken} is taken for the {role}{but} (--{role} names another)")


def flags_of_bands(columns: Sequence[str]) -> str:
    """The flags that read a column of paths a band, path_g and path_r; "" where there are none."""
    found: dict[str, list[str]] = {}
    for column in columns:
        path, _, band = column.rpartition("_")
        if band and usual_columns([path], "path"):
            found.setdefault(path, []).append(band)
    for path, bands in found.items():
        if len(bands) > 1:
            return f"--path '{path}_{{band}}' --bands {','.join(band_order(bands))}"
    return ""
