"""Where the files of a catalogue's rows are: what names them, and the folder that holds all.

Paths are relative to the table's folder, to a folder or archive that is named, or absolute.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.data.catalogues.columns import Columns
from deeplense_batch.data.formats.counted import counted
from deeplense_batch.data.formats.filters import BAND, band_as_written
from deeplense_batch.data.formats.images import SUFFIXES
from deeplense_batch.data.listing.archive import Tree
from deeplense_batch.data.shards import ShardError

__all__ = ["Places"]

Texts = NDArray[np.object_]
_BAND = "{band}"  # the place of a band in a name
_ROOT = re.compile(r"^([A-Za-z]:)?/+")  # before the folders of an absolute name


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
        self.names, self._forms, self._said = _file_names(columns)
        known = [value for names in self.names for value in names if value]
        if not known:
            raise columns.refused(f"{self._said} names no file in any row")
        self.root, base, above = self._place(known)
        self.names, self._forms = (
            [np.array([v and _relative(_absolute(v, base), base, above) for v in row], object)
             for row in texts]
            for texts in (self.names, self._forms)
        )  # fmt: skip

    def find(self, tree: Tree) -> list[list[str]]:
        """Names in the tree of `root`, a list a band; "" for a file that is not there.

        Raises:
            ShardError: None is.
        """
        files = self._files(tree.names)
        if not any(map(any, files)):
            first = next(value for names in self.names for value in names if value)
            raise ShardError(
                f"{self._columns.root}: none of its {counted(len(self._columns), 'row')} has a "
                f"file: {self._said} gives {first}, which is not in {self.root}"
                f"{self._near(first, tree.names)}"
            )
        return files

    def _near(self, value: str, names: Sequence[str]) -> str:
        """What to do about a value that is no file: the flags by which it is one, if any."""
        form = re.compile(rf"(?:(?P<folder>.*)/)?{re.escape(value)}(?P<ending>(?:\.\w+)*)")
        images = [name for name in names if name.lower().endswith(SUFFIXES)]
        found = list(filter(None, map(form.fullmatch, images)))
        column_a_band = len(self.names) > 1 and not self._forms
        if len(found) != 1 or column_a_band or not self.root.is_dir():
            return "; --images names the folder or archive that the paths are relative to"
        reading = self._columns.reading
        flags = [f"--images {self.root / found[0]['folder']}"] if found[0]["folder"] else []
        if ending := found[0]["ending"]:
            asked = reading.pattern or f"{{{self._said.removeprefix('column ')}}}"
            flags.append(f"--pattern '{asked}{ending}'")
        place = " in the place of --path" if reading.path and ending else ""
        return f", but {found[0][0]} is: {' '.join(flags)}{place} says so"

    def _files(self, names: Sequence[str]) -> list[list[str]]:
        """The names of the tree that rows mean, which may leave out the folders that hold all."""
        files: list[list[str]] = []
        shared = os.path.commonpath({os.path.dirname(name) for name in names} or {""})  # noqa: PTH120
        folders = shared.split("/") if shared else []
        for depth in range(len(folders) + 1):
            above = "".join(f"{folder}/" for folder in folders[:depth])
            known = {name.removeprefix(above): name for name in names}
            files = [[known.get(value, "") for value in column] for column in self.names]
            if self._forms and not all(map(all, files)):
                files = self._by_filter(files, known)
            if any(map(any, files)):
                break
        return files

    def _by_filter(
        self, files: Sequence[Sequence[str]], known: Mapping[str, str]
    ) -> list[list[str]]:
        """Files that were not found are those of the same name but for the writing of the band."""
        written = _bands_by_form(known)
        as_written = cache(band_as_written)  # most rows have the same words to choose from

        def file(band: str, form: str) -> str:
            word = as_written(band, frozenset(written.get(form, ())))
            return known[form.replace(_BAND, word)] if word else ""

        return [
            [name or file(band, form) for name, form in zip(column, self._forms[0], strict=True)]
            for band, column in zip(self._columns.reading.bands, files, strict=True)
        ]

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
            some = any(map(os.path.exists, absolute))
            lack = "there is no folder of them all" if some else "none of these files exists"
            raise ShardError(
                f"{self._columns.root}: {self._said} gives files such as {known[0]}, and {lack}; "
                "--images names the folder or archive that holds them"
            )
        return Path(above), base, above


def _file_names(columns: Columns) -> tuple[list[Texts], list[Texts], str]:
    """Names of files as the rows give them, and what says so.

    Returns:
        An array a band; where bands are put into names, the array of these before that, else
        none; and what gives the names, for errors.
    """
    bands = columns.reading.bands
    if columns.reading.pattern:
        said, form = f"--pattern {columns.reading.pattern}", _slashed(_filled(columns))
    else:
        path = _path(columns)
        each = [_slashed(columns.texts(name)) for name in path]
        said, form = f"column {', '.join(path)}", each[0]
        if len(path) > 1:
            return each, [], said
    if not any(_BAND in value for value in form):
        return [form], [], said
    if not bands:
        raise columns.refused(f"{said} has {{band}} in the names of files: give --bands")
    each = [np.array([v.replace(_BAND, band) for v in form], object) for band in bands]
    return each, [form], said


def _path(columns: Columns) -> tuple[str, ...]:
    """The columns of paths, one, or one a band."""
    bands = columns.reading.bands
    path = columns.reading.path or columns.usual_path()
    if len(path) == 1 and _BAND in path[0]:
        path = tuple(path[0].replace(_BAND, band) for band in bands)
        lost = [name for name in path if name not in columns.names]
        if lost or not path:
            what = f"no column {lost[0]!r}" if path else "no --bands to put into {band}"
            raise columns.refused(f"--path: there is {what}")
    if len(path) > 1 and len(path) != len(bands):
        raise columns.refused(
            f"--path names {len(path)} columns, and --bands {counted(len(bands), 'band')}; a "
            "column a band"
        )
    return path


def _filled(columns: Columns) -> Texts:
    """The pattern with the values of each row in the place of its fields but the band."""
    reading = columns.reading
    if "*" in reading.pattern:
        raise columns.refused("--pattern: * cannot stand in the pattern of a catalogue's files")
    filled: list[Sequence[str]] = []
    for i, part in enumerate(reading.pattern_parts()):
        name = columns.id if part == "id" and columns.id else part
        is_band = part == "band" and (reading.bands or part not in columns.names)
        if i % 2 == 0 or is_band:
            filled.append([_BAND if i % 2 else part] * len(columns))
        elif name in columns.names:
            filled.append(columns.texts(name).tolist())
        else:
            raise columns.refused(f"--pattern: there is no column for {{{part}}}")
    return np.array(["".join(row) for row in zip(*filled, strict=True)], object)


def _bands_by_form(names: Iterable[str]) -> dict[str, set[str]]:
    """Bands as names write them, by the names with {band} in their place, once or wherever."""
    found: dict[str, set[str]] = {}
    for name in names:
        matches = [match for match in BAND.finditer(name) if match[1]]
        spans = {match.span(group) for match in matches for group in (0, 1)}  # 0: its instrument
        for span in spans:
            word = name[slice(*span)]
            same = tuple(sorted(other for other in spans if name[slice(*other)] == word))
            for chosen in {(span,), same}:
                found.setdefault(_with_places(name, chosen), set()).add(word)
    return found


def _with_places(name: str, spans: Sequence[tuple[int, int]]) -> str:
    for start, end in reversed(spans):
        name = name[:start] + _BAND + name[end:]
    return name


def _slashed(names: Texts) -> Texts:
    """Names of files, those of Windows as they would be here: C:\\cut\\0.npy as /cut/0.npy."""
    return np.array([_ROOT.sub("/", name.replace("\\", "/")) for name in names], object)


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
