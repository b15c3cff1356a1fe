"""The verbs of many runs: submit or sbatch them, watch them with status, cancel and clean."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeplense_batch.cli import words
from deeplense_batch.cli.data_commands import Plan
from deeplense_batch.cli.model_commands import ModelCommands
from deeplense_batch.core.job import AnyJob, NotYetError, Simulation
from deeplense_batch.core.recipe import load_jobs

if TYPE_CHECKING:
    from deeplense_batch.runs.plan import PlannedRun

__all__ = ["ClusterCommands"]

_WATCH_SECONDS = 30.0  # between two looks, each of which asks SLURM once


class ClusterCommands(ModelCommands):
    """Many runs, on this machine or on a cluster."""

    def submit(
        self,
        *jobs: str,
        grid: bool | str = False,
        cluster: str = "local",
        out: str = "",
        parallel: int | str = 0,
        jobs_per_gpu: int | str = 1,
        device: str = "",
        retry: bool | str = False,
        force: bool | str = False,
        dry_run: bool | str = False,
        yes: bool | str = False,
        chain: int | str = 0,
        collect: bool | str = False,
        bench: str = "",
        **overrides: bool | str,
    ) -> Plan:
        """Carry out every run of jobs that is not done yet; a second time, nothing.

        Args:
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
            overrides: Fields of the jobs, such as --train.epochs=3.
        """
        from deeplense_batch.cluster.executor import Options, make_executor

        expand, paths = words.recipes(jobs, grid)
        flags = {"retry": words.flag("retry", retry), "force": words.flag("force", force)}
        dry = words.flag("dry_run", dry_run)
        everything = not jobs and not isinstance(grid, str)
        ask = everything and not words.flag("yes", yes)
        fields = words.overrides(self.submit, overrides)
        slots = words.integer("parallel", parallel) or None
        shared = words.integer("jobs_per_gpu", jobs_per_gpu)
        on = words.choice("device", device, ("cpu", "cuda")) if device else None
        if shared < 1:
            raise words.UsageError("--jobs_per_gpu: is 1 or more")
        compared = words.flag("collect", collect)
        folder = words.runs_folder(out)
        executor = make_executor(
            cluster,
            folder,
            Options(
                parallel=slots, device=on, jobs_per_gpu=shared,
                chain=words.integer("chain", chain),
                collect=Path("report") if compared else None, bench=bench or None,
            ),
        )  # fmt: skip
        loaded = _loaded(paths, fields, expand=expand, everything=everything)

        def act() -> int:
            from deeplense_batch.cluster.submit import Submission, submit

            submission = Submission.of(_planned(loaded, folder, everything=everything), **flags)
            print(submission)
            if submission.todo and (estimate := executor.estimate(submission.todo)):
                print(estimate)
            if dry or (ask and submission.todo and not _agreed()):
                return 0
            submit(submission, executor)
            return 5 if executor.waits and not submission.complete else 0

        return Plan(act)

    def sbatch(
        self,
        *jobs: str,
        grid: bool | str = False,
        out: str = "slurm/generated",
        runs: str = "",
        parallel: int | str = 0,
        device: str = "",
        retry: bool | str = False,
        **overrides: bool | str,
    ) -> Plan:
        """Write scripts for every run of jobs that is not done yet, to read and hand to sbatch.

        Args:
            jobs: Recipes; none with --grid means every recipe in jobs/ whose data are here.
            grid: Take every run of a recipe's grid and seeds; without it, a recipe is one run.
            out: Folder of the scripts.
            runs: Folder of the run directories, by default runs.
            parallel: Runs of an array at a time; 0 is no limit.
            device: cpu or cuda, in place of what the jobs ask for.
            retry: Failed runs too.
            overrides: Fields of the jobs, such as --train.epochs=3.
        """
        expand, paths = words.recipes(jobs, grid)
        everything = not jobs and not isinstance(grid, str)
        again = words.flag("retry", retry)
        slots = words.integer("parallel", parallel) or None
        on = words.choice("device", device, ("cpu", "cuda")) if device else None
        folder = words.folder("--out", out)
        fields = words.overrides(self.sbatch, overrides)
        loaded = _loaded(paths, fields, expand=expand, everything=everything)

        def act() -> int:
            from deeplense_batch.cluster.slurm_submit import write_scripts
            from deeplense_batch.cluster.submit import Submission

            planned = _planned(loaded, words.runs_folder(runs), everything=everything)
            submission = Submission.of(planned, retry=again, force=False)
            print(submission)
            for path in write_scripts(submission.todo, folder, parallel=slots, device=on):
                print(f"sbatch {path}")
            return 0

        return Plan(act)

    def status(
        self, runs: str = "", *, check: bool | str = False, watch: bool | str = False
    ) -> Plan:
        """Show the state of every run below a folder: progress, time left, cause and log.

        Args:
            runs: Folder, by default runs.
            check: Exit 5 unless every run is done.
            watch: Look again every half minute until no run waits or is at work, or Ctrl-C.
        """
        checked, again = words.flag("check", check), words.flag("watch", watch)

        def act() -> int:
            from deeplense_batch.cluster.status import incomplete, status

            folder = words.runs_folder(runs)
            shown = status(folder)
            print(shown)
            while again and any(state in shown.splitlines()[-1] for state in _AT_WORK):
                time.sleep(_WATCH_SECONDS)
                shown = status(folder)
                print(f"\n{time.strftime('%H:%M:%S')}\n{shown}", flush=True)
            return 5 if checked and incomplete(folder) else 0

        return Plan(act)

    def cancel(
        self, runs: str = "", *, state: str = "queued,running", dry_run: bool | str = False
    ) -> Plan:
        """Cancel runs on SLURM; those at work save their state, and submit goes on with them.

        Args:
            runs: Folder, by default runs.
            state: Of the runs that are meant: queued, running or both.
            dry_run: Show which, and stop.
        """
        dry = words.flag("dry_run", dry_run)
        states = [words.choice("state", name.strip(), _AT_WORK) for name in state.split(",")]

        def act() -> int:
            from deeplense_batch.cluster.status import cancel

            cancelled = cancel(words.runs_folder(runs), states, dry_run=dry)
            print(*cancelled, f"{len(cancelled)} to cancel" if dry else
                  f"{len(cancelled)} cancelled", sep="\n")  # fmt: skip
            return 0

        return Plan(act)

    def clean(self, runs: str = "", *, older: str = "0", dry_run: bool | str = False) -> Plan:
        """Remove the checkpoints of runs that are done; results and best weights are kept.

        Args:
            runs: Folder, by default runs.
            older: Days, at least, since they were written.
            dry_run: Show which, and stop.
        """
        dry, days = words.flag("dry_run", dry_run), words.number("older", older)

        def act() -> int:
            from deeplense_batch.cluster.status import clean

            found = clean(words.runs_folder(runs), older=days, dry_run=dry)
            print(*found, f"{len(found)} files {'to remove' if dry else 'removed'}", sep="\n")
            return 0

        return Plan(act)


_AT_WORK = ("queued", "running")


def _loaded(
    paths: list[str], fields: Mapping[str, Any], *, expand: bool, everything: bool
) -> dict[str, list[AnyJob]]:
    """Read recipes; data are made only where that is asked for."""
    if everything:
        paths = [p for p in paths if not isinstance(load_jobs(p)[0], Simulation)]
    loaded = {path: load_jobs(path, fields) for path in paths}
    for path, found in loaded.items():
        if len(found) > getattr(found[0], "parts", 1) and not expand:
            raise words.UsageError(f"{path}: holds {len(found)} runs; --grid submits them all")
    return loaded


def _planned(
    loaded: Mapping[str, list[AnyJob]], folder: Path, *, everything: bool
) -> list[PlannedRun]:
    """Plan the runs; recipes that lack what they need are left out where all were asked for."""
    from deeplense_batch.data.shards import ShardError
    from deeplense_batch.models.weights import WeightsError
    from deeplense_batch.runs.plan import plan

    planned: list[PlannedRun] = []
    left_out = ""
    for path, found in loaded.items():
        try:
            planned += plan(found, folder)
        except (ShardError, NotYetError, WeightsError) as error:
            if not everything:
                raise
            left_out = f"left out {path}: {error}"
            print(left_out)
    if not planned:
        raise ShardError(f"no recipe in jobs/ has what it needs here; {left_out}")
    return planned


def _agreed() -> bool:
    """Ask on a terminal; a script has said what it wants."""
    if not sys.stdin.isatty():
        return True
    return input("Go on? [y/N] ").strip().lower() in ("y", "yes")
