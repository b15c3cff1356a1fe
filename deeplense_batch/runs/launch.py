"""Carry out one run: by this process, or by one process for each GPU, which end together.

When a process fails, the others are ended within seconds, since they would wait for it for ever.
Signals are passed on to all, so that they save together; exit codes are returned as they are.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType

from deeplense_batch.core.job import AnyJob, Evaluation, JobError, Resources, Simulation
from deeplense_batch.core.processes import (
    StartError,
    forget,
    handled_by,
    meeting_place,
    world_size,
)
from deeplense_batch.core.rundir import RunBusyError, RunDir, RunDirError
from deeplense_batch.runs.attempts import close_lost_attempt
from deeplense_batch.runs.planning.plan import PlannedRun

__all__ = ["execute", "needs", "report_not_begun", "spawn_ranks"]

_POLL_SECONDS = 0.05
_log = logging.getLogger(__name__)

_REPORTED = (2, 3, 85)  # exit codes of a process that refused or stopped, and printed why
_GRACE_SECONDS = 5.0  # between TERM and KILL, for the processes beside one that failed


def execute(
    planned: PlannedRun,
    *,
    device: str | None = None,
    processes: int | None = None,
    force: bool = False,
) -> int:
    """Carry out a run by this process, or start the processes that it needs.

    Arguments:
        planned: The job and its directory.
        device: ``cpu`` or ``cuda``, in place of what the job asks for.
        processes: By default one for each GPU the job asks for (`Resources.tasks`).
        force: Move the run directory away and start over.

    Returns:
        0, or the exit code of the first process that failed.

    Raises:
        JobError: `force` where several processes were started for the run.
        StartError: The environment variables contradict each other, or `processes`; or a
            simulation was started by several processes.
        Exception: As `training_run.run` or `simulation_run.simulate_part`, where this process
            carries the run out.
    """
    size = world_size()
    if force and size > 1:
        raise JobError(
            "run: --force: one process of several would put aside what the others write; "
            "'submit --force' starts them after it, and so does 'run' without torchrun or srun"
        )
    if isinstance(planned.job, Simulation):
        if max(size, processes or 1) > 1:
            raise StartError(
                f"{planned.run.path}: one process makes a part of a simulation, not "
                f"{max(size, processes or 1)}; 'parts' shares a set out"
            )
        from deeplense_batch.runs.simulation_run import simulate_part

        simulate_part(planned, device=device, force=force)
        return 0
    count = processes or needs(planned.job, device).tasks
    if size > 1:
        _check_started(size, count, processes)
    if count == 1 or size > 1:
        _carry_out(planned, device=device, force=force)
        return 0
    run = planned.create(force=force)
    if run.status().state == "done":
        return 0
    return spawn_ranks(run.path, count, device=device)


def needs(job: AnyJob, device: str | None) -> Resources:
    """What a run needs of a machine, or of several.

    Arguments:
        job: The job.
        device: ``cpu`` or ``cuda``, in place of what the job asks for: what asks for GPUs is one
            process on the CPU, and each process that asks for none has a GPU.
    """
    asked = job.resources
    if device == "cpu" and asked.gpus:
        return asked.model_copy(update={"gpus": 0, "processes": None, "nodes": 1})
    if device == "cuda" and not asked.gpus:
        return asked.model_copy(update={"gpus": asked.tasks, "processes": None})
    return asked


def _carry_out(planned: PlannedRun, *, device: str | None, force: bool) -> None:
    """Carry out a run by this process; a launcher has no use for torch, which these load."""
    if isinstance(planned.job, Evaluation):
        from deeplense_batch.runs.evaluation_run import evaluate_run

        evaluate_run(planned, device=device, force=force)
    else:
        from deeplense_batch.runs.training_run import run

        run(planned, device=device, force=force)


def _check_started(size: int, count: int, processes: int | None) -> None:
    """Check that this process, one of several that torchrun or srun started, may go on.

    Raises:
        StartError: The processes cannot meet, or `processes` is another number.
    """
    meeting_place()
    if processes and processes != size:
        raise StartError(
            f"--processes={processes}, but this is one of WORLD_SIZE={size} processes; leave "
            "the flag out, or 'unset RANK WORLD_SIZE' to start them from here"
        )
    if count != size:
        _log.warning("%d processes, as WORLD_SIZE says; the job asks for %d", size, count)


def spawn_ranks(path: Path, count: int, *, device: str | None = None) -> int:
    """Carry out a run by several processes of this machine.

    Arguments:
        path: Run directory.
        count: Processes; process i works on GPU i of those visible.
        device: ``cpu`` or ``cuda``, in place of what the job asks for.

    Returns:
        0, or the exit code of the first process that failed.
    """
    command = [sys.executable, "-m", "deeplense_batch", "run", str(path), f"--processes={count}"]
    if device is not None:
        command.append(f"--device={device}")
    shared = dict(os.environ)
    forget(shared)
    shared |= {
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
    }
    shared.setdefault("OMP_NUM_THREADS", "1")
    ranks = [_Rank(command, shared | {"RANK": str(i), "LOCAL_RANK": str(i)}) for i in range(count)]
    processes = [rank.process for rank in ranks]
    pass_on = partial(_pass_on, processes)
    try:
        with handled_by(pass_on, signal.SIGTERM, signal.SIGUSR2, signal.SIGINT):
            failed = _wait(processes)
    finally:
        _end(processes)
        for rank in ranks:
            rank.finish_reading()
    if failed is None:
        return 0
    code = ranks[failed].process.wait()
    if code not in _REPORTED:
        name = f"process {failed} of {count} on {platform.node()}"
        message = f"{name} ended {ranks[failed].ended()}"
        report_not_begun(RunDir(path), message, f"{message}\n", killed=code < 0)
    return abs(code)


def report_not_begun(
    run: RunDir, message: str, output: str, *, killed: bool = False, pid: int | None = None
) -> None:
    """Write why a process ended before it began its run, where no process of the run has.

    Arguments:
        run: That it was started for.
        message: Why it ended, for ``status.json``.
        output: For ``log.txt``.
        killed: From outside: the run is left ``lost``, and the next `submit` goes on with it.
        pid: The process that the run must still wait for; by default no process may have begun it.
    """
    with contextlib.suppress(RunBusyError, RunDirError, OSError), run.claim():
        run.check()
        status = run.status()
        waits = status.state == "queued" and status.pid == pid
        if not (waits if pid else status.state in ("planned", "queued", "lost")):
            return
        with (run.path / "log.txt").open("a", encoding="utf-8") as log:
            log.write(output)
        if not killed:
            close_lost_attempt(run)
            failed = replace(status, state="failed", reason="environment", message=message)
            run.write_status(failed)


class _Rank:
    """A process of a run; its stderr is passed on, and the last line is kept."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.last = ""
        self.process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            text = line.decode(errors="replace")
            sys.stderr.write(text)
            sys.stderr.flush()
            self.last = text.strip() or self.last

    def finish_reading(self) -> None:
        """Read its last lines, now that it has ended; a child of it may hold the pipe open."""
        self._reader.join(_GRACE_SECONDS)

    def ended(self) -> str:
        """How it ended, and the last line that it wrote."""
        code = self.process.returncode
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return f"{how}: {self.last}" if self.last else how


