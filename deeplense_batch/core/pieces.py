"""Work in pieces: made by any number of processes, and joined when all pieces are there.

::

    <folder>/
      plan.json   what is made; the process that begins writes it, all others read it
      claim       held by the one process that joins the pieces
      ...         the pieces, one file each

A piece is written under a temporary name and then renamed, so that a file with the name of a piece
is complete. Processes need not know of each other, and each may be killed at any moment: whoever
comes next with the same plan makes what is missing. The folder is removed last, when what it was
for is complete; without its plan it is nothing.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from tqdm import tqdm

from deeplense_batch.core.rundir import RunBusyError, RunDir

__all__ = ["DamagedPieceError", "Pieces", "Progress", "remove_pieces"]

_WAIT_SECONDS = 0.2
_LOG_SECONDS = 10.0

_log = logging.getLogger(__name__)

Piece = TypeVar("Piece", bound=Hashable)


class DamagedPieceError(ValueError):
    """The file of a piece is not what was written into it."""

    exit_code = 3

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: was damaged after it was made ({reason})")
        self.path = path


class Pieces(ABC, Generic[Piece]):
    """What is made in pieces.

    Arguments:
        folder: Holds the pieces until they are joined.
        pieces: Names or numbers of all of them.
    """

    def __init__(self, folder: Path, pieces: Sequence[Piece]) -> None:
        self.folder = folder
        self.pieces = pieces
        self._run = RunDir(folder)

    @abstractmethod
    def path_of(self, piece: Piece) -> Path:
        """The file that a piece is, or will be."""

    @abstractmethod
    def _join(self, on_batch: Callable[[], None]) -> None:
        """Make the whole of all pieces; may be broken off and called again.

        Raises:
            DamagedPieceError: A piece cannot be used.
        """

    def begin(self, plan: Callable[[], Mapping[str, Any]]) -> bool:
        """Make the folder and write the plan, unless there is one.

        Arguments:
            plan: Gives what is made, as JSON; called only where there is no plan yet.

        Returns:
            Whether this process wrote it.
        """
        if (self.folder / "plan.json").exists():
            return False
        text = json.dumps(plan(), indent=1)
        self.folder.mkdir(parents=True, exist_ok=True)
        return self._run.create_text("plan.json", text)

    def plan(self) -> dict[str, Any]:
        """What the pieces in the folder are for.

        Raises:
            FileNotFoundError: There is no plan.
            RunDirError: It cannot be read.
        """
        return self._run.read_json("plan.json")

    def missing(self) -> list[Piece]:
        """The pieces that are not complete."""
        return [piece for piece in self.pieces if not self.path_of(piece).exists()]

    def complete(
        self,
        own: Iterable[Piece],
        make: Callable[[Sequence[Piece]], None],
        on_batch: Callable[[], None],
    ) -> None:
        """Make one's own pieces that are missing, and join all when they are there.

        Arguments:
            own: The pieces of this process. A damaged one of another process is made here too.
            make: Makes some pieces.
            on_batch: As in `join`.
        """
        missing = set(self.missing())
        to_make = [piece for piece in own if piece in missing]
        while True:
            make(to_make)
            to_make = self.join(on_batch)
            if not to_make:
                return

    def join(self, on_batch: Callable[[], None]) -> list[Piece]:
        """Make the whole, once all pieces are complete; one process does, others wait for it.

        Arguments:
            on_batch: Called now and then; what it raises ends the joining, to go on later.

        Returns:
            Pieces that were damaged meanwhile and are removed, to be made anew; none where the
            whole is complete, or where pieces are missing that others make.
        """
        while not self.missing():
            try:
                with self._run.claim():
                    return self._join_or_remove_damaged(on_batch)
            except RunBusyError:  # another joins, or looked before our last piece was there
                on_batch()
                time.sleep(_WAIT_SECONDS)
            except FileNotFoundError:
                if (self.folder / "plan.json").exists():
                    raise
                break  # another has joined them and removes the folder, its plan first
        return []

    def clear(self) -> None:
        """Remove the folder, when the whole is complete."""
        remove_pieces(self.folder)

    def _join_or_remove_damaged(self, on_batch: Callable[[], None]) -> list[Piece]:
        try:
            self._join(on_batch)
        except DamagedPieceError as error:
            damaged = [piece for piece in self.pieces if self.path_of(piece) == error.path]
            if not damaged:
                raise  # of a file that is not ours to make
            _log.warning("%s; it is made anew", error)
            error.path.unlink(missing_ok=True)
            return damaged
        self.clear()
        return []


def remove_pieces(folder: Path) -> None:
    """Remove the folder of pieces that are joined."""
    (folder / "plan.json").unlink(missing_ok=True)  # first: without it the rest is nothing
    shutil.rmtree(folder, ignore_errors=True)


class Progress:
    """How many images are done: a bar on a terminal, a line in the log now and then elsewhere.

    Used as a context manager.

    Arguments:
        done: What is done with them, such as ``made``.
        total: How many there are.
        log_end: Whether the log has a line when all are done; not where they may yet be refused.
    """

    def __init__(self, done: str, total: int, *, log_end: bool = True) -> None:
        self._verb, self._total, self.count, self._log_end = done, total, 0, log_end
        self._bar = tqdm(total=total, unit="image", disable=not sys.stderr.isatty(), leave=False)
        self._started = self._logged = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advance(self, images: int) -> None:
        """Count images that were done."""
        self.count += images
        self._bar.update(images)
        now = time.monotonic()
        done = self._log_end and self.count == self._total
        if self._bar.disable and (done or now - self._logged > _LOG_SECONDS):
            rate = self.count / max(now - self._started, 1e-9)
            _log.info("%s %d of %d images, %.0f/s", self._verb, self.count, self._total, rate)
            self._logged = now
