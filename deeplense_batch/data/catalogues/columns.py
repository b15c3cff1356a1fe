"""What the columns of a catalogue mean: as the user says, or by the names they usually have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.data.catalogues.table import read_table, texts
from deeplense_batch.data.catalogues.usual import USUAL, usual_columns
from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.shards import ShardError

__all__ = ["Columns"]

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
        self.notes: list[str] = []
        self._refuse_unknown()
        self.id, self.label = self._column_of("id"), self._column_of("label")
        self.split = self._column_of("split")

    def __len__(self) -> int:
        return len(self.table)

    def texts(self, name: str) -> NDArray[np.object_]:
        """A column as text, (rows,), "" where nothing is known."""
        return texts(self.table[name])

    def refused(self, why: str) -> ShardError:
        """An error that names the columns."""
        more = len(self.names) - _MOST_NAMED
        named = ", ".join(self.names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
        return ShardError(f"{self.root}: {why}; its columns are {named}")

    def usual_path(self) -> tuple[str, ...]:
        """The column of paths by its usual name, or those of the bands."""
        bands = self.reading.bands
        for name in USUAL["path"]:
            each = tuple(f"{name}_{band}" for band in bands)
            if each and set(each) <= set(self.names):
                self.notes.append(f"columns {', '.join(each)} are taken for the paths")
                return each
        found = usual_columns(self.names, "path")
        if len(found) != 1:
            what = f"columns {', '.join(found)} may each be" if found else "no column is known as"
            raise self.refused(
                f"{what} the path of the images: --path names it, or --pattern '{{id}}.fits' says "
                "how files are called"
            )
        self.notes.append(f"column {found[0]} is taken for the path (--path names another)")
        return (found[0],)

    def _refuse_unknown(self) -> None:
        """Refuse names that no column has, or that shards cannot keep."""
        asked = self.reading
        for flag in ("path", "truth", "keep", "id", "label", "split", "group"):
            given = getattr(asked, flag)
            for name in (given,) if isinstance(given, str) else given:
                plain = "{" not in name and not (name == "none" and flag in _OPTIONAL)
                if name and plain and name not in self.names:
                    raise self.refused(f"--{flag}: there is no column {name!r}")
                if flag in ("keep", "group", "truth") and "/" in name:
                    raise self.refused(f"--{flag}: {name!r} has a '/', which shards cannot keep")

    def _column_of(self, role: str) -> str:
        """The column of a role: the one asked for, or the one of a usual name; "" for none."""
        asked: str = getattr(self.reading, role)
        if asked:
            return "" if asked == "none" and asked not in self.names else asked
        found = usual_columns(self.names, role)
        if len(found) > 1:
            words = f"columns {', '.join(found)} may each be the {role}"
            raise self.refused(f"{words}: name one, --{role} {found[0]}")
        if not found:
            return ""
        self.notes.append(f"column {found[0]} is taken for the {role} (--{role} names another)")
        return found[0]
