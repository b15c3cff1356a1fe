"""The verbs of many runs: submit or sbatch them, watch them with status, cancel and clean."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, Literal

from deeplense_batch.cli.values import Device, Positive
from deeplense_batch.cluster.recipes import Recipes, runs_folder

__all__ = ["cancel", "clean", "sbatch", "status", "submit"]

_AT_WORK = ("queued", "running")
_WATCH_SECONDS = 30.0  # between two looks, each of which asks SLURM once


def submit(
    # Recipes; none with --grid means every recipe in jobs/ that trains or evaluates and has here
    # what it needs.
    *jobs: Path,
    # Take every run of a recipe's grid and seeds; without it, a recipe is one run.
    grid: bool = False,
    # local, processes on this machine; slurm, arrays of jobs, as slurm/profile.yaml says; or
    # debug, this process.
    cluster: str = "local",
    out: Path | None = None,  # Folder of the run directories, by default runs.
    # Runs at a time; on SLURM, of each array. 0: as many as fit this machine; on SLURM, all.
    parallel: int = 0,
    jobs_per_gpu: Positive = 1,  # Runs that share a GPU of this machine, for small networks.
    device: Device | None = None,  # cpu or cuda, in place of what the jobs ask for.
    retry: bool = False,  # Try failed runs again.
    force: bool = False,  # Put aside what is there and start over.
    dry_run: bool = False,  # Show what would be done, and stop.
    yes: bool = False,  # Do not ask before all of jobs/ is submitted from a terminal.
    # On SLURM, jobs behind each array that go on with what it leaves, where nodes cannot requeue.
    chain: int = 0,
    # On SLURM, a job that compares the runs in report/ when all have ended.
    collect: bool = False,
    bench: Path | None = None,  # On SLURM, file of bench --out, to estimate the hours by.
    **fields: Any,  # Fields of the jobs, such as --train.epochs=3.
) -> int:
    """Carry out every run of jobs that is not done yet; a second time, nothing.

    Example: submit --grid jobs/model_comparison.yaml --cluster slurm --dry_run
    """
    from deeplense_batch.cluster.executor import Options, make_executor
    from deeplense_batch.cluster.submit import Submission, submit

    folder = runs_folder(out)
    options = Options(
        parallel=parallel or None, device=device, jobs_per_gpu=jobs_per_gpu, chain=chain,
        collect=Path("report") if collect else None, bench=bench,
    )  # fmt: skip
    executor = make_executor(cluster, folder, options)
    recipes = Recipes.load("submit", jobs, fields, grid=grid)
    planned = recipes.planned(folder)
    if not planned:
        return recipes.tell_none()
    submission = Submission.of(planned, retry=retry, force=force)
    print(submission, *recipes.left_out(), sep="\n")
    if submission.todo and (estimate := executor.estimate(submission.todo)):
        print(estimate)
    if dry_run or (recipes.all_of_jobs and not yes and submission.todo and not _agreed()):
        return 0
    submit(submission, executor)
    return 5 if executor.waits and not submission.complete else 0


def sbatch(
    # Recipes; none with --grid means every recipe in jobs/ that trains or evaluates and has here
    # what it needs.
    *jobs: Path,
    # Take every run of a recipe's grid and seeds; without it, a recipe is one run.
    grid: bool = False,
    out: Path = Path("slurm/generated"),  # Folder of the scripts.
    runs: Path | None = None,  # Folder of the run directories, by default runs.
    parallel: int = 0,  # Runs of an array at a time; 0 is no limit.
    device: Device | None = None,  # cpu or cuda, in place of what the jobs ask for.
    retry: bool = False,  # Failed runs too.
    **fields: Any,  # Fields of the jobs, such as --train.epochs=3.
) -> int:
    """Write scripts for every run of jobs that is not done yet, to read and hand to sbatch.

    Example: sbatch --grid jobs/model_comparison.yaml --parallel 4
    """
    recipes = Recipes.load("sbatch", jobs, fields, grid=grid)
    planned = recipes.planned(runs_folder(runs))
    if not planned:
        return recipes.tell_none()
    from deeplense_batch.cluster.slurm_submit import write_scripts
    from deeplense_batch.cluster.submit import Submission

    submission = Submission.of(planned, retry=retry, force=False)
    print(submission, *recipes.left_out(), sep="\n")
    for path in write_scripts(submission.todo, out, parallel=parallel or None, device=device):
        print(f"sbatch {path}")
    return 0


def status(
    runs: Path | None = None,  # Folder, by default runs.
    *,
    check: bool = False,  # Exit 5 unless every run is done.
    # Look again every half minute until no run waits or is at work, or Ctrl-C.
    watch: bool = False,
) -> int:
    """Show the state of every run below a folder: progress, time left, cause and log.

    Example: status demo/runs --watch
    """
    from deeplense_batch.cluster.status import incomplete, status

    folder = runs_folder(runs)
    shown = status(folder)
    print(shown)
    while watch and any(state in shown.splitlines()[-1] for state in _AT_WORK):
        time.sleep(_WATCH_SECONDS)
        shown = status(folder)
        print(f"\n{time.strftime('%H:%M:%S')}\n{shown}", flush=True)
    return 5 if check and incomplete(folder) else 0


def cancel(
    runs: Path | None = None,  # Folder, by default runs.
    *,
    # Of the runs that are meant: queued, running or both.
    state: tuple[Literal["queued", "running"], ...] = ("queued", "running"),
    dry_run: bool = False,  # Show which, and stop.
) -> None:
    """Cancel runs on SLURM; those at work save their state, and submit goes on with them.

    Example: cancel runs/model_comparison --state queued --dry_run
    """
    from deeplense_batch.cluster.status import cancel

    cancelled = cancel(runs_folder(runs), state, dry_run=dry_run)
    print(*cancelled, f"{len(cancelled)} {'to cancel' if dry_run else 'cancelled'}", sep="\n")


def clean(
    runs: Path | None = None,  # Folder, by default runs.
    *,
    older: float = 0.0,  # Days, at least, since they were written.
    dry_run: bool = False,  # Show which, and stop.
) -> None:
    """Remove the checkpoints of runs that are done; results and best weights are kept.

    Example: clean --older 30 --dry_run
    """
    from deeplense_batch.cluster.status import clean

    removed = clean(runs_folder(runs), older=older, dry_run=dry_run)
    count = f"{len(removed)} file" if len(removed) == 1 else f"{len(removed)} files"
    print(*removed, f"{count} {'to remove' if dry_run else 'removed'}", sep="\n")


def _agreed() -> bool:
    """Ask on a terminal; a script has said what it wants."""
    if not sys.stdin.isatty():
        return True
    return input("Go on? [y/N] ").strip().lower() in ("y", "yes")
