"""An attempt at a run: its state, its heartbeat and its log, correct however it ends."""

from __future__ import annotations

import contextlib
import logging
import platform
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from deeplense_batch import models
from deeplense_batch.core import provenance
from deeplense_batch.core.distributed import DeviceError, World, open_world
from deeplense_batch.core.job import JobError
from deeplense_batch.core.processes import (
    Interrupt,
    StoppedError,
    is_main,
    rank,
    signals,
    world_size,
)
from deeplense_batch.core.rundir import RunBusyError, RunDir, RunDirError, Status, now
from deeplense_batch.data.shards import ShardError
from deeplense_batch.models import checkpoint
from deeplense_batch.runs.attempts import close_lost_attempt
from deeplense_batch.runs.preflight import UnfitError
from deeplense_batch.training.precision import PrecisionError
from deeplense_batch.training.trainer import DivergedError

__all__ = [
    "attempt",
    "attempted",
    "heart",
    "logging_to",
    "report_failure",
    "wait_for_main",
]

Reasons = Sequence[tuple[type[Exception], str]]  # what to call a failure
_REASONS: Reasons = (
    (DivergedError, "diverged"),
    (torch.OutOfMemoryError, "oom"),
    (DeviceError, "environment"),
    (models.WeightsError, "environment"),
    (PrecisionError, "environment"),
    (models.ModelError, "data"),
    (ShardError, "data"),
    (UnfitError, "environment"),
    (OSError, "environment"),
    (JobError, "data"),
    (RunDirError, "data"),
    (checkpoint.CheckpointError, "data"),
)
_HEARTBEAT_SECONDS = 30.0
_POLL_SECONDS = 0.2
_log = logging.getLogger(__name__)


@contextlib.contextmanager
def attempted(
    directory: RunDir, *, gpus: int, device: str | None, epochs: int, again: bool = False
) -> Iterator[tuple[World, Interrupt]]:
    """An attempt at a run of one or several processes: owned, logged, its end written.

    Arguments:
        directory: Of the run.
        gpus: That it asks for.
        device: ``cpu`` or ``cuda``, in its place.
        epochs: That the run will last.
        again: Whether it is carried out although it is done.

    Yields:
        The processes of the run, and the flag that a signal sets.

    Raises:
        RunBusyError: Another process is at work on it, or has just carried it out.
        DeviceError: A GPU was asked for and there is none.
    """
    with contextlib.ExitStack() as stack:
        interrupt = stack.enter_context(signals())  # to the end: processes wait for the first one
        if is_main():
            stack.enter_context(directory.claim())
            directory.check()
            # While this process came to claim it.
            if not again and directory.status().state == "done":
                raise RunBusyError(f"{directory.path}: another process has just carried it out")
            stack.enter_context(logging_to(directory))
            stack.enter_context(attempt(directory, epochs=epochs, reasons=_REASONS))
        else:
            stack.enter_context(wait_for_main(directory))
            stack.enter_context(report_failure(directory, _REASONS))
        world = stack.enter_context(open_world(gpus=gpus, device=device))
        stack.enter_context(report_failure(directory, _REASONS))
        yield world, interrupt


@contextlib.contextmanager
def attempt(directory: RunDir, *, epochs: int, reasons: Reasons = ()) -> Iterator[None]:
    """Keep the state of the run true, however it ends.

    Arguments:
        directory: Which the caller owns.
        epochs: That the run will last.
        reasons: What to call a failure of a kind, first match first; others are ``error``.
    """
    attempt = 1 + sum(line["event"] == "start" for line in directory.read_lines("attempts.jsonl"))
    close_lost_attempt(directory)
    status = Status(state="running", attempt=attempt, epochs=epochs)
    directory.sweep()
    directory.write_status(status)
    event = {"attempt": attempt, "commit": provenance.commit(), "devices": world_size()}
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
        reason, message = _logged_cause(directory, error, reasons)
        raise
    finally:
        if sys.exc_info()[0] is not None and state == "done":
            state, reason = "stopped", "signal"  # SystemExit and the like
        end = {"event": "end", "time": now(), "state": state, "reason": reason}
        seconds = {"seconds": time.perf_counter() - started, "devices": world_size()}
        try:
            directory.sweep()  # on a full disk that makes room for the lines below
            directory.append("attempts.jsonl", end | {"attempt": attempt} | seconds)
            current = directory.status()
            if current.state == "failed":  # another process of the run failed and wrote why
                reason, message = current.reason, current.message
            ended = replace(status, state=state, reason=reason, message=message)
            directory.write_status(replace(ended, epoch=current.epoch))
        except OSError as error:
            if state == "done":
                raise
            _log.error("%s: how it ended cannot be written (%s)", directory.path, error.strerror)


@contextlib.contextmanager
def report_failure(directory: RunDir, reasons: Reasons = ()) -> Iterator[None]:
    """Write why a process of several fails, while the others have not noticed: they fail next."""
    try:
        yield
    except StoppedError:
        raise
    except Exception as error:
        current = directory.status()
        if world_size() > 1 and current.state == "running":
            reason, message = _cause(error, reasons)
            message = f"process {rank()} on {socket.gethostname()}: {message}"
            directory.write_status(
                replace(current, state="failed", reason=reason, message=message)
            )
        raise


@contextlib.contextmanager
def wait_for_main(directory: RunDir) -> Iterator[None]:
    """Have a process stay until the first process has written how the run ended.

    SLURM soon ends those that are left when one process has ended.
    """
    try:
        yield
    finally:
        while directory.status().state == "running":
            time.sleep(_POLL_SECONDS)


def heart(directory: RunDir) -> Callable[[int], None]:
    """A function that writes the epoch into `status.json`: a new one at once, else every 30 s."""
    last = {"time": 0.0, "epoch": -1.0}
    written = directory.status()

    def beat(epoch: int) -> None:
        nonlocal written
        if not is_main():
            return
        if epoch == last["epoch"] and time.monotonic() - last["time"] < _HEARTBEAT_SECONDS:
            return
        last.update(time=time.monotonic(), epoch=epoch)
        current = directory.status()
        # Another process may have written that it failed; any other state is of a lost file.
        written = replace(current if current.state == "failed" else written, epoch=epoch)
        directory.write_status(written)

    return beat


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


def _cause(error: Exception, reasons: Reasons) -> tuple[str, str]:
    """What to call a failure, and its sentence."""
    reason = next((name for kind, name in reasons if isinstance(error, kind)), "error")
    return reason, f"{type(error).__name__}: {error}" if reason == "error" else str(error)


def _logged_cause(directory: RunDir, error: Exception, reasons: Reasons) -> tuple[str, str]:
    """Cause and sentence of a failure that ends an attempt, after logging it."""
    reason, message = _cause(error, reasons)
    if reason == "error":
        _log.error("%s", "".join(traceback.format_exception(error)).rstrip())
        return reason, message
    if isinstance(error, OSError) and error.strerror:  # of a disk: which machine's, which file
        path = error.filename or directory.path
        message = f"{platform.node()}: {path}: {error.strerror}"
    _log.debug("%s: %s", reason, message)  # for log.txt; the caller prints it
    return reason, message
