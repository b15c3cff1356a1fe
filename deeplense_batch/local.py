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
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import submitit
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from deeplense_batch import record
from deeplense_batch.job import JobError
from deeplense_batch.plan import Planned
from deeplense_batch.processes import forget
from deeplense_batch.rundir import RunBusyError, RunDir, RunDirError, Status

__all__ = ["Worker", "check_gpus", "run_here", "run_queue"]

_POLL_SECONDS = 0.2
_NEVER_MINUTES = 60 * 24 * 365  # submitit kills after 2 minutes unless told; hours are SLURM's

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Worker:
    """What a process that submitit started does: one run. Holds text only, and no checkpoint."""

    path: str
    device: str | None = None
    gpus: tuple[str, ...] = ()  # as CUDA_VISIBLE_DEVICES names them; submitit takes numbers only
    shared: bool = False  # with other runs

    def __call__(self) -> None:
        """Carry out the run; a run cut short with its state saved exits 85."""
        forget(os.environ)
        if self.gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        if self.shared:
            os.environ[record.SHARED] = "1"
        from deeplense_batch.launch import carry_out
        from deeplense_batch.plan import reopen

        logging.getLogger("deeplense_batch").setLevel(logging.INFO)
        try:
            code = carry_out(reopen(self.path), device=self.device)
        except Exception as error:
            code = getattr(error, "exit_code", 1)
            if code != 85:  # what failed is told by its traceback
                raise
        if code:
            sys.exit(code)


def run_here(planned: Sequence[Planned], folder: Path, *, device: str | None) -> None:
    """Carry out runs in this process, one after the other; a failed one does not stop the rest."""
    executor = submitit.DebugExecutor(folder)
    for item in planned:
        job = executor.submit(Worker(str(item.run.path.absolute()), device))
        before = _status_of(item.run)
        # Carries the run out; unlike result(), it never opens a debugger.
        if (error := job.exception()) and _status_of(item.run) == before:
            _log.warning("left %s: %s", item.run.name, error)
        else:
            _say(item.run)


def run_queue(
    planned: Sequence[Planned],
    folder: Path,
    *,
    device: str | None,
    parallel: int | None = None,
    jobs_per_gpu: int = 1,
) -> None:
    """Carry out runs in processes of their own, as many at a time as the machine takes.

    Runs that another submit has taken since they were looked at are left to it. Ctrl-C and TERM
    are passed on: the runs save their state and end as ``stopped``, and those that had not begun
    are as they were.

    Arguments:
        planned: Runs whose directories are made.
        folder: Where submitit keeps its logs.
        device: ``cpu`` or ``cuda``, in place of what the jobs ask for.
        parallel: Runs at a time; by default as many as there are GPUs for, or cores.
        jobs_per_gpu: Runs that share a GPU.
    """
    needed = [_gpus(item, device) for item in planned]
    names = _visible_gpus() if any(needed) else []
    free = names * jobs_per_gpu
    most = parallel or (max(len(free), 1) if any(needed) else _fitting(planned))
    shared = jobs_per_gpu > 1
    waiting: list[_Waiting] = []
    running: list[_Running] = []
    try:
        with _term_as_interrupt(), _Progress() as progress:
            for item, gpus in zip(planned, needed, strict=True):
                try:
                    before = item.take()
                except RunDirError as error:
                    _log.warning("left %s: %s", item.run.name, error)
                    continue
                if before is None:
                    _log.info("left %s: another submit has just taken it", item.run.name)
                else:
                    waiting.append(_Waiting(item, min(gpus, len(names)), before))
            progress.begin([one.item for one in waiting])
            total = len(waiting)
            while waiting or running:
                while waiting and len(running) < most:
                    leased = _lease(free, waiting[0].gpus)
                    if leased is None:
                        break
                    item = waiting[0].item
                    job = _start(item, leased, folder, device, shared)
                    running.append(_Running(job, item, leased))
                    del waiting[0]
                    _log.info("started %s", item.run.name)
                time.sleep(_POLL_SECONDS)
                for ended in [r for r in running if r.job.done()]:
                    running.remove(ended)
                    free += ended.gpus
                    _note_no_start(ended)
                    _say(ended.item.run, f" ({total - len(waiting) - len(running)} of {total})")
                progress.show()
    finally:
        for left in waiting:
            left.give_back()
        _stop(running)


def check_gpus(planned: Sequence[Planned], device: str | None) -> None:
    """Make sure that no run asks for more GPUs than this machine has, where it has some.

    Raises:
        JobError: One does.
    """
    most = max(planned, key=lambda item: _gpus(item, device))
    asked = _gpus(most, device)
    if asked and 0 < (shown := len(_visible_gpus())) < asked:
        raise JobError(
            f"{most.job.name}: resources.gpus: asks for {asked}, this machine shows {shown}"
        )


