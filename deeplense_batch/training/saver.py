"""What a training writes while it goes on: states are copied at once, and written by a thread.

A state is copied where it is (to pinned memory from a GPU, in the order of its stream, so that not
even the copy is waited for), and written whole or not at all (`models.checkpoint`) while the next
steps are made. Where the disk is slower than the epochs, a newer state takes the place of one that
is not begun: of each file at most two states wait or are being written, and what is on the disk is
never older than the last two. The best weights are written before the checkpoint that names them.
"""

from __future__ import annotations

import copy
import platform
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from deeplense_batch.core.rundir import RunDir
from deeplense_batch.models import checkpoint
from deeplense_batch.models.checkpoint import CHECKPOINT

__all__ = ["BEST", "Saver", "snapshot"]

BEST = "best.pt"


@dataclass(frozen=True)
class _Snapshot:
    """A state in memory of its own."""

    state: dict[str, Any]
    copied: torch.cuda.Event | None  # when it is whole, of one that comes from a GPU

    def whole(self) -> dict[str, Any]:
        """The state, once all of it is copied."""
        if self.copied is not None:
            self.copied.synchronize()
        return self.state


@dataclass
class _Pending:
    """What is not begun to be written."""

    states: dict[str, _Snapshot] = field(default_factory=dict)  # the newest of each name
    lines: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)  # all, in order
    task: Callable[[], None] | None = None


def snapshot(state: dict[str, Any]) -> _Snapshot:
    """Copy a state, so that the training may go on changing its tensors."""
    copied = None
    made = _copied(state)
    if torch.cuda.is_initialized():
        copied = torch.cuda.Event(blocking=True)  # the thread sleeps: no core is kept busy
        copied.record()
    return _Snapshot(made, copied)


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        if not value.is_cuda:
            return value.detach().clone()
        pinned = torch.empty_like(value, device="cpu", pin_memory=True)
        return pinned.copy_(value.detach(), non_blocking=True)
    if isinstance(value, Mapping):
        made = copy.copy(value)  # of its own class, with the versions that torch keeps in it
        for name, item in value.items():
            made[name] = _copied(item)  # type: ignore[index]
        return made
    return [_copied(item) for item in value] if isinstance(value, list) else value


class Saver:
    """Writes what a training leaves on the disk; a context manager, which ends when it is there.

    Arguments:
        run: The run directory.
    """

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._lock = threading.Lock()
        self._pending = _Pending()
        self._writing = False
        self._last: Future[None] | None = None
        self.seconds = 0.0  # that the training spent on copies, and on waiting where it had to

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        started = time.perf_counter()
        self._thread.shutdown(wait=True)
        self.seconds += time.perf_counter() - started
        if kind is None:
            self._raise()

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Have a state written as `BEST` or as the newest checkpoint.

        Raises:
            OSError: Something earlier could not be written, such as to a full disk.
            ChildProcessError: No thread could be started.
        """
        started = time.perf_counter()
        taken = snapshot(state)
        self._add(lambda pending: pending.states.update({name: taken}))
        self.seconds += time.perf_counter() - started

    def append(self, name: str, line: Mapping[str, Any]) -> None:
        """Have a line added to a ``.jsonl`` file, before any state that is saved after it."""
        self._add(lambda pending: pending.lines.append((name, line)))

    def afterwards(self, task: Callable[[], None]) -> None:
        """Have something done when all else is on the disk, unless a newer task comes first."""
        self._add(lambda pending: setattr(pending, "task", task))

    def wait(self) -> None:
        """Wait until all is on the disk.

        Raises:
            OSError: Something could not be written.
        """
        started = time.perf_counter()
        self._raise()
        self.seconds += time.perf_counter() - started

    def _add(self, change: Callable[[_Pending], object]) -> None:
        with self._lock:
            change(self._pending)
            idle = not self._writing
        if idle:  # the thread has left: nothing is taken from what waits until the next begins
            self._raise()
            self._writing = True
            self._last = self._submitted()

    def _submitted(self) -> Future[None]:
        try:
            return self._thread.submit(self._write)
        except RuntimeError as error:
            raise ChildProcessError(
                f"{platform.node()}: the thread that writes checkpoints could not be started "
                f"({error}): more memory or processes (ulimit -u) may do"
            ) from error

    def _raise(self) -> None:
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def _write(self) -> None:
        while True:
            with self._lock:
                pending, self._pending = self._pending, _Pending()
                self._writing = bool(pending.states or pending.lines or pending.task)
                if not self._writing:
                    return
            try:
                self._write_all(pending)
            except BaseException:
                with self._lock:
                    self._writing = False
                raise

    def _write_all(self, pending: _Pending) -> None:
        """What a state speaks of comes before it: the best weights, the epochs of the history."""
        if BEST in pending.states:
            checkpoint.save(self._run.path / BEST, pending.states[BEST].whole())
        for name, line in pending.lines:
            self._run.append(name, line)
        if CHECKPOINT in pending.states:
            checkpoint.save_checkpoint(self._run.path, pending.states[CHECKPOINT].whole())
        if pending.task is not None:
            pending.task()