def _wait(ranks: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Wait until all have ended, or one has failed; returns the rank of that one."""
    while True:
        codes = [rank.poll() for rank in ranks]
        failed = [number for number, code in enumerate(codes) if code]
        if failed or all(code == 0 for code in codes):
            break
        time.sleep(_POLL_SECONDS)
    if {codes[number] for number in failed} == {85}:  # they agreed to stop: the rest end soon
        ended = [rank.wait() for rank in ranks]
        return ended.index(max(ended))
    return failed[0] if failed else None


def _end(ranks: Sequence[subprocess.Popen[bytes]]) -> None:
    """End those that still run, by TERM and then by KILL."""
    alive = [rank for rank in ranks if rank.poll() is None]
    for rank in alive:
        rank.terminate()
    deadline = time.monotonic() + _GRACE_SECONDS
    for rank in alive:
        with contextlib.suppress(subprocess.TimeoutExpired):
            rank.wait(max(deadline - time.monotonic(), 0))
    for rank in alive:
        if rank.poll() is None:
            rank.kill()
            rank.wait()


def _pass_on(
    ranks: Sequence[subprocess.Popen[bytes]], number: int, frame: FrameType | None
) -> None:
    """Send a signal to all processes, but for a terminal's Ctrl-C, which they have already."""
    for rank in ranks:
        if number != signal.SIGINT and rank.poll() is None:
            rank.send_signal(number)


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
