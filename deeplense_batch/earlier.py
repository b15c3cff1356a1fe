"""Earlier runs that a job names: the one it starts from, and the classifier that judges."""

from __future__ import annotations

import re
from pathlib import Path

from deeplense_batch.job import AnyJob, Job, JobError, NotYetError
from deeplense_batch.memo import Memo
from deeplense_batch.recipe import load_jobs
from deeplense_batch.rundir import RunDirError, find_runs

__all__ = ["find_classifier", "with_earlier"]


def with_earlier(job: AnyJob, memo: Memo) -> AnyJob:
    """The job with the runs that it names found, where it named a job's folder.

    Arguments:
        job: The job.
        memo: What is known of the earlier runs of other jobs of the plan.

    Raises:
        NotYetError: One is not there, or not through.
        JobError: There are several, or it is of no use.
    """
    return _with_judge(_with_init(job, memo), memo)


def find_classifier(place: Path, asked: str) -> Path:
    """The run directory of a classifier that judges.

    Only one judges, since features of two networks do not compare.

    Arguments:
        place: It, or its job's folder.
        asked: Where it was named.

    Raises:
        NotYetError: There is none, or it is not done.
        JobError: There are several, or it tells no classes apart.
    """
    runs = find_runs(place)
    if len(runs) > 1:
        raise JobError(f"{asked}: {place} has {len(runs)} runs; name one, which judges all alike")
    try:
        done = bool(runs) and runs[0].status().state == "done"
    except RunDirError as error:
        raise JobError(f"{asked}: {error}") from None
    if not done:
        raise NotYetError(
            f"{asked}: {place}: no finished run there; expected that of a classifier", place
        )
    (job,) = load_jobs(runs[0].path / "job.yaml")
    if not isinstance(job, Job) or job.task.name in ("generation", "regression"):
        raise JobError(
            f"{asked}: {runs[0].path} tells no classes apart; expected a run of a classifier"
        )
    return runs[0].path


def _with_init(job: AnyJob, memo: Memo) -> AnyJob:
    """The job with the run it starts from, where a job's folder was named: its counterpart.

    Raises:
        NotYetError: There is none, or it has no weights yet.
        JobError: There are several.
    """
    if not isinstance(job, Job) or job.train.init is None:
        return job
    place = Path(job.train.init)
    if place.is_dir() and not (place / "job.yaml").exists():
        start = job.run_name("").rpartition("-")[0] + "-"
        runs = memo.once(("beginnings", place), lambda: _by_beginning(place)).get(start, [])
        if len(runs) > 1:
            raise JobError(
                f"{job.name}: train.init: {place} has {len(runs)} runs {start}...; name one"
            )
        place = runs[0] if runs else place / f"{start}..."
    if not (place / "best.pt" if place.is_dir() else place).is_file():
        raise NotYetError(
            f"{job.name}: train.init: {place}: no weights there; expected a run that has trained, "
            "or a .pt or .safetensors file",
            Path(job.train.init),
        )
    train = job.train.model_copy(update={"init": str(place.absolute())})
    return job.model_copy(update={"train": train})


def _by_beginning(place: Path) -> dict[str, list[Path]]:
    """What lies in a folder, by the beginnings of its names that end in a dash."""
    found: dict[str, list[Path]] = {}
    for path in sorted(place.iterdir()):
        for dash in re.finditer("-", path.name):
            found.setdefault(path.name[: dash.end()], []).append(path)
    return found


def _with_judge(job: AnyJob, memo: Memo) -> AnyJob:
    """The job with the run of the classifier that judges, where its job's folder was named."""
    if not isinstance(job, Job) or job.judge is None or job.judge.classifier is None:
        return job
    place, asked = Path(job.judge.classifier), f"{job.name}: judge.classifier"
    run = memo.once((asked, place), lambda: find_classifier(place, asked))
    section = job.judge.model_copy(update={"classifier": str(run.absolute())})
    return job.model_copy(update={"judge": section})
