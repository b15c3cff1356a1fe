"""A table made piece by piece (`core.pieces`), by any number of processes.

::

    FILE.parts/
      plan.json            the question; another one is refused
      part-00000.parquet   a piece that is complete
    FILE                   the answer: .parquet, or .csv with its question in FILE.json

The answer too is written under a temporary name and then renamed. It is never overwritten.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from deeplense_batch.core import files
from deeplense_batch.core.job import JobError
from deeplense_batch.core.pieces import DamagedPieceError, Pieces
from deeplense_batch.core.rundir import RunDir
from deeplense_batch.report.csv_text import plain_text, safe_text

__all__ = ["SUFFIXES", "PiecewiseTable", "TableError", "read_tables"]

SUFFIXES = (".parquet", ".csv")

_KEY = b"deeplense_batch"
_ROWS = 4096  # of a table read again


class TableError(JobError):
    """A file is there that answers another question."""


class PiecewiseTable(Pieces[int]):
    """A table that is made in pieces.

    Arguments:
        file: The table, ``.parquet`` or ``.csv``.
        question: What it answers, as JSON.
        pieces: How many pieces it has.
    """

    def __init__(self, file: Path, *, question: Mapping[str, Any], pieces: int) -> None:
        super().__init__(file.with_name(f"{file.name}.parts"), range(pieces))
        self.file = file
        self.question = json.loads(json.dumps(question))
        self.details: dict[str, Any] = {}

    def is_complete(self) -> bool:
        """Whether the file is there and answers this very question.

        Raises:
            TableError: It answers another one, or does not say which.
        """
        if fault := files.no_file(self.file):
            raise TableError(f"{self.file}: {fault}; name another file, or remove it")
        if not self.file.exists():
            return False
        answered = _question_of(self.file)
        if answered is None:
            raise TableError(f"{self.file}: is there already, and no answer of 'predict'")
        self._refuse_other(self.file, answered, "answers another question")
        self.clear()
        return True

    def start(self, details: Callable[[], Mapping[str, Any]]) -> None:
        """Make the folder of the pieces, or go on with the one that is there.

        Arguments:
            details: What a reader may want to know, as JSON; asked of the process that begins, and
                all others take over what it wrote (`details`).

        Raises:
            TableError: Pieces of another question are there.
        """
        self.begin(lambda: {"question": self.question, "details": dict(details())})
        plan = self.plan()
        if not all(isinstance(plan.get(name), dict) for name in ("question", "details")):
            raise TableError(
                f"{self.folder / 'plan.json'}: is none of 'predict'; remove {self.folder}"
            )
        self._refuse_other(self.folder, plan["question"], "was begun for another one")
        self.details = plan["details"]

    def write(self, number: int, table: pa.Table) -> None:
        """Complete one piece."""
        path = self.path_of(number)
        temporary = files.temporary_name(path)
        pq.write_table(table, temporary, row_group_size=max(len(table), 1))
        _sync(temporary)
        temporary.replace(path)

    def path_of(self, piece: int) -> Path:
        """The file of a piece."""
        return self.folder / f"part-{piece:05d}.parquet"

    def clear(self) -> None:
        """Remove the pieces of a table that is complete, and what killed writers of it left."""
        super().clear()
        files.sweep_beside(self.file)

    def _join(self, on_batch: Callable[[], None]) -> None:
        paths = [self.path_of(number) for number in self.pieces]
        for path in paths:
            try:
                pq.ParquetFile(path).close()
            except (pa.ArrowException, OSError) as error:
                raise DamagedPieceError(path, str(error)) from error
        temporary = files.temporary_name(self.file)
        about = {"question": self.question, "details": self.details}
        schema = pq.read_schema(paths[0]).with_metadata({_KEY: json.dumps(about).encode()})
        with _writer(temporary, self.file.suffix, schema) as write:
            for path in paths:
                write(pq.read_table(path))
                on_batch()
        _sync(temporary)
        if self.file.suffix == ".csv":  # which has no place for it
            RunDir(self.file.parent).write_json(f"{self.file.name}.json", about)
        try:
            if not files.link(temporary, self.file):
                self.is_complete()  # another process put a file there meanwhile
        finally:
            temporary.unlink(missing_ok=True)

    def _refuse_other(self, path: Path, question: Mapping[str, Any], says: str) -> None:
        differences = "; ".join(
            f"{key} is {question.get(key)}, asked {asked}"
            for key, asked in self.question.items()
            if question.get(key) != asked
        )
        if differences:
            raise TableError(f"{path}: {says} ({differences}); name another file, or remove it")


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
    for column, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            values = table.column(column).to_pylist()
            changed = [None if value is None else change(value) for value in values]
            table = table.set_column(column, field, pa.array(changed, field.type))
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


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        files.sync(file.fileno())
