"""The executors of this machine: a queue of processes (`Local`), or this process (`Debug`).

submitit's local executor starts a process for each run (`Worker`) and writes its output to a log,
but it has no queue: `Local` gives it a run only when a GPU or cores are free for it. How a run
ended is read from its directory, not from submitit's pickles or exit codes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import submitit
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from deeplense_batch.cluster.executor import Executor, Options
from deeplense_batch.cluster.record import open_record, write_record
from deeplense_batch.core import provenance
from deeplense_batch.core.job import JobError, Resources
from deeplense_batch.core.machine import cores
from deeplense_batch.core.processes import StoppedError, forget, handled_by
from deeplense_batch.core.result import read_metrics
from deeplense_batch.core.rundir import RunDir, RunDirError, Status
from deeplense_batch.runs.launch import execute, needs, report_not_begun
from deeplense_batch.runs.planning.plan import PlannedRun, reopen

__all__ = ["Debug", "Local", "Worker", "run_queue"]

_POLL_SECONDS = 0.2
_NEVER_MINUTES = 60 * 24 * 365  # submitit kills after 2 minutes by default; hours are for SLURM

_log = logging.getLogger(__name__)


class Local(Executor):
    """Processes of this machine, as many at a time as it has GPUs or cores for."""

    name = "local"
    flags = (*Executor.flags, "jobs_per_gpu")

    def check(self, todo: Sequence[PlannedRun]) -> None:
        """Make sure that no run asks for more GPUs than this machine has, where it has some.

        Raises:
            JobError: One does.
        """
        gpus = [(needs(item.job, self.options.device).gpus, item.job.name) for item in todo]
        needed, name = max(gpus)
        if needed and 0 < (visible := len(_visible_gpus())) < needed:
            raise JobError(
                f"{name}: resources.gpus: asks for {needed}, this machine shows {visible}"
            )

    def submit(self, todo: Sequence[PlannedRun]) -> None:
        """Carry out runs; returns when all have ended."""
        run_queue(todo, _logs(self, todo), self.options)


class Debug(Executor):
    """This process, one run after the other."""

    name = "debug"

    def check(self, todo: Sequence[PlannedRun]) -> None:
        """Nothing: a run that cannot start here says so itself."""

    def submit(self, todo: Sequence[PlannedRun]) -> None:
        """Carry out runs in this process; a failed one does not stop the rest."""
        _logs(self, todo)
        for item in todo:
            before = _status_of(item.run)
            try:
                Worker(str(item.run.path.absolute()), self.options.device)()
            except SystemExit as end:
                if end.code == StoppedError.exit_code:  # a signal came: the rest are not begun
                    raise
            except Exception as error:
                if _status_of(item.run) == before:
                    _log.warning("did not begin %s: %s", item.run.name, error)
                    continue
            _log_end(item.run)


def _logs(executor: Executor, todo: Sequence[PlannedRun]) -> Path:
    """Write the record of a submission; returns the folder for the logs of its processes."""
    folder = open_record(executor.out)
    runs = [{"run": str(item.run.path.absolute())} for item in todo]
    write_record(folder, runs, cluster=executor.name)
    return folder / "logs"


@dataclass(frozen=True)
class Worker:
    """One run, in this process or in one that submitit starts, which pickles it: only text."""

    path: str
    device: str | None = None
    gpus: tuple[str, ...] = ()  # as CUDA_VISIBLE_DEVICES names them; submitit takes numbers only
    shared: bool = False  # whether other runs use the same GPUs

    def __call__(self) -> None:
        """Carry out the run; one cut short with its state saved exits 85."""
        forget(os.environ)
        if self.gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        if self.shared:
            os.environ[provenance.SHARED] = "1"
        logging.getLogger("deeplense_batch").setLevel(logging.INFO)
        try:
            code = execute(reopen(self.path), device=self.device)
        except StoppedError:
            code = StoppedError.exit_code
        if code:
            sys.exit(code)


def run_queue(planned: Sequence[PlannedRun], logs: Path, options: Options) -> None:
    """Carry out runs in processes of their own, as many at a time as the machine takes.

    Runs that another submit has taken meanwhile are left to it. Ctrl-C and TERM are passed on:
    runs at work save their state and end as ``stopped``, waiting ones are as they were.

    Arguments:
        planned: Runs whose directories are made.
        logs: Where submitit keeps its logs.
        options: Which device, how many runs at a time, how many share a GPU.
    """
    queue = _Queue(planned, logs, options)
    try:
        with handled_by(_interrupt, signal.SIGTERM), _Progress() as progress:
            queue.take()
            progress.begin([waiting.item for waiting in queue.waiting])
            while queue.waiting or queue.running:
                queue.start()
                time.sleep(_POLL_SECONDS)
                queue.note_ended()
                progress.show()
    finally:
        queue.close()


class _Queue:
    """Runs that wait, and runs at work with the GPUs that each holds."""

    def __init__(self, planned: Sequence[PlannedRun], logs: Path, options: Options) -> None:
        self.waiting: list[_Waiting] = []
        self.running: list[_Running] = []
        self._planned = planned
        self._logs = logs
        self._device = options.device
        self._shared = options.jobs_per_gpu > 1
        needed = [needs(item.job, options.device) for item in planned]
        on_gpus = any(run.gpus for run in needed)
        names = _visible_gpus() if on_gpus else []
        self._needed = [min(run.gpus, len(names)) for run in needed]
        self._free = names * options.jobs_per_gpu
        room = max(len(self._free), 1) if on_gpus else _room(needed)
        self._most = options.parallel or room
        self._total = 0

    def take(self) -> None:
        """Have the runs wait for this process; those that another one has are left out."""
        for item, gpus in zip(self._planned, self._needed, strict=True):
            try:
                before = item.take()
            except RunDirError as error:
                _log.warning("left out %s: %s", item.run.name, error)
                continue
            if before is not None:
                self.waiting.append(_Waiting(item, gpus, before))
        self._total = len(self.waiting)

    def start(self) -> None:
        """Start the runs at the head of the queue for which there is room."""
        while self.waiting and len(self.running) < self._most:
            item = self.waiting[0].item
            gpus = _lease(self._free, self.waiting[0].gpus)
            if gpus is None:
                return
            job = _start(item, gpus, self._logs, self._device, self._shared)
            self.running.append(_Running(job, item, gpus))
            del self.waiting[0]
            _log.info("started %s", item.run.name)

    def note_ended(self) -> None:
        """Free the GPUs of runs that have ended, and log how they did."""
        for ended in [running for running in self.running if running.job.done()]:
            self.running.remove(ended)
            self._free += ended.gpus
            _report_not_begun(ended)
            count = self._total - len(self.waiting) - len(self.running)
            _log_end(ended.item.run, f" ({count} of {self._total})")

    def close(self) -> None:
        """Leave waiting runs as they were; have those at work save and end, and wait for them."""
        for waiting in self.waiting:
            waiting.item.give_back(waiting.before)
        for running in self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(running.job.job_id), signal.SIGTERM)  # submitit passes it on
        if self.running:
            _log.warning("stopping %d runs; they save their state first", len(self.running))
        while any(not running.job.done() for running in self.running):
            time.sleep(_POLL_SECONDS)
        for running in self.running:
            _log_end(running.item.run)


@dataclass
class _Waiting:
    item: PlannedRun
    gpus: int  # that it will hold
    before: Status  # that it had before it waited


@dataclass
class _Running:
    job: submitit.Job[None]
    item: PlannedRun
    gpus: list[str]


class _Progress:
    """A bar over the epochs of all runs on a terminal; elsewhere only the log has lines."""

    def __init__(self) -> None:
        self._runs: list[RunDir] = []
        self._epochs: list[int] = []
        self._shown = 0.0  # when

    def __enter__(self) -> _Progress:
        terminal = sys.stderr.isatty()
        self._bar = tqdm(total=0, unit="epoch", disable=not terminal, leave=False)
        self._log = logging_redirect_tqdm([_log.parent or _log]) if terminal else None
        if self._log is not None:
            self._log.__enter__()
        return self

    def begin(self, planned: Sequence[PlannedRun]) -> None:
        """Say which runs there are."""
        self._runs = [item.run for item in planned]
        self._epochs = [item.job.epochs for item in planned]
        self._bar.total = sum(self._epochs)

    def __exit__(self, *error: Any) -> None:
        self._bar.close()
        if self._log is not None:
            self._log.__exit__(*error)

    def show(self) -> None:
        """Read the runs again, at most once a second."""
        if self._bar.disable or time.monotonic() - self._shown < 1:
            return
        statuses = [_status_of(run) for run in self._runs]
        counts = Counter(status.state for status in statuses)
        pairs = zip(statuses, self._epochs, strict=True)
        self._bar.n = sum(epochs if s.state == "done" else s.epoch for s, epochs in pairs)
        self._bar.set_postfix_str(", ".join(f"{n} {state}" for state, n in counts.items()))
        self._shown = time.monotonic()


def _status_of(run: RunDir) -> Status:
    try:
        return run.status()
    except (RunDirError, OSError):
        return Status(state="unreadable")


def _visible_gpus() -> list[str]:
    """The GPUs of this process, by the names that CUDA_VISIBLE_DEVICES has for them."""
    import torch

    count = torch.cuda.device_count()
    variable = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = variable.split(",") if variable else [str(i) for i in range(count)]
    return [name.strip() for name in names[:count]]


def _room(needed: Sequence[Resources]) -> int:
    """How many runs at a time have the cores that they ask for."""
    return max(cores() // max(run.cpus * run.tasks for run in needed), 1)


def _lease(free: list[str], count: int) -> list[str] | None:
    """Take so many different GPUs, the least used first; None where they are not free."""
    names = [name for name, _ in Counter(free).most_common(count)] if count else []
    if len(names) < count:
        return None
    for name in names:
        free.remove(name)
    return names


def _start(
    item: PlannedRun, gpus: Sequence[str], logs: Path, device: str | None, shared: bool
) -> submitit.Job[None]:
    executor = submitit.LocalExecutor(logs)
    executor.update_parameters(timeout_min=_NEVER_MINUTES, stderr_to_stdout=True)
    threads = str(item.job.resources.cpus)
    variables = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1"}
    # A terminal's Ctrl-C does not reach the process: the queue stops it itself.
    with _environment(variables), handled_by(signal.SIG_IGN, signal.SIGINT):
        return executor.submit(Worker(str(item.run.path.absolute()), device, tuple(gpus), shared))


def _report_not_begun(ended: _Running) -> None:
    """Write why a process ended before it began its run, which only submitit's log has."""
    if _status_of(ended.item.run).state != "queued":
        return
    output = (ended.job.stdout() or "").strip() or "no output"
    message = f"its process ended before it began the run: {output.splitlines()[-1]}"
    report_not_begun(ended.item.run, message, f"{output}\n", pid=os.getpid())


def _log_end(run: RunDir, count: str = "") -> None:
    """Log how a run ended, by its directory."""
    try:
        status = run.status()
        if status.state == "done":
            summary = read_metrics(run).get("summary")
            _log.info("done %s, %s%s", run.name, summary, count)
            return
        state, reason = status.state, status.message or "no reason given"
    except (RunDirError, OSError) as error:
        state, reason = "unreadable", str(error)
    _log.warning("%s %s: %s%s", state, run.name, reason, count)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


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
