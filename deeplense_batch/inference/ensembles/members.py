"""Which finished runs are an ensemble, and whether they may be one; no network is loaded for it.

An ensemble answers with the mean of the calibrated answers of its members (`ensemble`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deeplense_batch.core.job import Evaluation, Job, JobError
from deeplense_batch.core.recipe import load_jobs
from deeplense_batch.core.result import Metrics, read_metrics
from deeplense_batch.core.rundir import RunDir, RunDirError, find_runs
from deeplense_batch.report.trained_on import trained_on
from deeplense_batch.tasks import MAKING_IMAGES

__all__ = ["Member", "by_recipe", "check_members", "members_of", "recipe_of", "trainings_in"]

_MOST_NAMED = 8  # jobs in a sentence


@dataclass(frozen=True)
class Member:
    """A training that is done."""

    run: RunDir
    job: Job
    metrics: Metrics

    @classmethod
    def read(cls, run: RunDir, job: Job) -> Member:
        """Read what a training that is done has left.

        Raises:
            JobError: Its result is missing or damaged.
        """
        try:
            return cls(run, job, read_metrics(run))
        except RunDirError as error:
            raise JobError(str(error)) from error

    @classmethod
    def at(cls, path: Path) -> Member:
        """Find a training by its run directory.

        Raises:
            JobError: It is none, or not done.
        """
        run = RunDir(path)
        (job,) = load_jobs(run.path / "job.yaml")
        state = run.status().state
        if state != "done":
            raise JobError(f"{run.path}: is {state}, not done; 'run {run.path}' carries it out")
        if not isinstance(job, Job):
            raise JobError(f"{run.path}: has no network; expected a run that has trained")
        return cls.read(run, job)

    @property
    def path(self) -> Path:
        """Of its run directory."""
        return self.run.path

    @property
    def digest(self) -> str:
        """Of the data that it was trained on."""
        return str(self.metrics["data"]["digest"])

    @property
    def learnt(self) -> tuple[str, str, tuple[str, ...]]:
        """Its task, what that searches for or predicts, and its classes in any order."""
        task = self.job.task.name
        classes = () if task == "regression" else self.metrics["data"]["classes"]
        return task, str(self.metrics.get("learns") or ""), tuple(sorted(classes))

    @property
    def about(self) -> str:
        """What it has learnt, in words."""
        task, target, classes = self.learnt
        words = f"{task} of {target}" if target else task
        return f"{words} (classes {', '.join(classes)})" if classes else words


def trainings_in(place: Path) -> list[RunDir]:
    """The run at a path, or all below a job's folder, but for evaluations; damaged ones stay.

    Raises:
        JobError: There are runs of several jobs.
    """
    runs = [run for run in find_runs(place) if not _evaluates(run)]
    jobs = [*dict.fromkeys(run.path.parent.name for run in runs if run.path != place)]
    if len(jobs) > 1:
        shown = ", ".join(jobs[:_MOST_NAMED]) + ", ..." * (len(jobs) > _MOST_NAMED)
        raise JobError(
            f"{place}: is no job's folder, it holds {len(jobs)} jobs, {shown}; expected a run, "
            "the folder of one job, or several of these with commas between"
        )
    return runs


def _evaluates(run: RunDir) -> bool:
    try:
        return any(isinstance(job, Evaluation) for job in load_jobs(run.path / "job.yaml"))
    except JobError:
        return False


def members_of(places: Sequence[Path]) -> list[Member]:
    """The members of the one ensemble that was named.

    Arguments:
        places: Run directories and folders of jobs, all of whose runs are members; or one folder,
            whose runs differ in their seed alone.

    Raises:
        JobError: There are none, or one alone; or they are not done; or they cannot be averaged.
    """
    runs = [run for place in places for run in trainings_in(place)]
    if not runs:
        raise JobError(f"{', '.join(map(str, places))}: no run there; expected runs that are done")
    members = [Member.at(run.path) for run in runs]
    if len(places) == 1 and len(groups := by_recipe(members)) > 1:
        listed = "; ".join(map(_recipe, groups))
        raise JobError(
            f"{places[0]}: holds runs of {len(groups)} recipes, {listed}; name those of one "
            "ensemble with commas, RUN,RUN"
        )
    check_members(members, ", ".join(map(str, places)))
    return sorted(members, key=lambda member: member.path.name)


def _recipe(group: Sequence[Member]) -> str:
    """A recipe by its first run: how many others there are, and what they were trained on."""
    first, more = group[0], len(group) - 1
    others = "" if not more else f" and {more} more seed{'s' * (more > 1)}"
    adapt = first.job.task.options.get("adapt")
    data = trained_on(first.job.data.model_dump(mode="json"), first.digest, adapt)
    return f"{first.path.name}{others} (trained on {data['name']})"


def by_recipe(members: Iterable[Member]) -> list[list[Member]]:
    """Members that differ in their seed alone, together; in the order in which they come."""
    groups: dict[str, list[Member]] = {}
    for member in members:
        groups.setdefault(recipe_of(member), []).append(member)
    return list(groups.values())


def recipe_of(member: Member) -> str:
    """Names what was learnt and how, whatever the seed: 10 hex digits, or several times 10.

    A run that starts from another of its own seed differs from its sisters in that other run too;
    then the recipe of that one counts.
    """
    job, start = member.job.model_copy(update={"seed": 0}), ""
    init = Path(job.train.init or "")
    if job.train.init and (init / "job.yaml").is_file():
        (earlier,) = load_jobs(init / "job.yaml")
        if isinstance(earlier, Job):
            start = recipe_of(Member.read(RunDir(init), earlier))
            train = job.train.model_copy(update={"init": None})
            job = job.model_copy(update={"train": train})
    return job.identity(member.digest) + start


def check_members(members: Sequence[Member], place: str) -> None:
    """Make sure that runs can be averaged.

    Arguments:
        members: All of them.
        place: Where they were named: begins the sentence of an error.

    Raises:
        JobError: There is one alone, or one twice, or they have learnt different things.
    """
    first, names = members[0], [member.path.name for member in members]
    if len(members) < 2:
        raise JobError(
            f"{place}: {first.path} alone is no ensemble; expected two runs or more, which differ "
            "in their seed or are named with commas"
        )
    if twice := [name for name in names if names.count(name) > 1]:
        raise JobError(f"{place}: the run {twice[0]} is named twice; a member counts once")
    for member in members:
        if member.job.task.name in MAKING_IMAGES:
            raise JobError(
                f"{place}: {member.path} makes images; expected runs that answer with scores "
                "or numbers, which have a mean"
            )
        if member.job.task.name == "masked":
            raise JobError(
                f"{place}: {member.path} restores hidden patches; expected runs that answer with "
                "scores or numbers, which have a mean"
            )
        if member.learnt != first.learnt:
            raise JobError(
                f"{place}: {first.path.name} has learnt {first.about}, {member.path.name} "
                f"{member.about}; the members of an ensemble learn the same"
            )
