"""A table as a source: a row an object, with its files, its label and all else that is known.

``id_str,file_loc,label`` is enough. Which column means what is said by the user (`Reading`), or
is plain by the names that catalogues usually give (`_USUAL`), and is noted then.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.data.encoding import Array
from deeplense_batch.data.formats.images import SUFFIXES
from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.formats.tables import kept, numbers, read_table, texts
from deeplense_batch.data.shards import ShardError
from deeplense_batch.data.sources.archive import Tree
from deeplense_batch.data.sources.layouts import SPLITS, number_classes, short_ids
from deeplense_batch.data.sources.listing import Listing, Sample, Skipped

__all__ = ["Catalogue", "usual_columns"]

# What columns are usually called, in lower case; the first wins, of the others there must be one.
_USUAL = {
    "path": ("file_loc", "path", "file", "filename", "file_name", "filepath", "file_path", "image",
             "image_path", "img_path", "cutout", "fits"),
    "id": ("id_str", "id", "object_id", "objid", "obj_id", "objectid", "source_id", "name",
           "object", "iauname"),
    "label": ("label", "class", "is_lens", "islens", "lens", "labels"),
    "split": ("split",),
}  # fmt: skip
_POSITION = {"ra": ("ra", "ra_deg", "raj2000"), "dec": ("dec", "dec_deg", "decj2000", "dej2000")}
_NO_LABELS = ("", "-1", "-1.0", "nan", "none", "null", "--")
_MOST_CLASSES = 1000
_SHOWN = 3  # files that a sentence names

Texts = NDArray[np.object_]


class Catalogue:
    """A table, with what its columns mean.

    Arguments:
        root: The file.
        reading: Columns by their meaning, as far as the user says it.

    Raises:
        ShardError: It cannot be read, has no such column, or does not say where the files are.
    """

    def __init__(self, root: Path, reading: Reading) -> None:
        self.root, self.reading = root, reading
        self.table = read_table(root)
        self.notes: list[str] = []
        self._faults: dict[int, list[str]] = {}  # by row
        self._refuse_unknown()
        self._id, self._label = self._column_of("id"), self._column_of("label")
        self._split = self._column_of("split")
        self._names, self._path = self._file_names()
        self.place = self._place()

    def listing(self, tree: Tree) -> Listing:
        """All rows as samples, with what they say; rows that cannot be packed are its faults.

        Arguments:
            tree: The files of `place`.
        """
        files = self._files(tree)
        ids, splits = self._ids(files), self._splits()
        targets, classes = self._targets()
        listing = Listing([], classes, "catalogue", self.notes, group=self.reading.group)
        listing.bands = self.reading.bands if len(files) > 1 else ()
        listing.truth = {name: self._truth(name) for name in self.reading.truth}
        unsplit = "" if classes or listing.truth else "train"
        for row, (id_, split) in enumerate(zip(ids, splits, strict=True)):
            names = tuple(column[row] for column in files)
            sample = Sample(id_, names, split or unsplit, targets[row], None, row)
            self._put(listing, sample)
        listing.columns = self._columns(files, listing)
        self._about_files(listing, tree, files)
        return listing

    def _refuse_unknown(self) -> None:
        """Refuse names that no column has."""
        asked = self.reading
        several = {"path": asked.path, "truth": asked.truth, "keep": asked.keep}
        one = {name: (getattr(asked, name),) for name in ("id", "label", "split", "group")}
        for flag, names in (several | one).items():
            for name in filter(None, names):
                plain = "{" not in name and not (name == "none" and flag in ("id", "label"))
                if plain and name not in self.table:
                    raise self._refused(f"--{flag}: there is no column {name!r}")
                if flag in ("keep", "group", "truth") and "/" in name:
                    raise self._refused(f"--{flag}: {name!r} has a '/', which shards cannot keep")

    def _refused(self, why: str) -> ShardError:
        columns = list(self.table.columns)
        more = f" and {len(columns) - 20} more" if len(columns) > 20 else ""
        return ShardError(f"{self.root}: {why}; its columns are {', '.join(columns[:20])}{more}")

    def _column_of(self, role: str) -> str:
        """The column of a role: the one asked for, or the one of a usual name; "" for none."""
        asked: str = getattr(self.reading, role)
        if asked:
            return "" if asked == "none" and asked not in self.table else asked
        found = usual_columns(list(self.table.columns), role)
        if len(found) > 1:
            words = f"columns {', '.join(found)} may each be the {role}"
            raise self._refused(f"{words}: name one, --{role} {found[0]}")
        if found and role == "split" and not self._are_splits(found[0]):
            return ""
        if found:
            self.notes.append(
                f"column {found[0]} is taken for the {role} (--{role} names another)"
            )
        return found[0] if found else ""

    def _are_splits(self, name: str) -> bool:
        return {text.lower() for text in texts(self.table[name])} <= set(SPLITS)

    def _file_names(self) -> tuple[list[Texts], str]:
        """Names of files as the rows give them, an array a band; and what says so, for errors."""
        asked, bands = self.reading, self.reading.bands
        if asked.pattern:
            return [self._filled(band) for band in bands or ("",)], f"--pattern {asked.pattern}"
        path = asked.path or self._usual_path()
        if len(path) == 1 and "{band}" in path[0]:
            path = tuple(path[0].replace("{band}", band) for band in bands)
            if missing := [name for name in path if name not in self.table] or not path:
                what = f"no column {missing[0]!r}" if path else "no --bands to put into {band}"
                raise self._refused(f"--path: there is {what}")
        if len(path) > 1 and len(path) != len(bands):
            raise self._refused(
                f"--path names {len(path)} columns, and --bands {len(bands)} bands; a column a band"
            )
        names = [texts(self.table[name]) for name in path]
        if len(path) == 1 and any("{band}" in value for value in names[0]):
            if not bands:
                raise self._refused(f"column {path[0]} has {{band}} in its values: give --bands")
            names = [np.array([v.replace("{band}", b) for v in names[0]], object) for b in bands]
        return names, f"column {', '.join(path)}"

    def _usual_path(self) -> tuple[str, ...]:
        """The column of paths by its usual name, or those of the bands."""
        columns, bands = list(self.table.columns), self.reading.bands
        for name in _USUAL["path"]:
            each = tuple(f"{name}_{band}" for band in bands)
            if each and set(each) <= set(columns):
                self.notes.append(f"columns {', '.join(each)} are taken for the paths")
                return each
        found = usual_columns(columns, "path")
        if len(found) != 1:
            what = f"columns {', '.join(found)} may each be" if found else "no column is known as"
            raise self._refused(
                f"{what} the path of the images: --path names it, or --pattern '{{id}}.fits' says "
                "how files are called"
            )
        self.notes.append(f"column {found[0]} is taken for the path (--path names another)")
        return (found[0],)

    def _filled(self, band: str) -> Texts:
        """The pattern with the values of each row in the place of its fields."""
        fixed = {"band": band} if self.reading.bands else {}
        columns: list[Sequence[str]] = []
        for i, part in enumerate(self.reading.pattern_parts()):
            name = {"id": self._id}.get(part, "") or part
            if i % 2 == 0 or part in fixed:
                columns.append([fixed[part] if i % 2 else part] * len(self.table))
            elif name in self.table:
                columns.append(texts(self.table[name]).tolist())
            else:
                raise self._refused(f"--pattern: there is no column for {{{part}}}")
        if "*" in self.reading.pattern:
            raise self._refused("--pattern: * cannot stand in the pattern of a catalogue's files")
        return np.array(["".join(row) for row in zip(*columns, strict=True)], object)

    def _place(self) -> Path:
        """The folder or archive of the images; the names of files are relative to it then."""
        known = [value for names in self._names for value in names if value]
        if not known:
            raise self._refused(f"{self._path} names no file in any row")
        if self.reading.images:
            place = Path(self.reading.images)
            if not place.exists():
                raise ShardError(f"--images: {place}: no such folder or file")
            base = os.path.abspath(place)  # noqa: PTH100 - not behind links, as the table says it
            absolute = [value for value in known if value[0] == "/"]
            above = base if all(_is_below(v, base) for v in absolute) else _shared(absolute)
        else:
            base = os.path.abspath(self.root.parent)  # noqa: PTH100
            inside = all(_is_below(_absolute(value, base), base) for value in known)
            above = base if inside else _shared([_absolute(value, base) for value in known])
            place = self.root.parent if inside else Path(above)
            if above == "/" or not place.is_dir():
                raise ShardError(
                    f"{self.root}: {self._path} gives files such as {known[0]}, and there is no "
                    "folder of them all; --images names the folder or archive that holds them"
                )
        self._names = [
            np.array([v and _relative(_absolute(v, base), base, above) for v in names], object)
            for names in self._names
        ]
        return place

    def _files(self, tree: Tree) -> list[list[str]]:
        """Names in the tree, a list a band; "" for a file that is not there."""
        known = {name: name for name in tree.names}
        if not any(value in known for names in self._names for value in names):
            known = {short: name for name, short in short_ids(tree.names).items()}
        files = [[known.get(value, "") for value in names] for names in self._names]
        if not any(map(any, files)):
            first = next(value for names in self._names for value in names if value)
            raise ShardError(
                f"{self.root}: none of its {len(self.table)} rows has a file: {self._path} gives "
                f"{first}, which is not in {self.place}; --images names the folder or archive "
                "that the paths are relative to"
            )
        return files

    def _ids(self, files: list[list[str]]) -> list[str]:
        """The id of each row: what a column says, else the name of its first file."""
        if self._id:
            ids = texts(self.table[self._id]).tolist()
        else:
            ids = [next(filter(None, row), "") for row in zip(*files, strict=True)]
            short = short_ids([name for name in ids if name])
            ids = [short[name] if name else f"row {i + 1}" for i, name in enumerate(ids)]
            self.notes.append("no column is known as the id: ids are the names of files")
        first: dict[str, int] = {}
        for row, id_ in enumerate(ids):
            if not id_:
                self._fault(row, f"column {self._id} is empty")
                ids[row] = f"row {row + 1}"
            elif (other := first.setdefault(id_, row)) != row:
                self._fault(row, f"rows {other + 1} and {row + 1} have one id")
        return ids

    def _targets(self) -> tuple[list[int], tuple[str, ...]]:
        """Class number of each row, -1 without a label; and the names of the classes."""
        if not self._label:
            return [-1] * len(self.table), ()
        found = texts(self.table[self._label])
        none = np.array([text.lower() in _NO_LABELS for text in found])
        classes = self.reading.classes or self._classes(found[~none])
        number = {name: i for i, name in enumerate(classes)}
        number = {str(i): i for i in range(len(classes))} | number
        words = {True: "1", False: "0"}
        targets = []
        for row, (text, is_none) in enumerate(zip(found.tolist(), none.tolist(), strict=True)):
            plain = text if text in number else _plain_number(words.get(text, text))
            targets.append(-1 if is_none else number.get(plain, -1))
            if not is_none and plain not in number:
                allowed = ", ".join(classes[:8]) + (", ..." if len(classes) > 8 else "")
                self._fault(row, f"{self._label} {text!r} is no class: {allowed}")
        return targets, classes

    def _classes(self, found: Texts) -> tuple[str, ...]:
        """Names of the classes of some labels: as they are, or those of 0, 1, ... where numbers."""
        names = {_plain_number(text) for text in found}
        if {"True", "False"} >= names:
            names = {"0", "1"}
        wholes = [int(name) for name in names if name.isdecimal()]
        are_numbers = all(_is_number(name) for name in names)
        most = max(wholes, default=-1) + 1 if are_numbers else len(names)
        if most > _MOST_CLASSES or (are_numbers and names and not wholes):
            raise self._refused(
                f"--label: {self._label} has {len(names)} values such as {min(names)}, which are "
                f"no classes (at most {_MOST_CLASSES}); numbers to learn are --truth {self._label}"
            )
        if are_numbers:
            self.notes.append(
                f"classes are called {', '.join(map(str, range(most)))[:60]}, as {self._label} "
                "numbers them (--classes names them)"
            )
            return tuple(map(str, range(most)))
        return number_classes(self.root, names)

    def _splits(self) -> list[str]:
        """Split of each row, "" where none is given."""
        if not self._split:
            return [""] * len(self.table)
        found = [text.lower() for text in texts(self.table[self._split])]
        if not any(text in SPLITS for text in found):
            raise self._refused(
                f"--split: {self._split} is {found[0]!r}; it is one of {', '.join(SPLITS)}"
            )
        for row, text in enumerate(found):
            if text not in SPLITS:
                self._fault(row, f"{self._split} {text!r} is no split: {', '.join(SPLITS)}")
        return [SPLITS.get(text, "train") for text in found]

    def _truth(self, name: str) -> NDArray[np.float64]:
        """Numbers to learn, (rows,); a row that has none is a fault."""
        values, others = numbers(self.table[name])
        lost = np.flatnonzero(~np.isfinite(values))
        if len(lost) == len(values):
            first = texts(self.table[name])[0]
            raise self._refused(f"--truth: {name} holds no numbers, but values such as {first!r}")
        for row in lost.tolist():
            said = repr(texts(self.table[name].iloc[[row]])[0]) if others[row] else "missing"
            self._fault(row, f"{name} is {said}, and networks learn numbers")
        return values

    def _columns(self, files: list[list[str]], listing: Listing) -> dict[str, Array]:
        """What is kept beside the images, by name."""
        taken = {name: kept(self.table[name]) for name in self.reading.keep}
        if self.reading.group:
            taken.setdefault(self.reading.group, kept(self.table[self.reading.group]))
        for name, usual in _POSITION.items():
            found = [c for c in self.table.columns if c.lower() in usual]
            if name not in taken and len(found) == 1 and found[0] not in taken:
                values = numbers(self.table[found[0]])[0]
                if np.isfinite(values).any():
                    taken[name] = values
                    self.notes.append(f"column {found[0]} is kept as {name}")
        if self.reading.missing_band == "zero" and len(files) > 1:
            taken["missing_bands"] = missing_bands(listing.bands, files)
        return taken

    def _put(self, listing: Listing, sample: Sample) -> None:
        """Put one row among the samples, the faults, or what is left out as asked."""
        asked = self._names[0][sample.row]
        lacking = [
            band for band, name in zip(listing.bands, sample.files, strict=False) if not name
        ]
        if faults := self._faults.get(sample.row):
            listing.faults.append(Skipped(sample.id, "; ".join(faults), asked))
        elif not any(sample.files):
            why = "there is no such file" if asked else "no file is named"
            listing.faults.append(Skipped(sample.id, why, asked))
        elif not lacking or self.reading.missing_band == "zero":
            listing.samples.append(sample)
        else:
            left = listing.dropped if self.reading.missing_band == "drop" else listing.faults
            left.append(Skipped(sample.id, f"band {', '.join(lacking)} is missing", asked))

    def _about_files(self, listing: Listing, tree: Tree, files: list[list[str]]) -> None:
        """Warn of images without a row, and of files that several rows name."""
        uses = Counter(name for names in files for name in names if name)
        lost = [name for name in tree.names
                if name.lower().endswith(SUFFIXES) and name not in uses]  # fmt: skip
        lost = [name for name in lost if tree.path(name) != self.root]
        if lost:
            more = ", ..." if len(lost) > _SHOWN else ""
            listing.warnings.append(
                f"{len(lost)} images in {self.place} have no row in {self.root.name}, and are left "
                f"out: {', '.join(lost[:_SHOWN])}{more}"
            )
        if twice := [name for name, count in uses.items() if count > 1]:
            listing.warnings.append(
                f"{len(twice)} files are those of several rows, such as {twice[0]}"
            )

    def _fault(self, row: int, reason: str) -> None:
        self._faults.setdefault(row, []).append(reason)


def usual_columns(columns: Sequence[str], role: str) -> list[str]:
    """The columns that may be the path, id, label or split by their names; one, where plain."""
    usual = _USUAL[role]
    found = [name for name in columns if name.lower() in usual]
    first = [name for name in found if name.lower() == usual[0]]
    return first if len(first) == 1 and usual[0] in ("file_loc", "id_str", "split") else found


def missing_bands(bands: Sequence[str], files: Sequence[Sequence[str]]) -> Texts:
    """The bands that each object lacks, with commas, (N,); `files` is a list a band."""
    rows = zip(*files, strict=True)
    lacking = [",".join(b for b, n in zip(bands, row, strict=True) if not n) for row in rows]
    return np.array(lacking, object)


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


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _plain_number(text: str) -> str:
    """A whole number without a point, other text as it is."""
    return str(int(float(text))) if _is_number(text) and float(text).is_integer() else text
