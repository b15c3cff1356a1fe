"""From jobs to run directories, and back."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deeplense_batch.core.job import (
    AnyJob,
    Evaluation,
    Job,
    JobError,
    Resources,
    Simulation,
)
from deeplense_batch.core.recipe import load_jobs, run_path
from deeplense_batch.core.rundir import RunBusyError, RunDir, RunDirError, Status
from deeplense_batch.data.shards import ShardError, data_digest
from deeplense_batch.runs.attempts import close_lost_attempt, put_aside
from deeplense_batch.runs.planning import adaptation, fresh_images
from deeplense_batch.runs.planning.earlier import with_earlier
from deeplense_batch.runs.planning.evaluations import check_evaluation
from deeplense_batch.runs.planning.validate import (
    Memo,
    check_simulation,
    check_training,
    digest_of,
    tell_other_thresholds,
)

__all__ = ["PlannedRun", "plan", "reopen"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlannedRun:
    """A job and the run directory that its identity gives; the directory may not exist yet."""

    job: AnyJob
    run: RunDir
    digest: str  # of its data; empty for a simulation
    ended_element: str | None = None  # of a SLURM array, which the run was in and which has ended

    @property
    def training(self) -> Job:
        """The job, of a run that trains."""
        assert isinstance(self.job, Job)
        return self.job

    @property
    def gone(self) -> bool:
        """Whether the data set that the run made is gone, though its directory is there."""
        if not isinstance(self.job, Simulation):
            return False
        out = Path(self.job.simulate.out)
        return not any((out / name).exists() for name in ("manifest.json", ".parts/plan.json"))

    @property
    def unfinished(self) -> bool:
        """Whether the data set of which the run makes a part lacks other parts."""
        if not isinstance(self.job, Simulation):
            return False
        return not Path(self.job.simulate.out, "manifest.json").exists()

    def create(self, *, force: bool = False) -> RunDir:
        """Make the run directory with its job, unless it exists.

        Arguments:
            force: Put the one that exists aside, to start over.

        Raises:
            RunBusyError: A process is at work on that.
        """
        if force and self.run.path.exists():
            with self.run.claim(self.ended_element):
                _log.info("moved the old run to %s", put_aside(self.run))
        return RunDir.create(self.run.path, self.job.to_yaml())

    def seen_in(self, element: str | None) -> PlannedRun:
        """The run, knowing the element that its files name, if SLURM holds that no more."""
        return replace(self, ended_element=element)

    def take(self, element: str | None = None) -> Status | None:
        """Have the run wait for this process, or for an element of a SLURM array.

        Arguments:
            element: Of an array.

        Returns:
            Its status before; None, and nothing is changed, where another process has taken it.
        """
        left_out = "another process has just taken it"
        try:
            with self.run.claim(self.ended_element):
                status = self.run.status()
                held = status.state in ("queued", "running") and (
                    status.element is None or status.element != self.ended_element
                )
                if not held and (status.state != "done" or self.gone):
                    close_lost_attempt(self.run)
                    queued = replace(status, state="queued", reason=None, message=None)
                    queued = replace(queued, element=element, epochs=self.job.epochs)
                    self.run.write_status(queued)
                    return status
        except RunBusyError as error:
            left_out = str(error)
        _log.info("left out %s: %s", self.run.name, left_out)
        return None

    def give_back(self, before: Status) -> None:
        """Leave the run as it was before this process took it, unless another has begun it.

        Arguments:
            before: Its status then. One that ended without a word is ``stopped``: it can go on.
        """
        with contextlib.suppress(RunBusyError, RunDirError), self.run.claim():
            status = self.run.status()
            if status.state == "queued" and status.pid == os.getpid():
                ended = {"queued": "planned", "running": "stopped", "lost": "stopped"}
                state = ended.get(before.state, before.state)
                message = None if state == "planned" else before.message
                self.run.write_status(replace(before, state=state, message=message))


def plan(jobs: Iterable[AnyJob], out: Path | str) -> list[PlannedRun]:
    """Check jobs and find their run directories, ``out/<job>/<model>-s<seed>-<hash>``.

    Two jobs of one identity are one run: detections of another purity, of which is told.

    Raises:
        JobError: A task, or the same samples used twice.
        ModelError: A model.
        WeightsError: Pretrained weights that were not fetched.
        ShardError: Data, or a slice of them.
    """
    planned: dict[Path, PlannedRun] = {}
    memo = Memo()
    sets: dict[str, Simulation] = {}
    searches: list[tuple[Path, Job]] = []
    # Checked by the names that were given, so that errors tell those.
    for given in (one for job in jobs for one in with_earlier(job, memo)):
        if isinstance(given, Simulation):
            digest = check_simulation(given, memo)
        elif isinstance(given, Evaluation):
            digest = check_evaluation(given, memo)
        else:
            digest = check_training(given, memo)
        job = _anchored(given, memo)
        path = run_path(Path(out) / job.name, job, digest)
        if isinstance(job, Simulation):
            whole = job.model_copy(update={"part": 0, "name": "", "resources": Resources()})
            if sets.setdefault(job.simulate.out, whole) != whole:
                raise JobError(
                    f"{job.name}: two different sets in {job.simulate.out}; name a folder for each"
                )
        planned.setdefault(path, PlannedRun(job, RunDir(path), digest))
        if isinstance(job, Job) and job.task.name == "detection":
            searches.append((path, job))
    tell_other_thresholds(searches, memo)
    return list(planned.values())


def reopen(path: Path | str) -> PlannedRun:
    """Find the job of a run directory and make sure that they belong together.

    Where the data cannot be read the digest is empty, and the run will say so: it may be that this
    node lacks what the one that planned the run had.

    Raises:
        JobError: There is no job, or its identity is not the directory's name: the job was
            edited, or the data have changed.
    """
    run = RunDir(Path(path).absolute())
    if not os.path.lexists(run.path / "job.yaml"):
        raise JobError(f"{path}: is no run directory, it has no job.yaml")
    (job,) = load_jobs(run.path / "job.yaml")
    digest = ""
    root = _root_of(job)
    if root is not None:
        try:
            digest = data_digest(root)
            _check_sets(job, path)
        except ShardError:
            return PlannedRun(job, run, "")
    try:
        name = job.run_name(digest)
        if isinstance(job, Job) and run.path.name == job.run_name(digest, earlier=True):
            return PlannedRun(job, run, digest)
    except JobError as error:  # weights that it starts from are gone
        raise JobError(f"{run.path / 'job.yaml'}: {error}") from error
    if run.path.name != name:
        data = f" and the data in {root}" if root is not None else ""
        raise JobError(
            f"{path}: its job.yaml{data} give the run {name}; "
            "one of them was changed after it was made"
        )
    return PlannedRun(job, run, digest)


def _check_sets(job: AnyJob, path: Path | str) -> None:
    """Make sure that the sets that a run is trained on are what they were when it was planned.

    Raises:
        JobError: One is not.
        ShardError: One cannot be read.
    """
    if not isinstance(job, Job):
        return
    fields = ["roots"] * len(job.data.roots) + ["curriculum"] * len(job.data.curriculum)
    for field, each in zip(fields, job.data.others, strict=True):
        if (now := data_digest(each.root)) != each.digest:
            raise JobError(
                f"{path}: data.{field}: {each.root} holds other data, {now}, than when the run "
                f"was planned, {each.digest}"
            )
    if fault := adaptation.changed(job) or fresh_images.changed(job):
        raise JobError(f"{path}: {fault}")


def _root_of(job: AnyJob) -> str | None:
    """The data that a job reads."""
    if isinstance(job, Simulation):
        return None
    return job.data.root if isinstance(job, Job) else job.evaluate.data.root


def _anchored(job: AnyJob, memo: Memo) -> AnyJob:
    """The job with its data by absolute path: its run directory is read from anywhere.

    Several sets that it trains on are named by their digests too, which its identity holds.
    """
    if isinstance(job, Evaluation):
        return job  # `with_earlier` has done it
    if isinstance(job, Simulation):
        out = str(Path(job.simulate.out).absolute())
        return job.model_copy(update={"simulate": job.simulate.model_copy(update={"out": out})})
    update: dict[str, Any] = {"root": str(Path(job.data.root).absolute())}
    for field in ("roots", "curriculum"):
        update[field] = tuple(
            each.model_copy(
                update={
                    "root": str(Path(each.root).absolute()),
                    "digest": digest_of(each.root, memo),
                }
            )
            for each in getattr(job.data, field)
        )
    job = job.model_copy(update={"data": job.data.model_copy(update=update)})
    job = fresh_images.anchored(job)
    return adaptation.anchored(job, lambda root: digest_of(root, memo))
