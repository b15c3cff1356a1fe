"""The processes of one run on this machine: one for each GPU, ended together.

A process that fails ends the others within seconds, since they would wait for it for ever. The
first signal is passed on to all, so that they agree to save; exit codes come back as they are.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from deeplense_batch.job import JobError, Simulation
from deeplense_batch.plan import Planned, put_aside
from deeplense_batch.processes import StartError, forget, meeting_place, world_size

__all__ = ["carry_out", "launch"]

_POLL_SECONDS = 0.05
_log = logging.getLogger(__name__)

_GRACE_SECONDS = 5.0  # between TERM and KILL, for the processes beside one that failed


def carry_out(
    planned: Planned,
    *,
    device: str | None = None,
    processes: int | None = None,
    force: bool = False,
) -> int:
    """Carry out a run by this process, or by as many as it needs where nobody started them.

    Arguments:
        planned: The job and its directory.
        device: ``cpu`` or ``cuda``, in place of what the job asks for.
        processes: By default those of `Resources`, one for each GPU the job asks for.
        force: Put aside what is there and start over.

    Returns:
        0, or the exit code of the first process that failed.

    Raises:
        JobError: `force` where several processes were started for the run.
        StartError: The environment contradicts itself, or `processes`.
        Exception: As `run.run` or `make.make`, where this process carries the run out.
    """
    size = world_size()
    if force and size > 1:
        raise JobError(
            "run: --force: one process of several would put aside what the others write; "
            "'submit --force' starts them after it, and so does 'run' without torchrun or srun"
        )
    if isinstance(planned.job, Simulation):
        from deeplense_batch.make import make

        make(planned, force=force)
        return 0
    asked = planned.job.resources
    count = processes or (1 if device == "cpu" and asked.gpus else asked.tasks)
    if size > 1:
        meeting_place()
        if processes and processes != size:
            raise StartError(
                f"--processes={processes}, but this is one of WORLD_SIZE={size} processes; leave "
                "the flag out, or 'unset RANK WORLD_SIZE' to start them from here"
            )
        if count != size:
            _log.warning("%d processes, as WORLD_SIZE says; the job asks for %d", size, count)
    if count == 1 or size > 1:
        from deeplense_batch.run import run  # loads torch, which a launcher has no use for

        run(planned, device=device, force=force)
        return 0
    if force and planned.run.path.exists():
        with planned.run.claim():
            put_aside(planned.run)
    return launch(planned.make().path, count, device=device)


def launch(path: Path, count: int, *, device: str | None = None) -> int:
    """Carry out a run by several processes of this machine.

    Arguments:
        path: Run directory.
        count: Processes; process i works on GPU i of those visible.
        device: ``cpu`` or ``cuda``, in place of what the job asks for.

    Returns:
        0, or the exit code of the first process that failed.
    """
    command = [sys.executable, "-m", "deeplense_batch", "run", str(path)]
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
    ranks = [
        subprocess.Popen(command, env=shared | {"RANK": str(i), "LOCAL_RANK": str(i)})
        for i in range(count)
    ]
    try:
        with _passed_on(ranks):
            return _wait(ranks)
    finally:
        _end(ranks)


def _wait(ranks: Sequence[subprocess.Popen[bytes]]) -> int:
    while True:
        codes = [rank.poll() for rank in ranks]
        failed = [code for code in codes if code]
        if failed or all(code == 0 for code in codes):
            break
        time.sleep(_POLL_SECONDS)
    if set(failed) == {85}:  # they agreed to stop; the rest are on their way
        return max(rank.wait() for rank in ranks)
    return abs(failed[0]) if failed else 0


def _end(ranks: Sequence[subprocess.Popen[bytes]]) -> None:
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


@contextlib.contextmanager
def _passed_on(ranks: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    def pass_on(number: int, frame: FrameType | None) -> None:
        # A terminal's Ctrl-C has reached the processes already.
        for rank in ranks:
            if number != signal.SIGINT and rank.poll() is None:
                rank.send_signal(number)

    numbers = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)
    before = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
