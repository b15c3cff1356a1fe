"""A table as a source: a row an object, with its files, its label and all else that is known.

``id_str,file_loc,label`` is enough. Which column means what is said by the user (`Reading`), or
is plain by the names that catalogues usually give (`columns`), and is noted then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.data.catalogues.classes import class_numbers
from deeplense_batch.data.catalogues.columns import Columns
from deeplense_batch.data.catalogues.fits_tables import fits_tables
from deeplense_batch.data.catalogues.places import Places
from deeplense_batch.data.catalogues.positions import positions
from deeplense_batch.data.catalogues.table import about_comma, kept, numbers
from deeplense_batch.data.catalogues.values import Meaning, numbers_to_learn, splits_of
from deeplense_batch.data.encoding import Array
from deeplense_batch.data.formats.images import SUFFIXES
from deeplense_batch.data.formats.reading import Reading
from deeplense_batch.data.header import ShardError
from deeplense_batch.data.listing.archive import Tree
from deeplense_batch.data.listing.layouts import short_ids
from deeplense_batch.data.listing.listing import Listing, Sample, missing_bands

__all__ = ["Catalogue"]

_SHOWN = 3  # files that a sentence names


class Catalogue:
    """A table, with what its columns mean.

    Arguments:
        root: The file.
        reading: Columns by their meaning, as far as the user says it.

    Raises:
        ShardError: It cannot be read, has no such column, or does not say where the files are.
    """

    def __init__(self, root: Path, reading: Reading) -> None:
        self._columns = Columns(root, reading)
        self._places = Places(self._columns)
        self._inputs = None
        if reading.inputs:
            asked = replace(reading, path=(reading.inputs,), pattern="", bands=(), inputs="")
            try:
                self._inputs = Places(Columns(root, asked))
            except ShardError as error:
                raise ShardError(str(error).replace("--path", "--inputs")) from error
        self._reading = reading
        self._faults: dict[int, list[str]] = {}  # reasons by row

    @property
    def place(self) -> Path:
        """The folder or archive that holds the images."""
        return self._places.root

    def listing(self, tree: Tree) -> Listing:
        """All rows as samples, with what they say; rows that cannot be packed are its faults.

        Arguments:
            tree: The files of `place`.

        Raises:
            ShardError: No row has a file, or a whole column is not what it should be.
        """
        files = images = self._places.find(tree)
        ids, splits = self._ids(files), self._splits()
        targets, classes = class_numbers(self._columns, self._fault)
        notes, warnings = self._columns.notes, self._columns.warnings
        listing = Listing([], classes, "catalogue", notes, warnings)
        listing.bands = self._reading.bands if len(files) > 1 else ()
        listing.truth = {name: self._truth(name) for name in self._reading.truth}
        where = positions(self._columns)
        listing.notes += where.notes
        listing.warnings += [*where.warnings, *self._about_commas()]
        listing.columns = self._kept(files) | where.columns
        named: dict[str, Any] = {"file": list(zip(*files, strict=True)), "label": targets}
        self._about_repeated(ids, named | {"split": splits} | listing.truth | listing.columns)
        listing.group = self._reading.group
        if self._inputs is not None:
            (inputs,) = self._inputs.find(tree)
            listing.inputs = {id_: (name,) for id_, name in zip(ids, inputs, strict=True) if name}
            for row, name in enumerate(inputs):
                if not name:
                    said = self._inputs.names[0][row]
                    what = f"there is no file {said}" if said else "it names no file"
                    self._fault(
                        row, f"column {self._reading.inputs}: its input is missing, {what}"
                    )
            files = [*files, inputs]
        unsplit = "" if classes or listing.truth or self._inputs is not None else "train"
        for row, (id_, split) in enumerate(zip(ids, splits, strict=True)):
            names = tuple(column[row] for column in images)
            self._put(listing, Sample(id_, names, split or unsplit, targets[row], None, row))
        self._about_files(listing, tree, files)
        return listing

    def _ids(self, files: list[list[str]]) -> list[str]:
        """The id of each row: what a column says, else the name of its first file."""
        columns = self._columns
        if columns.id:
            ids = columns.texts(columns.id).tolist()
        else:
            ids = [next(filter(None, row), "") for row in zip(*files, strict=True)]
            short = short_ids([name for name in ids if name])
            ids = [short[name] if name else f"row {i + 1}" for i, name in enumerate(ids)]
            columns.notes.append("no column is known as the id: ids are the names of files")
        for row, id_ in enumerate(ids):
            if not id_:
                self._fault(row, f"column {columns.id} is empty")
                ids[row] = f"row {row + 1}"
        return ids

    def _about_repeated(self, ids: Sequence[str], packed: Mapping[str, Any]) -> None:
        """Find rows of one id: the first is good if they say the same, else none, for who knows.

        Arguments:
            ids: Of each row.
            packed: What is packed, by what it is called, each (rows,).
        """
        uses = Counter(ids)
        repeated: dict[str, list[int]] = {}
        for row, id_ in enumerate(ids):
            if uses[id_] > 1:
                repeated.setdefault(id_, []).append(row)
        for rows in repeated.values():
            apart = [n for n, values in packed.items() if len({str(values[r]) for r in rows}) > 1]
            which = " and ".join(str(row + 1) for row in rows[:_SHOWN])
            more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
            why = f"but differ in {', '.join(apart)}" if apart else "and the first is taken"
            for row in rows if apart else rows[1:]:
                self._fault(row, f"rows {which}{more} have one id, {why}")

    def _splits(self) -> list[str]:
        """Split of each row, "" where none is given; a row of another word is a fault."""
        columns = self._columns
        if not columns.split:
            return [""] * len(columns)
        return self._noted(
            splits_of(
                columns.split,
                columns.table[columns.split],
                lambda why: columns.refused(f"{why}; --split none leaves the column out"),
            )
        ).tolist()

    def _truth(self, name: str) -> NDArray[np.float64]:
        """Numbers to learn, (rows,), NaN where unknown; a row of anything else is a fault."""
        columns = self._columns
        return self._noted(numbers_to_learn(name, columns.table[name], columns.refused))

    def _noted(self, said: Meaning) -> NDArray:
        """The values of a column, of which faults and notes are noted."""
        for row, why in said.faults.items():
            self._fault(row, why)
        self._columns.notes += said.notes
        return said.values

    def _kept(self, files: list[list[str]]) -> dict[str, Array]:
        """What is kept beside the images, by name, but for their positions."""
        table, reading = self._columns.table, self._reading
        names = dict.fromkeys([*reading.keep, *filter(None, [reading.group])])
        taken = {name: kept(table[name]) for name in names}
        if reading.missing_band == "zero" and len(files) > 1:
            taken["missing_bands"] = missing_bands(reading.bands, zip(*files, strict=True))
        return taken

    def _about_commas(self) -> list[str]:
        """Warn of columns that are kept as text because their numbers have decimal commas."""
        warnings = []
        for name in self._reading.keep:
            said = self._columns.texts(name)[numbers(self._columns.table[name])[1]]
            if len(said) and all(hints := [about_comma(text) for text in said]):
                warnings.append(f"column {name} is kept as text, such as {said[0]!r}{hints[0]}")
        return warnings

    def _put(self, listing: Listing, sample: Sample) -> None:
        """Put one row among the samples, the faults, or what is left out as asked."""
        asked = self._places.names[0][sample.row]
        reasons = [*self._faults.get(sample.row, [])]
        if not any(sample.files):
            reasons.append("there is no such file" if asked else "no file is named")
        elif reasons and self._reading.missing_band != "zero":
            reasons += filter(None, [listing.lacks(sample)])
        if reasons:
            listing.refuse(sample, "; ".join(reasons), asked)
        else:
            listing.put(sample, self._reading.missing_band)

    def _about_files(self, listing: Listing, tree: Tree, files: Sequence[Sequence[str]]) -> None:
        """Warn of images without a row, and of files that several rows name."""
        uses = Counter(name for names in files for name in names if name)
        lost = [
            name for name in tree.names
            if name.lower().endswith(SUFFIXES)
            and name not in uses
            and tree.path(name) != self._columns.root
        ]  # fmt: skip
        tables = set(fits_tables(tree, lost))
        if lost := [name for name in lost if name not in tables]:
            more = ", ..." if len(lost) > _SHOWN else ""
            images, have = ("image", "has") if len(lost) == 1 else ("images", "have")
            listing.warnings.append(
                f"{len(lost)} {images} in {self.place} {have} no row in "
                f"{self._columns.root.name}; left out: {', '.join(lost[:_SHOWN])}{more}"
            )
        if twice := [name for name, count in uses.items() if count > 1]:
            files_are = "1 file is" if len(twice) == 1 else f"{len(twice)} files are"
            listing.warnings.append(f"{files_are} named by several rows, such as {twice[0]}")

    def _fault(self, row: int, reason: str) -> None:
        self._faults.setdefault(row, []).append(reason)
