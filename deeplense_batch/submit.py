"""What is missing, and to whom it goes: jobs to runs to an executor."""

from __future__ import annotations

import json
import logging
import os
import shlex
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deeplense_batch import record
from deeplense_batch.job import JobError, nearest
from deeplense_batch.plan import Planned, put_aside
from deeplense_batch.rundir import now

__all__ = ["CLUSTERS", "Submission", "check_cluster", "submit"]

CLUSTERS = ("local", "debug")

# state of a run: what `submit` does, what `submit --retry` does
_ACTIONS = {
    "planned": ("run", "run"),
    "stopped": ("go on", "go on"),
    "lost": ("go on", "go on"),
    "failed": ("skip", "try again"),
    "queued": ("skip", "skip"),
    "running": ("skip", "skip"),
    "done": ("skip", "skip"),
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Submission:
    """Runs, and what is to be done about each; shown before anything happens."""

    planned: tuple[Planned, ...]
    actions: tuple[str, ...]
    states: tuple[str, ...]
    reasons: tuple[str, ...]

    @classmethod
    def of(cls, planned: Sequence[Planned], *, retry: bool, force: bool) -> Submission:
        """Look at what is there and decide.

        Raises:
            JobError: `force` on a run that another process is at work on.
        """
        actions, states, reasons = [], [], []
        for item in planned:
            status = item.run.status()
            action = _ACTIONS[status.state][int(retry)]
            if force and status.state in ("queued", "running"):
                raise JobError(
                    f"{item.run.path}: is {status.state} (process {status.pid} on {status.host}); "
                    "--force starts over only what is not at work"
                )
            if force:
                action = "run" if status.state == "planned" else "start over"
            actions.append(action)
            states.append(status.state)
            reasons.append(f"{status.reason}: {status.message}" if status.reason else "")
        return cls(tuple(planned), tuple(actions), tuple(states), tuple(reasons))

    @property
    def todo(self) -> list[Planned]:
        """The runs that are not skipped."""
        both = zip(self.planned, self.actions, strict=True)
        return [item for item, action in both if action != "skip"]

    def __str__(self) -> str:
        rows = [("job", "model", "seed", "run", "state", "action")]
        for item, action, state in zip(self.planned, self.actions, self.states, strict=True):
            job = item.job
            rows.append(
                (job.name, job.model.name, str(job.seed), item.run.path.name, state, action)
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        lines += [
            f"skipped {item.run.name}: {reason}; --retry tries it again"
            for item, reason, action, state in zip(
                self.planned, self.reasons, self.actions, self.states, strict=True
            )
            if state == "failed" and action == "skip"
        ]
        return "\n".join([*lines, self._cost()])

    def _cost(self) -> str:
        todo = [item.job.resources for item in self.todo]
        if not todo:
            return f"{len(self.planned)} runs, nothing to do"
        cpu = sum(r.hours * r.cpus for r in todo if not r.gpus)
        gpu = sum(r.hours * r.gpus for r in todo)
        asked = [f"{gpu:g} GPU-hours"] * bool(gpu) + [f"{cpu:g} CPU-hours"] * bool(cpu)
        return f"{len(self.planned)} runs, {len(todo)} to do; at most {' and '.join(asked)} asked"


def submit(
    submission: Submission,
    out: Path,
    *,
    cluster: str = "local",
    parallel: int | None = None,
    device: str | None = None,
) -> None:
    """Carry out what a submission has to do; returns when this machine is through with it.

    What became of the runs is in their directories; a failed run does not stop the others.

    Arguments:
        submission: What is to be done.
        out: Folder of the run directories.
        cluster: ``local``, processes on this machine; ``debug``, this process.
        parallel: Runs at a time; by default one for each visible GPU, or for each
            ``resources.cpus`` of this machine's cores.
        device: ``cpu`` or ``cuda``, in place of what the jobs ask for.

    Raises:
        JobError: There is no such cluster.
    """
    from deeplense_batch import local  # submitit takes a while to load

    check_cluster(cluster)
    todo = submission.todo
    if not todo:
        return
    for item, action in zip(submission.planned, submission.actions, strict=True):
        if action == "start over":
            _log.info("put aside as %s", put_aside(item.run))
        if action != "skip":
            item.make()
    folder = _record(todo, out, cluster)
    if cluster == "debug":
        local.run_here(todo, folder, device=device)
    else:
        local.run_queue(todo, folder, parallel=parallel or _slots(todo, device), device=device)


def check_cluster(cluster: str) -> None:
    """Make sure that an executor of this name exists.

    Raises:
        JobError: It does not.
    """
    if cluster not in CLUSTERS:
        raise JobError(f"--cluster: unknown '{cluster}'; {nearest(cluster, CLUSTERS)}")


def _record(todo: Sequence[Planned], out: Path, cluster: str) -> Path:
    """Freeze the list of runs and the command in a folder of this submission."""
    folder = out / ".submit" / f"{now().replace(':', '')}-{socket.gethostname()}-{os.getpid()}"
    folder.mkdir(parents=True)
    paths = [{"run": str(item.run.path.absolute())} for item in todo]
    (folder / "runs.jsonl").write_text("".join(f"{json.dumps(p)}\n" for p in paths))
    content = {
        "command": shlex.join(sys.argv),
        "cluster": cluster,
        "time": now(),
        "versions": record.versions(),
        "commit": record.commit(),
    }
    (folder / "submission.json").write_text(json.dumps(content, indent=1) + "\n")
    return folder / "logs"


def _slots(todo: Sequence[Planned], device: str | None) -> int:
    if device != "cpu" and any(item.job.resources.gpus for item in todo):
        import torch

        return max(torch.cuda.device_count(), 1)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max((cores or 1) // max(item.job.resources.cpus for item in todo), 1)
