"""The executor of SLURM: runs are handed over as arrays, and this program does not wait for them.

The scripts are those of `slurm_script`. `write_scripts` only writes them, to be read and handed to
sbatch by hand.
"""

from __future__ import annotations

import itertools
import logging
import os
import secrets
import shlex
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from deeplense_batch.cluster import slurm_script
from deeplense_batch.cluster.estimate import forecast
from deeplense_batch.cluster.executor import Executor
from deeplense_batch.cluster.record import open_record, write_record
from deeplense_batch.cluster.site import Profile, load_profile
from deeplense_batch.cluster.slurm_script import Array, Script
from deeplense_batch.core.rundir import Status
from deeplense_batch.runs.planning.plan import PlannedRun

__all__ = ["Slurm", "write_scripts"]

_Waiting = dict[Path, tuple[PlannedRun, Status]]  # runs of a submission, each as it was before

_log = logging.getLogger(__name__)


class Slurm(Executor):
    """Arrays of SLURM jobs, an element of an array a run; `site` says what the cluster wants."""

    name = "slurm"
    flags = (*Executor.flags, "chain", "collect", "bench")
    waits = False

    @cached_property
    def profile(self) -> Profile:
        """What the site wants.

        Raises:
            JobError: `slurm/profile.yaml` is wrong.
        """
        return load_profile()

    def check(self, todo: Sequence[PlannedRun]) -> None:
        """Make sure that runs can be in arrays at all: of their hours and their paths.

        Raises:
            JobError: One cannot, or the site's profile is wrong.
        """
        slurm_script.check(todo, self.profile)

    def estimate(self, todo: Sequence[PlannedRun]) -> str:
        """The arrays of the runs, their hours and their price: as `estimate.forecast`."""
        options = self.options
        return forecast(todo, self.out, self.profile, device=options.device, bench=options.bench)

    def submit(self, todo: Sequence[PlannedRun]) -> None:
        """Hand runs to SLURM.

        Each run writes which element of which array it waits for before SLURM hears of it, so
        that nothing is lost where this process is killed in between. Those of which SLURM has not
        heard when it refuses are as they were.

        Raises:
            SlurmError: SLURM is not there, or refused.
        """
        folder = open_record(self.out)
        token = folder.name.rpartition("-")[2]
        befores = [(item, item.take(f"{token}_")) for item in todo]
        waiting = {item.run.path: (item, before) for item, before in befores if before is not None}
        if not waiting:
            return
        try:
            self._hand_over_all(folder, token, waiting)
        except Exception:
            for item, before in waiting.values():
                item.give_back(before)
            raise

    def _hand_over_all(self, folder: Path, token: str, waiting: _Waiting) -> None:
        """Give arrays of runs to sbatch, and what waits behind them.

        Arguments:
            folder: Of the record.
            token: Of the arrays.
            waiting: The runs; each is removed when SLURM has it.
        """
        todo = [item for item, _ in waiting.values()]
        arrays = slurm_script.grouped(todo, token, self.options.device)
        scripts = [
            slurm_script.script(
                array,
                self.profile,
                folder / str(k),
                parallel=self.options.parallel,
                device=self.options.device,
            )
            for k, array in enumerate(arrays)
        ]
        runs = [line for array in arrays for line in _queue(array)]
        details: dict[str, Any] = {"profile": self.profile.model_dump(mode="json")}
        write_record(folder, runs, cluster=self.name, **details)
        ids: list[str] = []
        for array, script in zip(arrays, scripts, strict=True):
            ids += self._hand_over(array, script, waiting)
        if self.options.collect is not None:
            ids.append(self._hand_over_collect(folder, token, ids))
        write_record(folder, runs, cluster=self.name, **details, jobs=ids)

    def _hand_over(self, array: Array, script: Script, waiting: _Waiting) -> list[str]:
        """Give an array to sbatch, and the jobs that wait behind it; their numbers."""
        script.folder.mkdir()
        ids = [script.hand_over()]
        for item in array.runs:
            del waiting[item.run.path]
        for _ in range(self.options.chain):
            script.after(f"afternotok:{ids[-1]}")
            ids.append(script.hand_over())
        _log.info("job %s: %s", " then ".join(ids), array)
        return ids

    def _hand_over_collect(self, folder: Path, token: str, ids: Sequence[str]) -> str:
        """Give the job that compares all runs to sbatch; it waits for all others."""
        assert self.options.collect is not None
        logs = folder / "collect"
        logs.mkdir()
        script = slurm_script.collect_script(
            f"{token}-collect", self.profile, logs, self.out, self.options.collect
        )
        script.after("afterany:" + ":".join(ids))
        job_id = script.hand_over()
        _log.info("job %s: collect, when the others have ended", job_id)
        return job_id


def write_scripts(
    todo: Sequence[PlannedRun],
    folder: Path,
    *,
    parallel: int | None = None,
    device: str | None = None,
) -> list[Path]:
    """Write scripts that carry out runs, to be handed to sbatch by hand.

    Arguments:
        todo: The runs; their directories are made here.
        folder: Of the scripts, and of their logs.
        parallel: Runs of an array at a time; by default as many as SLURM likes.
        device: ``cpu`` or ``cuda``, in place of what the jobs ask for.

    Returns:
        The scripts, one for each array.

    Raises:
        JobError: The site's profile is wrong, or a run cannot be in an array.
    """
    profile = load_profile()
    slurm_script.check(todo, profile)
    logs = folder.absolute() / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for array in slurm_script.grouped(todo, secrets.token_hex(4), device):
        for item in array.runs:
            item.create()
        script = slurm_script.script(array, profile, logs, parallel=parallel, device=device)
        names = (f"{array.runs[0].job.name}-{k}.sbatch" for k in itertools.count(len(paths)))
        # Never one that is there: its user was told to edit it.
        path = next(folder / name for name in names if not os.path.lexists(folder / name))
        hint = f"# An {array}.\n# Edit it as you like, then: sbatch {shlex.quote(str(path))}\n"
        shebang, _, rest = str(script).partition("\n")
        path.write_text(f"{shebang}\n{hint}{rest}", encoding="utf-8")
        paths.append(path)
    return paths


def _queue(array: Array) -> list[dict[str, str]]:
    """Have each run of an array wait for its element; a line of the record for each."""
    lines = []
    for index, item in enumerate(array.runs):
        element = array.element(index)
        item.run.write_status(replace(item.run.status(), element=element))
        lines.append({"run": str(item.run.path.absolute()), "element": element})
    return lines
