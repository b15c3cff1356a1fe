"""What is missing, and to whom it goes: jobs to runs to an executor."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeplense_batch.job import AnyJob, JobError, flat_fields, nearest
from deeplense_batch.plan import Planned, put_aside
from deeplense_batch.profile import load_profile
from deeplense_batch.rows import run_row
from deeplense_batch.slurm import settle

__all__ = ["CLUSTERS", "Submission", "check_cluster", "submit"]

CLUSTERS = ("local", "slurm", "debug")

# state of a run: what `submit` does, what `submit --retry` does
_ACTIONS = {
    "planned": ("run", "run"),
    "stopped": ("go on", "go on"),
    "lost": ("go on", "go on"),
    "failed": ("skip", "try again"),
    "queued": ("skip", "skip"),
    "running": ("skip", "skip"),
    "done": ("skip", "skip"),
    "unreadable": ("skip", "skip"),
}
_ADVICE = {"failed": "--retry tries it again", "unreadable": "--force starts it over"}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Submission:
    """Runs, and what is to be done about each; shown before anything happens."""

    planned: tuple[Planned, ...]
    actions: tuple[str, ...]
    states: tuple[str, ...]
    reasons: tuple[str, ...]
    elements: tuple[str | None, ...]  # of arrays of SLURM, in which they were last

    @classmethod
    def of(cls, planned: Sequence[Planned], *, retry: bool, force: bool) -> Submission:
        """Look at what is there and decide.

        Raises:
            JobError: `force` on a run that another process is at work on.
        """
        actions, states, reasons = [], [], []
        rows = [run_row(item.run) if item.run.there else {"state": "planned"} for item in planned]
        settle(rows)
        for item, row in zip(planned, rows, strict=True):
            state = row["state"]
            if state == "done" and item.gone:
                state, row = "lost", {"reason": "the set that it made is not there"}
            action = _ACTIONS[state][int(retry)]
            if force and state in ("queued", "running"):
                raise JobError(
                    f"{item.run.path}: is {state}; --force starts over only what is not at work"
                )
            if force:
                action = "run" if state == "planned" else "start over"
            actions.append(action)
            states.append(state)
            reasons.append(row.get("reason") or "no reason told")
        elements = tuple(row.get("element") for row in rows)
        return cls(tuple(planned), tuple(actions), tuple(states), tuple(reasons), elements)

    @property
    def todo(self) -> list[Planned]:
        """The runs that are not skipped."""
        both = zip(self.planned, self.actions, strict=True)
        return [item for item, action in both if action != "skip"]

    @property
    def complete(self) -> bool:
        """Whether every run, those that were skipped too, is done."""
        return all(
            run_row(item.run)["state"] == "done" and not item.unfinished for item in self.planned
        )

    def __str__(self) -> str:
        head = ("job", "model", "seed", "settings", "run", "state", "action")
        rows: list[tuple[str, ...]] = [head]
        settings = _settings([item.job for item in self.planned])
        for item, setting, action, state in zip(
            self.planned, settings, self.actions, self.states, strict=True
        ):
            job = item.job
            place = (item.run.path.name, state, action)
            rows.append((job.name, job.label, str(job.seed), setting, *place))
        if not any(settings):
            rows = [(*row[:3], *row[4:]) for row in rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        lines += [
            f"skipped {item.run.name}: {reason}; {_ADVICE[state]}"
            for item, reason, action, state in zip(
                self.planned, self.reasons, self.actions, self.states, strict=True
            )
            if state in _ADVICE and action == "skip"
        ]
        return "\n".join([*lines, self._cost()])

    def _cost(self) -> str:
        todo = [item.job.resources for item in self.todo]
        runs = f"{len(self.planned)} run{'s' if len(self.planned) > 1 else ''}"
        if not todo:
            found = Counter(self.states)
            counted = ", ".join(f"{count} {state}" for state, count in found.items())
            return f"{runs} ({counted}), nothing to do"
        cpu = sum(r.hours * r.cpus * r.tasks for r in todo if not r.gpus)
        gpu = sum(r.hours * r.gpus for r in todo)
        asked = [f"{gpu:g} GPU-hours"] * bool(gpu) + [f"{cpu:g} CPU-hours"] * bool(cpu)
        return f"{runs}, {len(todo)} to do; at most {' and '.join(asked)} asked for"


def submit(
    submission: Submission,
    out: Path,
    *,
    cluster: str = "local",
    parallel: int | None = None,
    jobs_per_gpu: int = 1,
    device: str | None = None,
    chain: int = 0,
    report: Path | None = None,
) -> None:
    """Carry out what a submission has to do; returns when this machine is through with it.

    What became of the runs is in their directories; a failed run does not stop the others. SLURM
    is only handed the runs.

    Arguments:
        submission: What is to be done.
        out: Folder of the run directories.
        cluster: ``local``, processes on this machine; ``slurm``, arrays of jobs; ``debug``, this
            process.
        parallel: Runs at a time, of an array on SLURM; by default as many as there are GPUs for,
            or cores, and as many as SLURM likes.
        jobs_per_gpu: Runs that share a GPU of this machine.
        device: ``cpu`` or ``cuda``, in place of what the jobs ask for.
        chain: SLURM only: jobs that wait behind each array to go on with what it leaves, where
            nodes cannot requeue.
        report: SLURM only: folder of a report, which a job makes when all have ended.

    Raises:
        JobError: There is no such cluster, the profile of the site is wrong, or a run asks for
            more GPUs than this machine has.
        SlurmError: SLURM refused.
    """
    from deeplense_batch import arrays, handover, local  # submitit takes a while to load

    check_cluster(cluster)
    if not submission.todo:
        return
    if cluster == "slurm":
        arrays.check(submission.todo, load_profile())
    elif cluster == "local":
        local.check_gpus(submission.todo, device)
    for item, action in zip(submission.planned, submission.actions, strict=True):
        if action == "start over":
            _log.info("put aside as %s", put_aside(item.run))
        if action != "skip":
            item.make()
    folder = handover.open_folder(out)
    if cluster == "slurm":
        each = zip(submission.planned, submission.elements, submission.actions, strict=True)
        handover.hand_over(
            [(item, seen) for item, seen, action in each if action != "skip"], folder, out,
            parallel=parallel, device=device, chain=chain, report=report,
        )  # fmt: skip
        return
    todo = submission.todo
    handover.freeze(
        folder, [{"run": str(item.run.path.absolute())} for item in todo], cluster=cluster
    )
    if cluster == "debug":
        local.run_here(todo, folder / "logs", device=device)
    else:
        local.run_queue(
            todo, folder / "logs", device=device, parallel=parallel, jobs_per_gpu=jobs_per_gpu
        )


def _settings(jobs: Sequence[AnyJob]) -> list[str]:
    """For each job the fields, but model and seed, in which those of its name differ."""
    flat = [dict(flat_fields(job.model_dump(mode="json"))) for job in jobs]
    told = ("model.name", "seed", "name", "data.root", "simulate.preset", "simulate.out")
    first: dict[str, dict[str, Any]] = {}
    differ: dict[str, set[str]] = {}
    for job, fields in zip(jobs, flat, strict=True):
        one = first.setdefault(job.name, fields)
        differ.setdefault(job.name, set()).update(
            name for name in one.keys() | fields.keys() if one.get(name) != fields.get(name)
        )
    return [
        ", ".join(f"{k}={v}" for k, v in fields.items() if k in differ[job.name] - {*told})
        for job, fields in zip(jobs, flat, strict=True)
    ]


def check_cluster(cluster: str) -> None:
    """Make sure that an executor of this name exists.

    Raises:
        JobError: It does not.
    """
    if cluster not in CLUSTERS:
        raise JobError(f"--cluster: unknown '{cluster}'; {nearest(cluster, CLUSTERS)}")
