"""A table made piece by piece, by any number of processes, and joined when all pieces are there.

::

    FILE.parts/
      plan.json            the question; another one is refused
      part-00000.parquet   a piece that is complete
    FILE                   the answer: .parquet, or .csv with its question in FILE.json

A piece is written under a temporary name and renamed; so is the answer, by the one process that
claims the folder when it finds all pieces there. An answer is never overwritten.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from deeplense_batch.core import files
from deeplense_batch.core.job import JobError
from deeplense_batch.core.rundir import RunBusyError, RunDir
from deeplense_batch.report.csv_text import plain_text, safe_text

__all__ = ["SUFFIXES", "PiecewiseTable", "TableError", "read_tables"]

SUFFIXES = (".parquet", ".csv")

_KEY = b"deeplense_batch"
_WAIT_SECONDS = 0.2
_ROWS = 4096  # of a table read again

_log = logging.getLogger(__name__)


class TableError(JobError):
    """A file is there that answers something else."""


class PiecewiseTable:
    """A table in the making.

    Arguments:
        file: Where it goes, ``.parquet`` or ``.csv``.
        question: What it answers, as JSON.
        pieces: How many pieces it has.
    """

    def __init__(self, file: Path, *, question: Mapping[str, Any], pieces: int) -> None:
        self.file = file
        self.question = json.loads(json.dumps(question))
        self.pieces = pieces
        self.details: dict[str, Any] = {}
        self._folder = file.with_name(f"{file.name}.parts")
        self._run = RunDir(self._folder)

    def there(self) -> bool:
        """Whether the file is there and answers this very question.

        Raises:
            AnswerError: It answers another one, or nobody knows which.
        """
        if fault := files.no_file(self.file):
            raise TableError(f"{self.file}: {fault}; name another file, or remove it")
        if not self.file.exists():
            return False
        found = _question_of(self.file)
        if found is None:
            raise TableError(f"{self.file}: is there already, and no answer of 'predict'")
        _refuse_other(self.file, found, self.question, "answers another question")
        self._clear()
        return True

    def _clear(self) -> None:
        """Remove the pieces of an answer that is complete."""
        (self._folder / "plan.json").unlink(missing_ok=True)  # without it the rest is nothing
        shutil.rmtree(self._folder, ignore_errors=True)
        files.sweep_beside(self.file)

    def begin(self, details: Callable[[], Mapping[str, Any]]) -> None:
        """Make the folder of the pieces, or go on with the one that is there.

        Arguments:
            details: Asked by whoever begins; all others take up what that one found (`details`).

        Raises:
            AnswerError: Pieces of another question are there.
        """
        plan = self._folder / "plan.json"
        if not plan.exists():
            made = {"question": self.question, "details": dict(details())}
            self._folder.mkdir(parents=True, exist_ok=True)
            self._run.create_text("plan.json", json.dumps(made, indent=1))
        found = self._run.read_json("plan.json")
        if not all(isinstance(found.get(name), dict) for name in ("question", "details")):
            raise TableError(f"{plan}: is none of 'predict'; remove {self._folder}")
        _refuse_other(self._folder, found["question"], self.question, "was begun for another one")
        self.details = found["details"]

    def missing(self) -> list[int]:
        """Numbers of the pieces that are not complete."""
        return [k for k in range(self.pieces) if not self._part(k).exists()]

    def write(self, number: int, table: pa.Table) -> None:
        """Complete one piece."""
        path = self._part(number)
        temporary = files.temporary_name(path)
        pq.write_table(table, temporary, row_group_size=max(len(table), 1))
        _sync(temporary)
        temporary.replace(path)

    def join(self, each: Callable[[], None]) -> list[int]:
        """Make the file of its pieces, once all are complete; one process does, others wait.

        Arguments:
            each: Called now and then.

        Returns:
            Pieces that were damaged meanwhile and are removed, to be made anew; none where the
            file is complete, or pieces are missing that others make.

        Raises:
            AnswerError: Somebody has put another file in its place.
        """
        while not self.missing():
            try:
                with self._run.claim():
                    return self._join(each)
            except RunBusyError:  # at work on it, or it looked before our last piece was there
                each()
                time.sleep(_WAIT_SECONDS)
            except FileNotFoundError:  # the other is through and has cleared the folder
                break
        return []

    def _join(self, each: Callable[[], None]) -> list[int]:
        for k in range(self.pieces):
            try:
                pq.ParquetFile(self._part(k)).close()
            except (pa.ArrowException, OSError) as error:
                _log.warning("%s is damaged (%s); it is made anew", self._part(k), error)
                self._part(k).unlink(missing_ok=True)
                return [k]
        temporary = files.temporary_name(self.file)
        about = {"question": self.question, "details": self.details}
        with _writer(temporary, self.file.suffix, self._schema(about)) as write:
            for k in range(self.pieces):
                write(pq.read_table(self._part(k)))
                each()
        _sync(temporary)
        if self.file.suffix == ".csv":  # which has no place for it
            RunDir(self.file.parent).write_json(f"{self.file.name}.json", about)
        try:
            if not files.link(temporary, self.file):
                self.there()
        finally:
            temporary.unlink(missing_ok=True)
        self._clear()
        return []

    def _schema(self, about: Mapping[str, Any]) -> pa.Schema:
        schema = pq.read_schema(self._part(0))
        return schema.with_metadata({_KEY: json.dumps(about).encode()})

    def _part(self, number: int) -> Path:
        return self._folder / f"part-{number:05d}.parquet"


def read_tables(file: Path, columns: Mapping[str, pa.DataType]) -> Iterator[pa.Table]:
    """Read columns of a .parquet or .csv file again, some thousand rows at a time.

    Arguments:
        file: The answer.
        columns: Types by name, which a .csv does not tell.
    """
    if file.suffix == ".csv":
        options = pa_csv.ConvertOptions(
            include_columns=list(columns),
            column_types=dict(columns),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,  # an id may be "NA"
        )
        with pa_csv.open_csv(file, convert_options=options) as reader:
            for batch in reader:
                yield _texts(pa.Table.from_batches([batch]), plain_text)
        return
    with pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(_ROWS, columns=list(columns)):
            yield pa.Table.from_batches([batch])


@contextlib.contextmanager
def _writer(path: Path, suffix: str, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    """A file of either kind, to which tables are added, a row group each."""
    if suffix == ".csv":
        with pa_csv.CSVWriter(path, schema) as csv:
            yield lambda table: csv.write_table(_texts(table.cast(schema), safe_text))
    else:
        with pq.ParquetWriter(path, schema) as parquet:
            yield lambda table: parquet.write_table(table.cast(schema), row_group_size=len(table))


def _texts(table: pa.Table, change: Callable[[str], str]) -> pa.Table:
    """The table with its texts changed."""
    for place, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            values = table.column(place).to_pylist()
            changed = [None if value is None else change(value) for value in values]
            table = table.set_column(place, field, pa.array(changed, field.type))
    return table


def _question_of(file: Path) -> dict[str, Any] | None:
    """The question that a file says it answers."""
    try:
        if file.suffix == ".csv":
            return dict(RunDir(file.parent).read_json(f"{file.name}.json")["question"])
        metadata = pq.read_schema(file).metadata or {}
        return dict(json.loads(metadata[_KEY])["question"])
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return None


def _refuse_other(
    place: Path, found: Mapping[str, Any], asked: Mapping[str, Any], says: str
) -> None:
    different = [key for key in asked if found.get(key) != asked[key]]
    if different:
        told = "; ".join(f"{key} is {found.get(key)}, asked {asked[key]}" for key in different)
        raise TableError(f"{place}: {says} ({told}); name another file, or remove it")


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        files.sync(file.fileno())
