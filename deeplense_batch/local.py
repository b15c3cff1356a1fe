"""The slots of one machine: a queue in front of submitit's local executor, which has none.

submitit starts one process for each run (`Worker`) and writes its output to a log; here it is
handed a run only when a slot is free. What became of a run is read from its directory, never from
submitit's pickles or exit codes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import submitit

from deeplense_batch.plan import Planned
from deeplense_batch.rundir import RunDir, Status

__all__ = ["Worker", "run_here", "run_queue"]

_POLL_SECONDS = 0.2
_NEVER_MINUTES = 60 * 24 * 365  # submitit kills after 2 minutes unless told; hours are SLURM's

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Worker:
    """What a process that submitit started does: one run. Holds text only, and no checkpoint."""

    path: str
    device: str | None = None

    def __call__(self) -> None:
        """Carry out the run; a run cut short with its state saved exits 85."""
        from deeplense_batch.launch import carry_out
        from deeplense_batch.plan import reopen

        logging.getLogger("deeplense_batch").setLevel(logging.INFO)
        try:
            code = carry_out(reopen(self.path), device=self.device)
        except Exception as error:
            if type(error).__name__ != "StoppedError":  # its class would load torch
                raise
            code = 85
        if code:
            sys.exit(code)


def run_here(planned: Sequence[Planned], folder: Path, *, device: str | None) -> None:
    """Carry out runs in this process, one after the other; a failed one does not stop the rest."""
    executor = submitit.DebugExecutor(folder)
    for item in planned:
        job = executor.submit(Worker(str(item.run.path.absolute()), device))
        job.exception()  # carries the run out; unlike result(), it never opens a debugger
        _say(item.run)


def run_queue(
    planned: Sequence[Planned], folder: Path, *, parallel: int, device: str | None
) -> None:
    """Carry out runs in processes of their own, at most `parallel` at a time.

    Ctrl-C and TERM are passed on: the runs save their state and end as ``stopped``, and those that
    had not begun are ``planned`` again.

    Arguments:
        planned: Runs whose directories are made.
        folder: Where submitit keeps its logs.
        parallel: Slots; a run takes one, or one for each GPU, with the GPU of that number.
        device: ``cpu`` or ``cuda``, in place of what the jobs ask for.
    """
    waiting = list(planned)
    for item in waiting:
        item.run.write_status(Status(state="queued", epochs=item.job.epochs))
    free = list(range(parallel))
    running: list[_Running] = []
    done = 0
    try:
        with _term_as_interrupt():
            while waiting or running:
                while waiting and len(free) >= _places(waiting[0], device, parallel):
                    item = waiting.pop(0)
                    places = [free.pop(0) for _ in range(_places(item, device, parallel))]
                    running.append(_Running(_start(item, places, folder, device), item, places))
                    _log.info("started %s", item.run.name)
                time.sleep(_POLL_SECONDS)
                for ended in [r for r in running if r.job.done()]:
                    running.remove(ended)
                    free = sorted(free + ended.places)
                    done += 1
                    _say(ended.item.run, f" ({done} of {len(planned)})")
    finally:
        for item in waiting:
            item.run.write_status(Status())
        _stop(running)


@dataclass
class _Running:
    job: submitit.Job[None]
    item: Planned
    places: list[int]


def _places(item: Planned, device: str | None, parallel: int) -> int:
    """Slots that a run takes: one for each GPU; never more than there are, or it would wait on."""
    gpus = 0 if device == "cpu" else item.job.resources.gpus
    return min(max(gpus, 1), parallel)


def _start(
    item: Planned, places: list[int], folder: Path, device: str | None
) -> submitit.Job[None]:
    executor = submitit.LocalExecutor(folder)
    gpus = item.job.resources.gpus if device != "cpu" else 0
    executor.update_parameters(
        timeout_min=_NEVER_MINUTES,
        gpus_per_node=len(places) if gpus else 0,
        visible_gpus=places if gpus else (),
        stderr_to_stdout=True,
    )
    threads = str(item.job.resources.cpus)
    variables = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1"}
    with _environment(variables), _interrupt_ignored():
        return executor.submit(Worker(str(item.run.path.absolute()), device))


def _say(run: RunDir, count: str = "") -> None:
    status = run.status()
    if status.state == "done":
        _log.info("done %s, %s%s", run.name, run.read_json("metrics.json")["summary"], count)
    else:
        _log.warning("%s %s: %s%s", status.state, run.name, status.message or "no reason", count)


def _stop(running: Sequence[_Running]) -> None:
    """Ask every run to save and end, and wait for it."""
    for one in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(one.job.job_id), signal.SIGTERM)  # submitit's controller passes it on
    if running:
        _log.warning("stopping %d runs; they save their state first", len(running))
    while any(not one.job.done() for one in running):
        time.sleep(_POLL_SECONDS)
    for one in running:
        _say(one.item.run)


@contextlib.contextmanager
def _interrupt_ignored() -> Iterator[None]:
    """Start children that a terminal's Ctrl-C does not reach: the queue tells them in order."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _term_as_interrupt() -> Iterator[None]:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
