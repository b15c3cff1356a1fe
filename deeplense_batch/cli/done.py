"""The line that tells of a run that is done: where it is, what it scored, and the scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deeplense_batch.core.job import AnyJob, Evaluation
from deeplense_batch.core.result import outcome, read_metrics

if TYPE_CHECKING:
    from deeplense_batch.runs.planning.plan import PlannedRun

__all__ = ["done"]


def done(planned: PlannedRun) -> str:
    """Say that a run is done, and its result; of an evaluation also which runs, on which images.

    Arguments:
        planned: The run, which has been carried out.

    Raises:
        RunDirError: Its result is damaged.
    """
    return f"{planned.run.path}: done{_scored(planned.job)}; {outcome(read_metrics(planned.run))}"


def _scored(job: AnyJob) -> str:
    """What an evaluation is of, by the last two folders of each path; nothing of other runs."""
    if not isinstance(job, Evaluation):
        return ""
    runs = " + ".join(map(_short, job.evaluate.runs))
    return f", {runs} on {job.evaluate.data.slice} of {_short(str(job.evaluate.data.root))}"


def _short(path: str) -> str:
    return "/".join(Path(path).parts[-2:])
