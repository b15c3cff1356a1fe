"""Runs as arrays of SLURM jobs: grouped by what they ask for, and written as scripts.

submitit writes a script and hands it to sbatch. An element of an array is one run, taken from the
list of run directories in the script: editing a recipe while the array waits changes nothing.
``run RUNDIR --slurm`` carries it out, in one process of srun for each GPU.

A run that is cut short saves its state and exits 85 (130 or 143 where a signal ended it), and the
script then requeues its element: on the host, where scontrol is (a container may have none), and
not in a signal handler.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from deeplense_batch.cluster.site import Profile
from deeplense_batch.cluster.slurm_queue import SlurmError, largest_array
from deeplense_batch.core.job import JobError, Resources
from deeplense_batch.core.rundir import ELEMENT
from deeplense_batch.runs.launch import needs
from deeplense_batch.runs.planning.plan import PlannedRun

__all__ = ["Array", "Script", "check", "collect_script", "grouped", "script"]

_GRACE_SECONDS = 30  # that srun gives the other processes of a run when one has ended


@dataclass(frozen=True)
class Array:
    """Runs that ask for the same resources."""

    name: str  # unlike that of any other array: squeue is asked by it
    runs: tuple[PlannedRun, ...]
    needed: Resources  # of a machine, or of several, by each run

    def element(self, index: int) -> str:
        """The name of an element, as in `slurm_queue.elements`."""
        return f"{self.name}_{index}"

    def __str__(self) -> str:
        needed, count = self.needed, len(self.runs)
        gpus = f"{needed.gpus} GPU{'s' * (needed.gpus > 1)}, " * bool(needed.gpus)
        nodes = f"{needed.nodes} nodes, " * (needed.nodes > 1)
        cpus = needed.cpus * needed.tasks
        return (
            f"array of {count} run{'s' * (count > 1)}: {nodes}{gpus}"
            f"{cpus} CPU{'s' * (cpus > 1)}, {needed.memory_gb:g} GB, {needed.hours:g} h each"
        )


def check(todo: Sequence[PlannedRun], profile: Profile) -> None:
    """Make sure that runs can be in arrays at all.

    Raises:
        JobError: The time is too short for a warning, or a folder has a name that SLURM misreads.
    """
    needed = 2 * (profile.warn_seconds + 60) / 3600  # SLURM may warn a minute early
    for item in todo:
        _checked(item.run.path.absolute())
        hours = item.job.resources.hours
        if hours < needed:
            raise JobError(
                f"{item.job.name}: resources.hours: {hours:g} h leaves no time to save after a "
                f"warning of {profile.warn_seconds} s; allowed: {needed:.2g} or more"
            )


def grouped(todo: Sequence[PlannedRun], token: str, device: str | None) -> list[Array]:
    """Put runs that need the same resources into one array, or several of the largest size.

    Arguments:
        todo: The runs.
        token: Start of the arrays' names, which no other submission has.
        device: ``cpu`` or ``cuda``, in place of what the jobs ask for.
    """
    groups: dict[Resources, list[PlannedRun]] = {}
    for item in todo:
        groups.setdefault(needs(item.job, device), []).append(item)
    size = largest_array()
    arrays = [
        (tuple(runs[start : start + size]), needed)
        for needed, runs in groups.items()
        for start in range(0, len(runs), size)
    ]
    return [
        Array(f"{token}-{k}-{runs[0].job.name}", runs, needed)
        for k, (runs, needed) in enumerate(arrays)
    ]


class Script(submitit.SlurmExecutor):
    """A script that submitit writes and hands to sbatch, for a command in place of a pickle.

    submitit renames its pickles after the job number that sbatch returns: a `submit` killed just
    then would leave elements that find no pickle. And it requeues from within a signal handler.
    """

    def __init__(self, folder: Path, command: str, runs: int | None, **parameters: Any) -> None:
        super().__init__(folder)
        self.command = command
        self.update_parameters(**parameters)
        self.parameters["map_count"] = runs

    @classmethod
    def affinity(cls) -> int:
        """Not 0, so that scripts can be written on machines without SLURM, too."""
        return 1

    def __str__(self) -> str:
        return self._make_submission_file_text(self.command, "").rstrip() + "\n"

    def after(self, dependency: str) -> None:
        """Have it wait for other SLURM jobs, such as ``afterany:12:13``."""
        options = self.parameters["additional_parameters"] | {"kill-on-invalid-dep": "yes"}
        self.update_parameters(dependency=dependency, additional_parameters=options)

    def hand_over(self) -> str:
        """Give it to sbatch; returns the number of its job.

        Raises:
            SlurmError: sbatch is not there, or refused.
        """
        kept = {name: value for name, value in os.environ.items() if name in _KEPT}
        try:
            # Without the variables of a SLURM job that we may be in. The error of sbatch is in
            # our own sentence; submitit would print it as well.
            with submitit.helpers.clean_env(), contextlib.redirect_stderr(io.StringIO()):
                os.environ.update(kept)
                return str(self._submit_command(self.command).job_id)
        except FileNotFoundError as error:
            raise SlurmError(f"there is no {error.filename} on this machine") from None
        except (FailedJobError, FailedSubmissionError) as error:
            raise SlurmError(" ".join(str(error).split())) from error


def script(
    array: Array, profile: Profile, folder: Path, *, parallel: int | None, device: str | None
) -> Script:
    """Write an array as a script.

    Arguments:
        array: The runs.
        profile: What the site wants.
        folder: Of its logs.
        parallel: Elements at a time; None is no limit of ours.
        device: As that by which the array was `grouped`.

    Raises:
        JobError: A folder has a name that SLURM misreads.
    """
    program = shlex.join([*profile.hold, *profile.command, "run"])
    flags = " --slurm" + f" --device={device}" * (device is not None)
    runs = [f"    {shlex.quote(_checked(item.run.path.absolute()))}" for item in array.runs]
    return Script(
        folder,
        f'{program} "${{runs[$SLURM_ARRAY_TASK_ID]}}"{flags}',
        len(array.runs),
        **_header(profile, array.name, array.needed),
        signal_delay_s=profile.warn_seconds,
        array_parallelism=parallel or len(array.runs),
        # Not --kill-on-bad-exit: process 0 still writes how the run ended when others have left.
        srun_args=[f"--wait={_GRACE_SECONDS}", *profile.srun_args],
        setup=[
            *_preparation(profile),
            "runs=(",
            *runs,
            ")",
            f'export {ELEMENT}="${{SLURM_JOB_NAME}}_$SLURM_ARRAY_TASK_ID"',
            'export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"',
            'export OMP_NUM_THREADS="$SLURM_CPUS_PER_TASK"',
        ],
        teardown=[_REQUEUE.format(requeues=profile.requeues)],
    )


def collect_script(name: str, profile: Profile, folder: Path, runs: Path, report: Path) -> Script:
    """Write the job that compares all runs when arrays have ended, whether they failed or not.

    Arguments:
        name: Of the SLURM job.
        profile: What the site wants.
        folder: Of its log.
        runs: Folder of the run directories.
        report: Folder of the report.
    """
    command = [*profile.command, "collect", str(runs.absolute()), f"--out={report.absolute()}"]
    return Script(
        folder,
        shlex.join(command),
        None,
        **_header(profile, name, Resources(gpus=0)),
        setup=_preparation(profile),
        srun_args=profile.srun_args,
    )


def _header(profile: Profile, name: str, needed: Resources) -> dict[str, Any]:
    """The lines #SBATCH, by submitit's names for them."""
    gpus = {"gpus_per_node": needed.gpus // needed.nodes} if needed.gpus else {}
    site = ("partition", "account", "qos", "constraint", "exclude")
    return {
        "job_name": name,
        "time": math.ceil(needed.hours * 60),
        "nodes": needed.nodes,
        "ntasks_per_node": needed.tasks // needed.nodes,
        "cpus_per_task": needed.cpus,
        **gpus,
        "mem": f"{math.ceil(needed.memory_gb * 1024)}M",
        "stderr_to_stdout": True,
        "wckey": None,
        "additional_parameters": {"requeue": True, "chdir": _checked(Path.cwd())} | profile.sbatch,
        **{field: value for field in site if (value := getattr(profile, field))},
    }


def _preparation(profile: Profile) -> list[str]:
    """Lines of the shell before anything else."""
    return [*(f"module load {shlex.quote(name)}" for name in profile.modules), *profile.setup]


def _checked(path: Path) -> str:
    """A path, if SLURM will take it as it is.

    Raises:
        JobError: SLURM would read something else.
    """
    if "%" in str(path) or not str(path).isprintable():
        raise JobError(f"{str(path)!r}: SLURM misreads % and line breaks in names; rename it")
    return str(path)


_KEPT = ("SLURM_CONF", "SLURM_CLUSTERS", "SBATCH_EXPORT")  # variables that lead to a cluster
_REQUEUE = """\
code=$?
element=${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID
case $code in
    85 | 130 | 143) most={requeues} ;; # cut short; the next start goes on
    4) most=3 ;; # this node is unfit; another may not be
    *) exit "$code" ;;
esac
trap '' TERM # a requeue sends it here, and there is more to say
if [ "${{SLURM_RESTART_COUNT:-0}}" -ge "$most" ]; then
    echo "started $((most + 1)) times; submit again to go on" >&2
elif scontrol requeue "$element"; then
    [ "$code" != 4 ] || scontrol update JobId="$element" ExcNodeList="$SLURM_JOB_NODELIST"
else
    echo "cannot requeue $element from here; submit again to go on" >&2
fi
exit "$code\""""