def _visible_gpus() -> list[str]:
    """The GPUs of this process, by the names that CUDA_VISIBLE_DEVICES has for them."""
    import torch

    count = torch.cuda.device_count()
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = given.split(",") if given else [str(i) for i in range(count)]
    return [name.strip() for name in names[:count]]


@dataclass
class _Waiting:
    item: Planned
    gpus: int  # that it gets
    before: Status  # it was queued

    def give_back(self) -> None:
        """Leave the run as it was, unless somebody has begun it by hand."""
        with contextlib.suppress(RunBusyError, RunDirError), self.item.run.claim():
            now = self.item.run.status()
            if now.state == "queued" and now.pid == os.getpid():
                lost = self.before.state == "lost"  # which is read, never written
                state = "stopped" if lost else self.before.state
                message = None if state == "planned" else self.before.message
                self.item.run.write_status(replace(self.before, state=state, message=message))


@dataclass
class _Running:
    job: submitit.Job[None]
    item: Planned
    gpus: list[str]


class _Progress:
    """A bar over the epochs of all runs, on a terminal; the log has a line for each run."""

    def __init__(self) -> None:
        self._runs: list[RunDir] = []
        self._epochs: list[int] = []
        self._seen = 0.0

    def __enter__(self) -> _Progress:
        terminal = sys.stderr.isatty()
        self._bar = tqdm(total=0, unit="epoch", disable=not terminal, leave=False)
        self._log = logging_redirect_tqdm([_log.parent or _log]) if terminal else None
        if self._log is not None:
            self._log.__enter__()
        return self

    def begin(self, planned: Sequence[Planned]) -> None:
        """Say which runs there are."""
        self._runs = [item.run for item in planned]
        self._epochs = [item.job.epochs for item in planned]
        self._bar.total = sum(self._epochs)

    def __exit__(self, *error: Any) -> None:
        self._bar.close()
        if self._log is not None:
            self._log.__exit__(*error)

    def show(self) -> None:
        """Look at the runs again, at most once a second."""
        if self._bar.disable or time.monotonic() - self._seen < 1:
            return
        found = [_status_of(run) for run in self._runs]
        counts = Counter(status.state for status in found)
        whole = zip(found, self._epochs, strict=True)
        self._bar.n = sum(most if s.state == "done" else s.epoch for s, most in whole)
        self._bar.set_postfix_str(", ".join(f"{n} {state}" for state, n in counts.items()))
        self._seen = time.monotonic()


def _status_of(run: RunDir) -> Status:
    try:
        return run.status()
    except (RunDirError, OSError):
        return Status(state="unreadable")


def _gpus(item: Planned, device: str | None) -> int:
    """GPUs that a run asks for."""
    return 0 if device == "cpu" else item.job.resources.gpus or int(device == "cuda")


def _fitting(planned: Sequence[Planned]) -> int:
    """Runs that have the cores they ask for."""
    asked = [item.job.resources for item in planned]
    return max(record.cores() // max(each.cpus * each.tasks for each in asked), 1)


def _lease(free: list[str], count: int) -> list[str] | None:
    """Take so many different GPUs, the emptiest first; None where they are not free."""
    names = [name for name, _ in Counter(free).most_common(count)] if count else []
    if len(names) < count:
        return None
    for name in names:
        free.remove(name)
    return names


def _start(
    item: Planned, gpus: Sequence[str], folder: Path, device: str | None, shared: bool
) -> submitit.Job[None]:
    executor = submitit.LocalExecutor(folder)
    executor.update_parameters(timeout_min=_NEVER_MINUTES, stderr_to_stdout=True)
    threads = str(item.job.resources.cpus)
    variables = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1"}
    with _environment(variables), _interrupt_ignored():
        return executor.submit(Worker(str(item.run.path.absolute()), device, tuple(gpus), shared))


def _note_no_start(ended: _Running) -> None:
    """Write down why a process ended before it began its run: its own log alone has that."""
    run = ended.item.run
    with contextlib.suppress(RunBusyError, RunDirError, OSError), run.claim():
        status = run.status()
        if status.state != "queued" or status.pid != os.getpid():
            return
        lines = (ended.job.stdout() or "").strip().splitlines() or ["it said nothing"]
        with (run.path / "log.txt").open("a", encoding="utf-8") as log:
            log.write("\n".join(lines) + "\n")
        message = f"its process ended before it began the run: {lines[-1]}"
        run.write_status(replace(status, state="failed", reason="environment", message=message))


def _say(run: RunDir, count: str = "") -> None:
    try:
        status = run.status()
        if status.state == "done":
            summary = run.read_json("metrics.json").get("summary")
            _log.info("done %s, %s%s", run.name, summary, count)
            return
        state, reason = status.state, status.message or "no reason"
    except (RunDirError, OSError) as error:
        state, reason = "unreadable", str(error)
    _log.warning("%s %s: %s%s", state, run.name, reason, count)


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
