"""Where the files of a catalogue's rows are: what names them, and the folder that holds all.

Paths are relative to the table's folder, to a folder or archive that is named, or absolute.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.data.catalogues.columns import Columns
from deeplense_batch.data.shards import ShardError
from deeplense_batch.data.sources.archive import Tree

__all__ = ["Places"]

Texts = NDArray[np.object_]


class Places:
    """Names of the files of each row, one or one a band.

    Arguments:
        columns: The catalogue.

    Attributes:
        names: An array (rows,) a band, relative to `root`; "" where a row names none.
        root: The folder or archive of all files.

    Raises:
        ShardError: Nothing says where they are.
    """

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self.names, self._said = _file_names(columns)
        known = [value for names in self.names for value in names if value]
        if not known:
            raise columns.refused(f"{self._said} names no file in any row")
        self.root, base, above = self._place(known)
        self.names = [
            np.array([v and _relative(_absolute(v, base), base, above) for v in names], object)
            for names in self.names
        ]

    def find(self, tree: Tree) -> list[list[str]]:
        """Names in the tree of `root`, a list a band; "" for a file that is not there.

        Raises:
            ShardError: None is.
        """
        known = self._known(tree.names)
        files = [[known.get(value, "") for value in names] for names in self.names]
        if not any(map(any, files)):
            first = next(value for names in self.names for value in names if value)
            raise ShardError(
                f"{self._columns.root}: none of its {len(self._columns)} rows has a file: "
                f"{self._said} gives {first}, which is not in {self.root}; --images names the "
                "folder or archive that the paths are relative to"
            )
        return files

    def _known(self, names: Sequence[str]) -> dict[str, str]:
        """Names of the tree by what rows may call them: without the folders that hold them all."""
        values = {value for names in self.names for value in names}
        shared = os.path.commonpath({os.path.dirname(name) for name in names} or {""})  # noqa: PTH120
        folders = shared.split("/") if shared else []
        for depth in range(len(folders) + 1):
            above = "".join(f"{folder}/" for folder in folders[:depth])
            known = {name.removeprefix(above): name for name in names}
            if not values.isdisjoint(known):
                return known
        return {}

    def _place(self, known: Sequence[str]) -> tuple[Path, str, str]:
        """The root, what relative names are relative to, and what to cut from absolute ones."""
        images = self._columns.reading.images
        if images:
            place = Path(images)
            if not place.exists():
                raise ShardError(f"--images: {place}: no such folder or file")
            base = os.path.abspath(place)  # noqa: PTH100 - links stay, as the table has them
            absolute = [value for value in known if value[0] == "/"]
            inside = all(_is_below(value, base) for value in absolute)
            return place, base, base if inside else _shared(absolute)
        base = os.path.abspath(self._columns.root.parent)  # noqa: PTH100
        absolute = [_absolute(value, base) for value in known]
        if all(_is_below(value, base) for value in absolute):
            return self._columns.root.parent, base, base
        above = _shared(absolute)
        if above == "/" or not Path(above).is_dir():
            raise ShardError(
                f"{self._columns.root}: {self._said} gives files such as {known[0]}, and there is "
                "no folder of them all; --images names the folder or archive that holds them"
            )
        return Path(above), base, above


def _file_names(columns: Columns) -> tuple[list[Texts], str]:
    """Names of files as the rows give them, an array a band; and what says so, for errors."""
    reading, bands = columns.reading, columns.reading.bands
    if reading.pattern:
        return [_filled(columns, band) for band in bands or ("",)], f"--pattern {reading.pattern}"
    path = reading.path or columns.usual_path()
    if len(path) == 1 and "{band}" in path[0]:
        path = tuple(path[0].replace("{band}", band) for band in bands)
        lost = [name for name in path if name not in columns.names]
        if lost or not path:
            what = f"no column {lost[0]!r}" if path else "no --bands to put into {band}"
            raise columns.refused(f"--path: there is {what}")
    if len(path) > 1 and len(path) != len(bands):
        raise columns.refused(
            f"--path names {len(path)} columns, and --bands {len(bands)} bands; a column a band"
        )
    names = [columns.texts(name) for name in path]
    if len(path) == 1 and any("{band}" in value for value in names[0]):
        if not bands:
            raise columns.refused(f"column {path[0]} has {{band}} in its values: give --bands")
        names = [np.array([v.replace("{band}", b) for v in names[0]], object) for b in bands]
    return names, f"column {', '.join(path)}"


def _filled(columns: Columns, band: str) -> Texts:
    """The pattern with the values of each row in the place of its fields."""
    reading = columns.reading
    if "*" in reading.pattern:
        raise columns.refused("--pattern: * cannot stand in the pattern of a catalogue's files")
    filled: list[Sequence[str]] = []
    for i, part in enumerate(reading.pattern_parts()):
        name = columns.id if part == "id" and columns.id else part
        if i % 2 == 0 or (part == "band" and band):
            filled.append([band if i % 2 else part] * len(columns))
        elif name in columns.names:
            filled.append(columns.texts(name).tolist())
        else:
            raise columns.refused(f"--pattern: there is no column for {{{part}}}")
    return np.array(["".join(row) for row in zip(*filled, strict=True)], object)


def _absolute(value: str, base: str) -> str:
    return os.path.normpath(value if value[0] == "/" else f"{base}/{value}")


def _is_below(value: str, folder: str) -> bool:
    return value.startswith(f"{folder.rstrip('/')}/")


def _shared(names: Sequence[str]) -> str:
    """The folder of all of some absolute names."""
    return os.path.commonpath({os.path.dirname(name) for name in names})  # noqa: PTH120


def _relative(value: str, base: str, above: str) -> str:
    """An absolute name relative to the folder it is below."""
    folder = above if _is_below(value, above) else base
    return value.removeprefix(folder.rstrip("/") + "/")
