"""What is to be done about each planned run, and the handing over of the rest to an executor."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeplense_batch.cluster.executor import Executor
from deeplense_batch.cluster.status import read_states
from deeplense_batch.core.job import AnyJob, JobError
from deeplense_batch.core.sections.adapt import adapted_in_words
from deeplense_batch.core.sections.dotted import flat_fields, joined
from deeplense_batch.core.sections.fold_names import as_given
from deeplense_batch.core.sections.simulated import simulated_in_words
from deeplense_batch.report.columns import padded
from deeplense_batch.report.run_table import Row, run_row
from deeplense_batch.runs.planning.plan import PlannedRun

__all__ = ["Entry", "Submission", "submit"]

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
_HEAD = ("job", "model", "seed", "settings", "run", "state", "action")
_SETTINGS = _HEAD.index("settings")
_NOT_SETTINGS = {"model.name", "seed", "name", "simulate.preset", "simulate.out"}


@dataclass(frozen=True)
class Entry:
    """One run, and what is to be done about it."""

    planned: PlannedRun
    state: str
    action: str  # run, go on, try again, start over or skip
    reason: str  # of its state

    @classmethod
    def of(cls, planned: PlannedRun, row: Row, *, retry: bool, force: bool) -> Entry:
        """Decide what is to be done about a run.

        Arguments:
            planned: The run.
            row: What its directory says now.
            retry: Whether a failed run is tried again.
            force: Whether it starts over, whatever its state.

        Raises:
            JobError: `force` on a run that another process is at work on.
        """
        state, reason = row["state"], row.get("reason") or "no reason given"
        if state == "done" and planned.gone:
            state, reason = "lost", "the data set that it made is gone"
        action = _ACTIONS[state][int(retry)]
        if force and state in ("queued", "running"):
            raise JobError(
                f"{planned.run.path}: is {state}; --force starts over only runs that are neither "
                "queued nor running"
            )
        if force:
            action = "run" if state == "planned" else "start over"
        return cls(planned.seen_in(row.get("ended")), state, action, reason)


@dataclass(frozen=True)
class Submission:
    """Runs, and what is to be done about each; printed before anything happens."""

    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, planned: Sequence[PlannedRun], *, retry: bool, force: bool) -> Submission:
        """Read the states of runs and decide what is to be done about each.

        Raises:
            JobError: `force` on a run that another process is at work on.
        """
        rows = read_states([item.run for item in planned])
        pairs = zip(planned, rows, strict=True)
        return cls(tuple(Entry.of(item, row, retry=retry, force=force) for item, row in pairs))

    @property
    def todo(self) -> list[PlannedRun]:
        """The runs that are not skipped."""
        return [entry.planned for entry in self.entries if entry.action != "skip"]

    @property
    def complete(self) -> bool:
        """Whether every run, skipped or not, is done by now."""
        return all(
            run_row(entry.planned.run)["state"] == "done" and not entry.planned.unfinished
            for entry in self.entries
        )

    def __str__(self) -> str:
        lines = ["  ".join(cells).rstrip() for cells in padded(self._table())]
        lines += [
            f"skipped {entry.planned.run.name}: {entry.reason}; {_ADVICE[entry.state]}"
            for entry in self.entries
            if entry.state in _ADVICE and entry.action == "skip"
        ]
        return "\n".join([*lines, self._cost()])

    def _table(self) -> list[tuple[str, ...]]:
        """A row a run; the column of settings only where runs of one job differ in some."""
        settings = _settings([entry.planned.job for entry in self.entries])
        table: list[tuple[str, ...]] = [_HEAD]
        for entry, setting in zip(self.entries, settings, strict=True):
            job = entry.planned.job
            name = entry.planned.run.path.name
            table.append(
                (job.name, job.label, str(job.seed), setting, name, entry.state, entry.action)
            )
        if not any(settings):
            table = [(*row[:_SETTINGS], *row[_SETTINGS + 1 :]) for row in table]
        return table

    def _cost(self) -> str:
        todo = [item.job.resources for item in self.todo]
        runs = f"{len(self.entries)} run{'s' if len(self.entries) > 1 else ''}"
        if not todo:
            states = Counter(entry.state for entry in self.entries)
            counts = ", ".join(f"{count} {state}" for state, count in states.items())
            return f"{runs} ({counts}), nothing to do"
        cpu = sum(r.hours * r.cpus * r.tasks for r in todo if not r.gpus)
        gpu = sum(r.hours * r.gpus for r in todo)
        asked = [f"{gpu:g} GPU-hours"] * bool(gpu) + [f"{cpu:g} CPU-hours"] * bool(cpu)
        return f"{runs}, {len(todo)} to do; at most {' and '.join(asked)} asked for"


def submit(submission: Submission, executor: Executor) -> None:
    """Have an executor carry out what a submission has to do.

    How each run ended is in its run directory; a failed run does not stop the others.

    Raises:
        JobError: A run asks for what there is not, or the site's profile is wrong.
        RunBusyError: A run that is to start over has come to be at work.
        SlurmError: SLURM refused.
    """
    if not submission.todo:
        return
    executor.check(submission.todo)
    for entry in submission.entries:
        if entry.action != "skip":
            entry.planned.create(force=entry.action == "start over")
    executor.submit(submission.todo)


def _settings(jobs: Sequence[AnyJob]) -> list[str]:
    """For each job the fields that differ between jobs of its name, but for model and seed."""
    flat = [joined(as_given(dict(flat_fields(job.model_dump(mode="json"))))) for job in jobs]
    first: dict[str, dict[str, Any]] = {}
    differ: dict[str, set[str]] = {}
    for job, fields in zip(jobs, flat, strict=True):
        reference = first.setdefault(job.name, fields)
        differ.setdefault(job.name, set()).update(
            name
            for name in reference.keys() | fields.keys()
            if reference.get(name) != fields.get(name)
        )
    return [
        ", ".join(f"{k}={_shown(k, v)}" for k, v in fields.items() if k in shown)
        for job, fields in zip(jobs, flat, strict=True)
        for shown in [_told_set(fields, differ[job.name] - _NOT_SETTINGS)]
    ]


def _told_set(fields: Mapping[str, Any], differ: set[str]) -> set[str]:
    """The settings of a job to show: where others train on several sets, the one set of this."""
    if "data.roots" in differ and not fields["data.roots"]:
        return differ - {"data.roots"} | {"data.root"}
    return differ


def _shown(field: str, value: Any) -> Any:
    """A setting, short: of sets their folders, of runs their hashes, of data the end."""
    if field == "data.roots":
        return "+".join(Path(each["root"]).name for each in value)
    if field == "data.curriculum":
        sets = [f"{Path(each['root']).name} ({each['epochs']})" for each in value]
        return ", then ".join(sets) or "none"
    if field == "data.simulate":
        return "null" if value is None else simulated_in_words(value)
    if field == "task.options.adapt":
        return "null" if value is None else adapted_in_words(value)
    if field == "evaluate.run":
        names = [Path(run).name for run in ([value] if isinstance(value, str) else value)]
        return "+".join(re.sub(r"^.+-s\d+-(?=[0-9a-f]{10}$)", "", name) for name in names)
    if field in ("data.root", "evaluate.data.root") and value is not None:
        return "/".join(Path(value).parts[-2:])
    return value
