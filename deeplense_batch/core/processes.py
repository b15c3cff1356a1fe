"""Which process of its run this one is, and the signals that are sent to it.

One convention: ``RANK``, ``LOCAL_RANK``, ``WORLD_SIZE``, ``LOCAL_WORLD_SIZE``, ``MASTER_ADDR``,
``MASTER_PORT``, set by torchrun, by `launch` or from srun's own. Other programs set some of them
too: a pod of Kubeflow that has several GPUs gets rank 0 of 1.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = [
    "Interrupt",
    "StartError",
    "StoppedError",
    "forget",
    "handled_by",
    "is_alive",
    "is_main",
    "local_rank",
    "local_size",
    "meeting_place",
    "rank",
    "signals",
    "started",
    "this_process",
    "world_size",
]

_HEARTBEAT_SECONDS = 600.0  # of another host; older is taken for dead
Handler = Callable[[int, FrameType | None], Any] | signal.Handlers

_NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class StartError(ValueError):
    """The environment describes this process in a way that cannot be."""

    exit_code = 3


def is_main() -> bool:
    """Whether this is the process that writes; known before the processes have met."""
    return rank() == 0


def rank() -> int:
    """The number of this process among those of its run."""
    return started()[0]


def world_size() -> int:
    """How many processes carry out this run."""
    return started()[1]


def local_size() -> int:
    """How many of them share this machine, and its memory."""
    size = world_size()
    return size if size == 1 else _number("LOCAL_WORLD_SIZE", 1, size, missing=1)


def local_rank() -> int:
    """The number of this process among those of this machine: that of its GPU."""
    size = world_size()
    return 0 if size == 1 else _number("LOCAL_RANK", 0, size - 1, missing=0)


def started() -> tuple[int, int]:
    """Rank and number of the processes that a launcher started; (0, 1) without a launcher.

    Raises:
        StartError: The variables are incomplete, or contradict each other.
    """
    given = [name for name in ("RANK", "WORLD_SIZE") if name in os.environ]
    if not given:
        return 0, 1
    if len(given) == 1:
        lacking = "WORLD_SIZE" if given == ["RANK"] else "RANK"
        raise StartError(
            f"{given[0]}={os.environ[given[0]]} is set and {lacking} is not; torchrun sets both, "
            f"and 'unset {given[0]}' starts one run by itself"
        )
    size = _number("WORLD_SIZE", 1, None)
    return _number("RANK", 0, size - 1), size


def meeting_place() -> tuple[str, int]:
    """Host and port at which the processes of a run meet.

    Raises:
        StartError: The environment names none.
    """
    lacking = " and ".join(n for n in ("MASTER_ADDR", "MASTER_PORT") if not os.environ.get(n))
    if lacking:
        raise StartError(
            f"RANK={rank()} and WORLD_SIZE={world_size()} are set and {lacking} not, by which "
            "processes meet; torchrun sets all, and 'unset RANK WORLD_SIZE' starts one run by "
            "itself"
        )
    return os.environ["MASTER_ADDR"], _number("MASTER_PORT", 1, 65535)


def forget(environ: MutableMapping[str, str]) -> None:
    """Remove the variables that make this process one of several: it starts others."""
    for name in [*environ]:
        if name in _NAMES or name.startswith("TORCHELASTIC_"):
            del environ[name]


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
    with handled_by(handle, *numbers):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
        yield interrupt


@contextlib.contextmanager
def handled_by(handler: Handler, *numbers: int) -> Iterator[None]:
    """Handle signals in one way for a while, then as before.

    Arguments:
        handler: A function of the signal's number and the frame, or `signal.SIG_IGN`.
        numbers: The signals.
    """
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _number(name: str, least: int, most: int | None, missing: int | None = None) -> int:
    text = os.environ.get(name)
    if text is None and missing is not None:
        return missing
    if text and text.isascii() and text.isdecimal() and least <= int(text) <= (most or 2**31):
        return int(text)
    allowed = f"{least} or more" if most is None else f"{least} to {most}"
    raise StartError(f"{name}={text} is set in the environment; expected a number of {allowed}")


def this_process() -> dict[str, Any]:
    """Host, number and start of this process, by which `is_alive` knows it again."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "pid": pid, "started": _start_of(pid)}


def is_alive(
    host: str | None, pid: int | None, started: float | None, updated: str | None
) -> bool:
    """Whether a process still runs.

    Arguments:
        host: Where it runs. Of another host than this one only its last sign of life is known.
        pid: Its number.
        started: When it began, as the kernel counts: numbers of processes are used again.
        updated: Its last sign of life, UTC, ISO 8601.
    """
    if pid is None or not 0 < pid < 2**31:
        return False
    if host == socket.gethostname():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return _start_of(pid) == started
    if updated is None:
        return False
    age = datetime.now(UTC) - datetime.fromisoformat(updated)
    return age.total_seconds() < _HEARTBEAT_SECONDS


def _start_of(pid: int) -> float | None:
    """Kernel's start time of a process in clock ticks since boot; None where /proc is not.

    -1 for a process that has ended but was not waited for.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    state, *numbers = stat.rpartition(")")[2].split()
    return -1.0 if state == "Z" else float(numbers[18])
