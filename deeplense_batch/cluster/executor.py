"""What carries out runs: the contract of an executor, and the table of all executors.

To add a cluster: write a subclass of `Executor` in a file of this folder and add its row to
`EXECUTORS`; `submit` needs nothing else.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar

from deeplense_batch.core.job import JobError, OverrideError, nearest
from deeplense_batch.runs.planning.plan import PlannedRun

__all__ = ["EXECUTORS", "Executor", "Options", "make_executor"]

# The word after --cluster: module and class, which are imported when they are asked for.
EXECUTORS = {
    "local": ("deeplense_batch.cluster.local", "Local"),
    "slurm": ("deeplense_batch.cluster.slurm_submit", "Slurm"),
    "debug": ("deeplense_batch.cluster.local", "Debug"),
}


@dataclass(frozen=True)
class Options:
    """How runs are to be carried out; a field has the name of the flag of `submit`."""

    parallel: int | None = None  # runs at a time; None: as many as there is room for
    device: str | None = None  # cpu or cuda, in place of what the jobs ask for
    jobs_per_gpu: int = 1  # runs that share a GPU
    chain: int = 0  # jobs that wait behind each array, to go on with runs it did not finish
    collect: Path | None = None  # folder of a report, made when all runs have ended
    bench: Path | None = None  # file of `bench --out`, to estimate hours from


class Executor(ABC):
    """One way to carry out runs. An object of it serves one submission.

    Arguments:
        out: Folder of the run directories.
        options: How the runs are to be carried out.
    """

    name: ClassVar[str]  # the word after --cluster
    flags: ClassVar[tuple[str, ...]] = ("parallel", "device")  # the options that it heeds
    waits: ClassVar[bool] = True  # whether `submit` returns only when the runs have ended

    def __init__(self, out: Path, options: Options) -> None:
        self.out = out
        self.options = options

    @abstractmethod
    def check(self, todo: Sequence[PlannedRun]) -> None:
        """Make sure that runs can be carried out; called before anything is written.

        Raises:
            JobError: A run asks for what there is not, or the site's profile is wrong.
        """

    def estimate(self, todo: Sequence[PlannedRun]) -> str:
        """What the runs will take, in lines to print; empty where there is nothing to say.

        Raises:
            JobError: As `check`.
            CollectError: The file of `Options.bench` is not one.
        """
        return ""

    @abstractmethod
    def submit(self, todo: Sequence[PlannedRun]) -> None:
        """Carry out runs, or hand them to a cluster. A failed run does not stop the others.

        How each run ended is read from its run directory, never from here.

        Arguments:
            todo: At least one run; their directories are made.
        """


def make_executor(cluster: str, out: Path, options: Options) -> Executor:
    """The executor that ``--cluster`` names.

    Arguments:
        cluster: A key of `EXECUTORS`.
        out: Folder of the run directories.
        options: How the runs are to be carried out.

    Raises:
        JobError: There is no such executor.
        OverrideError: It does not heed an option that was given.
    """
    if cluster not in EXECUTORS:
        raise JobError(f"--cluster: unknown '{cluster}'; {nearest(cluster, EXECUTORS)}")
    kind = _executor_class(cluster)
    for field in fields(Options):
        if getattr(options, field.name) != field.default and field.name not in kind.flags:
            able = [name for name in EXECUTORS if field.name in _executor_class(name).flags]
            raise OverrideError(
                f"--{field.name}: is for --cluster {' or '.join(able)}, not --cluster {cluster}"
            )
    return kind(out, options)


def _executor_class(cluster: str) -> type[Executor]:
    module, name = EXECUTORS[cluster]
    executor: type[Executor] = getattr(importlib.import_module(module), name)
    return executor
