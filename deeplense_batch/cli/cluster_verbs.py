"""The verbs of many runs: submit or sbatch them, watch them with status, cancel and clean."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, Literal

from deeplense_batch.cli.recipes import Recipes, runs_folder
from deeplense_batch.cli.values import Device, Positive, UsageError

__all__ = ["cancel", "clean", "sbatch", "status", "submit"]

_AT_WORK = ("queued", "running")
_WATCH_SECONDS = 30.0  # between two looks, each of which asks SLURM once


def submit(
    *jobs: Path,
    grid: bool = False,
    cluster: str = "local",
    out: Path | None = None,
    parallel: int = 0,
    jobs_per_gpu: Positive = 1,
    device: Device | None = None,
    retry: bool = False,
    force: bool = False,
    dry_run: bool = False,
    yes: bool = False,
    chain: int = 0,
    collect: bool = False,
    bench: Path | None = None,
    **fields: Any,
) -> int:
    """Carry out every run of jobs that is not done yet; a second time, nothing.

    Example: submit --grid jobs/model_comparison.yaml --cluster slurm --dry_run

    Arguments:
        jobs: Recipes; none with --grid means every recipe in jobs/ whose data are here.
        grid: Take every run of a recipe's grid and seeds; without it, a recipe is one run.
        cluster: local, processes on this machine; slurm, arrays of jobs, as slurm/profile.yaml
            says; or debug, this process.
        out: Folder of the run directories, by default runs.
        parallel: Runs at a time, of an array on SLURM; 0 fits the machine.
        jobs_per_gpu: Runs that share a GPU of this machine, for small networks.
        device: cpu or cuda, in place of what the jobs ask for.
        retry: Try failed runs again.
        force: Put aside what is there and start over.
        dry_run: Show what would be done, and stop.
        yes: Do not ask before all of jobs/ is submitted from a terminal.
        chain: On SLURM, jobs behind each array that go on with what it leaves, where nodes
            cannot requeue.
        collect: On SLURM, a job that compares the runs in report/ when all have ended.
        bench: On SLURM, file of bench --out, to estimate the hours by.
        fields: Fields of the jobs, such as --train.epochs=3.
    """
    from deeplense_batch import submit as submission

    submission.check_cluster(cluster)
    if jobs_per_gpu > 1 and cluster != "local":
        raise UsageError("--jobs_per_gpu: is 1 or more, and more on this machine only")
    if (chain or collect or bench) and cluster != "slurm":
        raise UsageError("--chain, --collect and --bench: are for --cluster slurm")
    recipes = Recipes.load("submit", jobs, fields, grid=grid)
    folder = runs_folder(out)
    planned = recipes.planned(folder)
    if not planned:
        return recipes.tell_none()
    todo = submission.Submission.of(planned, retry=retry, force=force)
    print(todo, *recipes.left_out(), sep="\n")
    if cluster == "slurm" and todo.todo:
        from deeplense_batch.forecast import forecast
        from deeplense_batch.profile import load_profile

        print(forecast(todo.todo, folder, load_profile(), bench=bench))
    if dry_run or (recipes.all_of_jobs and not yes and todo.todo and not _agreed()):
        return 0
    submission.submit(
        todo, folder, cluster=cluster, parallel=parallel or None, jobs_per_gpu=jobs_per_gpu,
        device=device, chain=chain, report=Path("report") if collect else None,
    )  # fmt: skip
    return 0 if cluster == "slurm" or todo.complete else 5


def sbatch(
    *jobs: Path,
    grid: bool = False,
    out: Path = Path("slurm/generated"),
    runs: Path | None = None,
    parallel: int = 0,
    device: Device | None = None,
    retry: bool = False,
    **fields: Any,
) -> int:
    """Write scripts for every run of jobs that is not done yet, to read and hand to sbatch.

    Example: sbatch --grid jobs/model_comparison.yaml --parallel 4

    Arguments:
        jobs: Recipes; none with --grid means every recipe in jobs/ whose data are here.
        grid: Take every run of a recipe's grid and seeds; without it, a recipe is one run.
        out: Folder of the scripts.
        runs: Folder of the run directories, by default runs.
        parallel: Runs of an array at a time; 0 is no limit.
        device: cpu or cuda, in place of what the jobs ask for.
        retry: Failed runs too.
        fields: Fields of the jobs, such as --train.epochs=3.
    """
    recipes = Recipes.load("sbatch", jobs, fields, grid=grid)
    planned = recipes.planned(runs_folder(runs))
    if not planned:
        return recipes.tell_none()
    from deeplense_batch.handover import write_scripts
    from deeplense_batch.submit import Submission

    submission = Submission.of(planned, retry=retry, force=False)
    print(submission, *recipes.left_out(), sep="\n")
    for path in write_scripts(submission.todo, out, parallel=parallel or None, device=device):
        print(f"sbatch {path}")
    return 0


def status(runs: Path | None = None, *, check: bool = False, watch: bool = False) -> int:
    """Show the state of every run below a folder: progress, time left, cause and log.

    Example: status demo/runs --watch

    Arguments:
        runs: Folder, by default runs.
        check: Exit 5 unless every run is done.
        watch: Look again every half minute until no run waits or is at work, or Ctrl-C.
    """
    from deeplense_batch.watch import incomplete, status

    folder = runs_folder(runs)
    shown = status(folder)
    print(shown)
    while watch and any(state in shown.splitlines()[-1] for state in _AT_WORK):
        time.sleep(_WATCH_SECONDS)
        shown = status(folder)
        print(f"\n{time.strftime('%H:%M:%S')}\n{shown}", flush=True)
    return 5 if check and incomplete(folder) else 0


def cancel(
    runs: Path | None = None,
    *,
    state: tuple[Literal["queued", "running"], ...] = ("queued", "running"),
    dry_run: bool = False,
) -> int:
    """Cancel runs on SLURM; those at work save their state, and submit goes on with them.

    Example: cancel runs/model_comparison --state queued --dry_run

    Arguments:
        runs: Folder, by default runs.
        state: Of the runs that are meant: queued, running or both.
        dry_run: Show which, and stop.
    """
    from deeplense_batch.watch import cancel

    cancelled = cancel(runs_folder(runs), state, dry_run=dry_run)
    print(*cancelled, f"{len(cancelled)} {'to cancel' if dry_run else 'cancelled'}", sep="\n")
    return 0


def clean(runs: Path | None = None, *, older: float = 0.0, dry_run: bool = False) -> int:
    """Remove the checkpoints of runs that are done; results and best weights are kept.

    Example: clean --older 30 --dry_run

    Arguments:
        runs: Folder, by default runs.
        older: Days, at least, since they were written.
        dry_run: Show which, and stop.
    """
    from deeplense_batch.watch import clean

    removed = clean(runs_folder(runs), older=older, dry_run=dry_run)
    print(*removed, f"{len(removed)} files {'to remove' if dry_run else 'removed'}", sep="\n")
    return 0


def _agreed() -> bool:
    """Ask on a terminal; a script has said what it wants."""
    if not sys.stdin.isatty():
        return True
    return input("Go on? [y/N] ").strip().lower() in ("y", "yes")
