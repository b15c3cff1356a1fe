"""An attempt at a run: its state, its log and its signals, true however it ends."""

from __future__ import annotations

import contextlib
import logging
import platform
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import FrameType

from deeplense_batch import record
from deeplense_batch.processes import is_main, rank, world_size
from deeplense_batch.rundir import RunDir, Status, now

__all__ = [
    "Interrupt",
    "StoppedError",
    "attempt",
    "failure_told",
    "heart",
    "last_word_left",
    "logging_to",
    "signals",
]

Reasons = Sequence[tuple[type[Exception], str]]  # what to call a failure

_HEARTBEAT_SECONDS = 30.0
_POLL_SECONDS = 0.2

_log = logging.getLogger(__name__)


class StoppedError(RuntimeError):
    """The run was cut short and its state is saved: run it again."""

    exit_code = 85


@dataclass
class Interrupt:
    """A flag that a signal handler sets and the loop looks at between steps."""

    signal: int = 0

    def check(self) -> None:
        """End what is done in steps that are kept.

        Raises:
            StoppedError: A signal came.
        """
        if self.signal:
            raise StoppedError("signal received; what is complete is kept, run it again to go on")


@contextlib.contextmanager
def attempt(directory: RunDir, *, epochs: int, reasons: Reasons = ()) -> Iterator[None]:
    """Keep the state of the run true, however it ends.

    Arguments:
        directory: Which the caller owns.
        epochs: That the run will last.
        reasons: What to call a failure of a kind, first match first; others are ``error``.
    """
    attempt = 1 + sum(line["event"] == "start" for line in directory.read_lines("attempts.jsonl"))
    _bury(directory)
    status = Status(state="running", attempt=attempt, epochs=epochs)
    directory.sweep()
    directory.write_status(status)
    event = {"attempt": attempt, "commit": record.commit(), "devices": world_size()}
    directory.append("attempts.jsonl", {"event": "start", "time": now()} | event)
    started = time.perf_counter()
    state, reason, message = "done", None, None
    try:
        yield
    except (StoppedError, KeyboardInterrupt) as error:
        state, reason, message = "stopped", "signal", str(error) or "interrupted"
        raise
    except Exception as error:
        state = "failed"
        reason, message = _cause(error, reasons)
        if reason == "error":
            _log.error("%s", "".join(traceback.format_exception(error)).rstrip())
        else:
            if isinstance(error, OSError) and error.strerror:  # of a disk: whose, and where
                place = error.filename or directory.path
                message = f"{platform.node()}: {place}: {error.strerror}"
            _log.debug("%s: %s", reason, message)  # for log.txt; who called tells the terminal
        raise
    finally:
        if sys.exc_info()[0] is not None and state == "done":
            state, reason = "stopped", "signal"  # SystemExit and the like
        end = {"event": "end", "time": now(), "state": state, "reason": reason}
        seconds = {"seconds": time.perf_counter() - started, "devices": world_size()}
        try:
            directory.sweep()  # on a full disk that makes room for the lines below
            directory.append("attempts.jsonl", end | {"attempt": attempt} | seconds)
            told = directory.status()
            if told.state == "failed":  # another process did, and this one only noticed
                reason, message = told.reason, told.message
            ended = replace(status, state=state, reason=reason, message=message)
            directory.write_status(replace(ended, epoch=told.epoch))
        except OSError as error:
            if state == "done":
                raise
            _log.error("%s: how it ended cannot be written (%s)", directory.path, error.strerror)


@contextlib.contextmanager
def failure_told(directory: RunDir, reasons: Reasons = ()) -> Iterator[None]:
    """Write why a process of several fails, while the others have not noticed: they fail next."""
    try:
        yield
    except StoppedError:
        raise
    except Exception as error:
        told = directory.status()
        if world_size() > 1 and told.state == "running":
            reason, message = _cause(error, reasons)
            message = f"process {rank()} on {socket.gethostname()}: {message}"
            directory.write_status(replace(told, state="failed", reason=reason, message=message))
        raise


@contextlib.contextmanager
def last_word_left(directory: RunDir) -> Iterator[None]:
    """Have a process beside the first stay until that has written the end of the run.

    SLURM soon ends those that are left when one process has ended.
    """
    try:
        yield
    finally:
        while directory.status().state == "running":
            time.sleep(_POLL_SECONDS)


def _cause(error: Exception, reasons: Reasons) -> tuple[str, str]:
    """What to call a failure, and its sentence."""
    reason = next((name for kind, name in reasons if isinstance(error, kind)), "error")
    return reason, f"{type(error).__name__}: {error}" if reason == "error" else str(error)


def _bury(directory: RunDir) -> None:
    """Write the end of an attempt that was killed: it lasted to its last sign of life."""
    lines = directory.read_lines("attempts.jsonl")
    if not lines or lines[-1]["event"] == "end":
        return
    start, seen = lines[-1], directory.status().updated or lines[-1]["time"]
    lasted = datetime.fromisoformat(seen) - datetime.fromisoformat(start["time"])
    end = {"event": "end", "time": seen, "state": "lost", "reason": None}
    seconds = {"seconds": max(lasted.total_seconds(), 0.0), "devices": start["devices"]}
    directory.append("attempts.jsonl", end | {"attempt": start["attempt"]} | seconds)


def heart(directory: RunDir) -> Callable[[int], None]:
    """A function that tells the epoch to `status.json`, at most every half minute."""
    last = {"time": 0.0, "epoch": -1.0}

    def beat(epoch: int) -> None:
        if not is_main():
            return
        if epoch == last["epoch"] and time.monotonic() - last["time"] < _HEARTBEAT_SECONDS:
            return
        last.update(time=time.monotonic(), epoch=epoch)
        directory.write_status(replace(directory.status(), epoch=epoch))

    return beat


@contextlib.contextmanager
def signals() -> Iterator[Interrupt]:
    """Turn the first TERM, USR2 or Ctrl-C into a flag; a second Ctrl-C interrupts at once.

    Nothing is saved in the handler: it may run in the middle of anything. Signals that came before
    and were held back (`env --block-signal`) come now.
    """
    interrupt = Interrupt()

    def handle(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and interrupt.signal:
            raise KeyboardInterrupt
        interrupt.signal = number

    numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2]
    # A Ctrl-C that the parent keeps to itself stays with it.
    numbers = [n for n in numbers if signal.getsignal(n) != signal.SIG_IGN or n != signal.SIGINT]
    before = {number: signal.signal(number, handle) for number in numbers}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def logging_to(directory: RunDir) -> Iterator[None]:
    """Write what the package logs into ``log.txt`` as well."""
    handler = logging.FileHandler(directory.path / "log.txt", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("deeplense_batch")
    logger.setLevel(logging.DEBUG)  # each handler keeps its own level
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
