"""From jobs to run directories, and back; and the earlier runs that a job names.

A training may start from the weights of another run, and an evaluation is of one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from deeplense_batch.core.job import (
    AnyJob,
    EvaluatedData,
    Evaluation,
    Job,
    JobError,
    NotYetError,
    Resources,
    Simulation,
)
from deeplense_batch.core.recipe import load_jobs, run_path
from deeplense_batch.core.rundir import RunBusyError, RunDir, RunDirError, Status, find_runs
from deeplense_batch.data.shards import ShardError, data_digest, read_splits
from deeplense_batch.runs.attempts import close_lost_attempt, put_aside
from deeplense_batch.runs.validate import (
    Memo,
    check_evaluation,
    check_simulation,
    check_training,
    tell_other_thresholds,
)

__all__ = [
    "PlannedRun",
    "find_classifier",
    "plan",
    "reopen",
    "with_earlier",
]

_log = logging.getLogger(__name__)


def with_earlier(job: AnyJob, memo: Memo) -> list[AnyJob]:
    """The job with a run directory in place of each folder of a job that it names.

    Arguments:
        job: The job.
        memo: Remembers the earlier runs that other jobs of the plan have asked for.

    Returns:
        The job; an evaluation of a job's folder is one for each run in it.

    Raises:
        NotYetError: A run that it names does not exist, or has not finished.
        JobError: Several runs fit, or the run cannot be used for this.
    """
    if isinstance(job, Evaluation):
        return [*_evaluations(job)]
    return [_with_init(job, memo)]


def find_classifier(folder: Path, field: str) -> Path:
    """The run directory of a classifier that judges.

    Only one judges, since features of two networks do not compare.

    Arguments:
        folder: Its run directory, or the folder of its job.
        field: Of the recipe, that names it: begins the sentence of an error.

    Raises:
        NotYetError: There is none, or it is not done.
        JobError: There are several, or it tells no classes apart.
    """
    runs = find_runs(folder)
    if len(runs) > 1:
        raise JobError(f"{field}: {folder} has {len(runs)} runs; name one, which judges all alike")
    try:
        done = bool(runs) and runs[0].status().state == "done"
    except RunDirError as error:
        raise JobError(f"{field}: {error}") from None
    if not done:
        raise NotYetError(
            f"{field}: {folder}: no finished run there; expected that of a classifier", folder
        )
    (job,) = load_jobs(runs[0].path / "job.yaml")
    if not isinstance(job, Job) or job.task.name in ("generation", "regression"):
        raise JobError(
            f"{field}: {runs[0].path} tells no classes apart; expected a run of a classifier"
        )
    return runs[0].path


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
        job = _anchored(given)
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
        except ShardError:
            return PlannedRun(job, run, digest)
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


def _root_of(job: AnyJob) -> str | None:
    """The data that a job reads."""
    if isinstance(job, Simulation):
        return None
    return job.data.root if isinstance(job, Job) else job.evaluate.data.root


def _with_init(job: AnyJob, memo: Memo) -> AnyJob:
    """The job with the run it starts from, where a job's folder was named: its counterpart.

    Raises:
        NotYetError: There is none, or it has no weights yet.
        JobError: There are several.
    """
    if not isinstance(job, Job) or job.train.init is None:
        return job
    path = Path(job.train.init)
    if path.is_dir() and not (path / "job.yaml").exists():
        own = job.model_copy(update={"train": job.train.model_copy(update={"init": None})})
        start = own.run_name("").rpartition("-")[0] + "-"
        runs = memo.once(("beginnings", path), partial(_by_beginning, path)).get(start, [])
        if len(runs) > 1:
            raise JobError(
                f"{job.name}: train.init: {path} has {len(runs)} runs {start}...; name one"
            )
        path = runs[0] if runs else path / f"{start}..."
    if not (path / "best.pt" if path.is_dir() else path).is_file():
        raise NotYetError(
            f"{job.name}: train.init: {path}: no weights there; expected a run that has trained, "
            "or a .pt or .safetensors file",
            Path(job.train.init),
        )
    train = job.train.model_copy(update={"init": str(path.absolute())})
    return job.model_copy(update={"train": train})


def _by_beginning(folder: Path) -> dict[str, list[Path]]:
    """What lies in a folder, by the beginnings of its names that end in a dash."""
    paths: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        for dash in re.finditer("-", path.name):
            paths.setdefault(path.name[: dash.end()], []).append(path)
    return paths


def _evaluations(job: Evaluation) -> Iterator[Evaluation]:
    """One evaluation for each run that a job names, with everything it leaves open filled in.

    Raises:
        NotYetError: A run is not there, or not done.
        JobError: It has no network.
    """
    section, path = job.evaluate, Path(job.evaluate.run)
    runs = [run for run in find_runs(path) if not _is_evaluation(run)]
    if not runs:
        raise NotYetError(
            f"{job.name}: evaluate.run: {path}: no run there; one has to be done", path
        )
    update: dict[str, object] = {}
    if section.classifier is not None:
        field = f"{job.name}: evaluate.classifier"
        update["classifier"] = str(find_classifier(Path(section.classifier), field).absolute())
    for run in runs:
        update["run"] = str(run.path.absolute())
        update["data"] = _evaluated_data(job, _finished(job, run))
        yield job.model_copy(update={"evaluate": section.model_copy(update=update)})


def _is_evaluation(run: RunDir) -> bool:
    """Whether a run of a job's folder is an evaluation itself; a damaged one is not."""
    with contextlib.suppress(JobError):
        return any(isinstance(job, Evaluation) for job in load_jobs(run.path / "job.yaml"))
    return False


def _finished(job: Evaluation, run: RunDir) -> Job:
    """The job of a run that is evaluated."""
    try:
        state = run.status().state
    except RunDirError as error:
        raise JobError(f"{job.name}: evaluate.run: {error}") from None
    if state != "done":
        raise NotYetError(f"{job.name}: evaluate.run: {run.path} is {state}, not done", run.path)
    (trained,) = load_jobs(run.path / "job.yaml")
    if not isinstance(trained, Job):
        raise JobError(
            f"{job.name}: evaluate.run: {run.path} has no network; expected a run that has trained"
        )
    return trained


def _evaluated_data(job: Evaluation, trained: Job) -> EvaluatedData:
    """Root and slice, where a recipe leaves them open."""
    given = job.evaluate.data
    root = trained.data.root if given.root is None else str(Path(given.root).absolute())
    if given.slice is not None:
        return EvaluatedData(root=root, slice=given.slice)
    splits = [*read_splits(root)]
    if given.root is None or data_digest(root) == _digest_of(trained):
        return EvaluatedData(root=root, slice=trained.data.test)
    if "test" not in splits and len(splits) > 1:
        raise JobError(
            f"{job.name}: evaluate.data.slice: {root} has {', '.join(splits)}; name a slice"
        )
    return EvaluatedData(root=root, slice="test" if "test" in splits else splits[0])


def _digest_of(trained: Job) -> str | None:
    try:
        return data_digest(trained.data.root)
    except ShardError:  # the data of the training are gone
        return None


def _anchored(job: AnyJob) -> AnyJob:
    """The job with its data by absolute path: its run directory is read from anywhere."""
    if isinstance(job, Evaluation):
        return job  # `with_earlier` has done it
    if isinstance(job, Simulation):
        out = str(Path(job.simulate.out).absolute())
        return job.model_copy(update={"simulate": job.simulate.model_copy(update={"out": out})})
    root = str(Path(job.data.root).absolute())
    return job.model_copy(update={"data": job.data.model_copy(update={"root": root})})
