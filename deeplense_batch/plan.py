"""From jobs to run directories, and back."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from deeplense_batch import files
from deeplense_batch.checks import check_simulation, check_training
from deeplense_batch.data.shards import ShardError, data_digest
from deeplense_batch.earlier import with_earlier
from deeplense_batch.job import AnyJob, Job, JobError, Resources, Simulation
from deeplense_batch.memo import Memo
from deeplense_batch.recipe import load_jobs
from deeplense_batch.rundir import RunBusyError, RunDir, RunDirError, Status, now

__all__ = ["Planned", "data_notes", "plan", "put_aside", "reopen"]


@dataclass(frozen=True)
class Planned:
    """A job and the run directory its identity gives; the directory may not exist yet."""

    job: AnyJob
    run: RunDir
    digest: str  # of the data; of none for a simulation

    @property
    def training(self) -> Job:
        """The job of a run that trains."""
        assert isinstance(self.job, Job)
        return self.job

    @property
    def gone(self) -> bool:
        """Whether what the run made is no longer there, though its directory is."""
        if not isinstance(self.job, Simulation):
            return False
        out = Path(self.job.simulate.out)
        return not any((out / name).exists() for name in ("manifest.json", ".parts/plan.json"))

    @property
    def unfinished(self) -> bool:
        """Whether what several runs make together is not complete, though this one is done."""
        if not isinstance(self.job, Simulation):
            return False
        return not Path(self.job.simulate.out, "manifest.json").exists()

    def make(self) -> RunDir:
        """Make the run directory with its job, or find it made."""
        return RunDir.create(self.run.path, self.job.to_yaml())

    def take(self, element: str | None = None, *, seen: str | None = None) -> Status | None:
        """Have the run wait for this process, or for an element of an array of SLURM.

        Arguments:
            element: Of an array.
            seen: The element that it was last seen in, and that is known to have ended.

        Returns:
            What it was before; None, and nothing is changed, where it is somebody else's by now.
        """
        try:
            with self.run.claim():
                found = self.run.status()
                held = found.state in ("queued", "running")
                if held and (found.element is None or found.element != seen):
                    return None
                if found.state == "done" and not self.gone:
                    return None
                queued = replace(found, state="queued", reason=None, message=None)
                self.run.write_status(replace(queued, element=element, epochs=self.job.epochs))
                return found
        except RunBusyError:
            return None


def plan(jobs: Iterable[AnyJob], out: Path | str) -> list[Planned]:
    """Check jobs and find their run directories, ``out/<job>/<model>-s<seed>-<hash>``.

    Two jobs of one identity are one run.

    Raises:
        JobError: A task, or the same samples used twice.
        ModelError: A model.
        WeightsError: Pretrained weights that were not fetched.
        ShardError: Data, or a slice of them.
    """
    planned: dict[Path, Planned] = {}
    memo = Memo()
    sets: dict[str, Simulation] = {}
    # Checked by the names that were given, so that errors tell those.
    for given in (with_earlier(job, memo) for job in jobs):
        if isinstance(given, Simulation):
            digest = check_simulation(given, memo)
        else:
            digest = check_training(given, memo)
        job = _anchored(given)
        path = Path(out) / job.name / job.run_name(digest)
        if isinstance(job, Simulation):
            whole = job.model_copy(update={"part": 0, "name": "", "resources": Resources()})
            if sets.setdefault(job.simulate.out, whole) != whole:
                raise JobError(
                    f"{job.name}: two different sets in {job.simulate.out}; name a folder for each"
                )
        found = planned.setdefault(path, Planned(job, RunDir(path), digest))
        if isinstance(job, Job):
            _check_one_judge(job, found)
    return list(planned.values())


def _check_one_judge(job: Job, found: Planned) -> None:
    """Make sure that a run is judged in one way, which does not name it.

    Raises:
        JobError: Another job of this run, or the directory that was begun, has another one.
    """
    begun = found.training
    if job.task.name == "generation" and (found.run.path / "job.yaml").is_file():
        with contextlib.suppress(JobError, RunDirError):  # `submit` tells which runs are damaged
            (kept,) = load_jobs(found.run.path / "job.yaml")
            if isinstance(kept, Job) and found.run.status().state != "done":
                begun = kept
    if begun.judge != job.judge:
        raise JobError(
            f"{job.name}: judge: {found.run.path} is judged in another way; a run is judged once, "
            "and 'judge RUN --out FOLDER' does it otherwise when it is done"
        )


def data_notes(root: Path | str) -> list[str]:
    """What packing found wrong with the data, which a reader of scores should know."""
    path = Path(root) / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        found = [str(warning) for warning in manifest.get("warnings", [])]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, AttributeError, TypeError):
        found = [f"{path.name} cannot be read, so that what packing warned of is not known"]
    return [f"data: {warning}" for warning in found]


def reopen(path: Path | str) -> Planned:
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
    if isinstance(job, Job):
        try:
            digest = data_digest(job.data.root)
        except ShardError:
            return Planned(job, run, digest)
    try:
        name = job.run_name(digest)
    except JobError as error:  # weights that it starts from are gone
        raise JobError(f"{run.path / 'job.yaml'}: {error}") from error
    if run.path.name != name:
        data = f" and the data in {job.data.root}" if isinstance(job, Job) else ""
        raise JobError(
            f"{path}: its job.yaml{data} give the run {name}; "
            "one of them was changed after it was made"
        )
    return Planned(job, run, digest)


def put_aside(run: RunDir) -> Path:
    """Move a run directory out of the way, to start over; nothing is deleted."""
    old = run.path.parent / ".old"
    old.mkdir(exist_ok=True)
    stamp = f"{run.path.name}-{now().replace(':', '')}"
    aside, number = old / stamp, 1
    while aside.exists():  # of the same second
        aside, number = old / f"{stamp}-{number}", number + 1
    files.move_folder(run.path, aside)
    with contextlib.suppress(OSError):  # a damaged one is no claim
        (aside / "claim").unlink(missing_ok=True)
    return aside


def _anchored(job: AnyJob) -> AnyJob:
    """The job with its data by absolute path: its run directory is read from anywhere."""
    if isinstance(job, Simulation):
        out = str(Path(job.simulate.out).absolute())
        return job.model_copy(update={"simulate": job.simulate.model_copy(update={"out": out})})
    root = str(Path(job.data.root).absolute())
    return job.model_copy(update={"data": job.data.model_copy(update={"root": root})})
