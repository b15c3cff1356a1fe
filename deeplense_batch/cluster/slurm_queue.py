"""What SLURM knows of runs: the queue, how jobs ended, and the ranks of srun's processes.

A run is an element of an array of SLURM jobs, named ``<array>_<index>``. We choose the array's
name before sbatch is called, and do not use the job number that sbatch returns: a run can write
its element into `status.json` before it is handed over, so that nothing is lost where `submit` is
killed in between.

The state of a run is in its files. SLURM is asked, by one squeue, only for what files cannot say:
whether a run still waits, and whether one that has stopped writing is still at work. What sacct
says of how a job ended is shown as a reason; it never decides a state.
"""

from __future__ import annotations

import re
import socket
import subprocess
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from deeplense_batch.core.rundir import RunDir
from deeplense_batch.report.run_table import Row

__all__ = [
    "Element",
    "SlurmError",
    "correct_states",
    "elements",
    "largest_array",
    "ranks",
    "scancel",
]

_TIMEOUT_SECONDS = 30.0  # of one command of SLURM
_LARGEST_ARRAY = 1000  # SLURM's default
_MOST_IDS = 200  # in one command line of scancel


class SlurmError(RuntimeError):
    """SLURM is not installed here, does not answer, or refused."""

    exit_code = 4


@dataclass(frozen=True)
class Element:
    """What squeue says of an element of an array of SLURM jobs."""

    job_id: str
    state: str  # PENDING, RUNNING, COMPLETING, ...
    reason: str


def ranks(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that torch.distributed reads, from those that srun gives to each process.

    The process of rank 0 is on the first node of the job. Where that node's name has no address
    here, we take the address from which srun was started, which is the same node. The port is a
    function of the job's number, so that all its processes agree and two jobs on a node differ.

    Raises:
        SlurmError: srun did not start this process.
    """
    from submitit.slurm.slurm import SlurmJobEnvironment  # takes a while to load

    try:
        rank, local_rank, size = (
            environ[f"SLURM_{name}"] for name in ("PROCID", "LOCALID", "NTASKS")
        )
    except KeyError as error:
        raise SlurmError(f"--slurm: {error.args[0]} is not set; srun starts such a run") from None
    address = SlurmJobEnvironment().hostnames[0]
    try:
        socket.gethostbyname(address)
    except OSError:
        address = environ["SLURM_LAUNCH_NODE_IPADDR"]
    names = ("SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT")
    number = zlib.crc32("/".join(environ.get(name, "") for name in names).encode())
    return {
        "RANK": rank,
        "LOCAL_RANK": local_rank,
        "WORLD_SIZE": size,
        "LOCAL_WORLD_SIZE": str(-(-int(size) // int(environ.get("SLURM_NNODES", 1)))),
        "MASTER_ADDR": address,
        "MASTER_PORT": str(15000 + number % 15000),  # below the range of ephemeral ports
    }


def elements(names: Iterable[str]) -> dict[str, list[Element]]:
    """Ask squeue about elements, by their names; those that neither wait nor run are left out.

    Returns:
        The jobs of each. Of `--chain`, several have it: one at work, first, says most.

    Raises:
        SlurmError: There is no squeue here, or it does not answer.
    """
    output = _ask("squeue", "-h", "-r", f"--name={_arrays(names)}", "-o", "%j|%K|%i|%T|%r")
    queue: dict[str, list[Element]] = {}
    for line in output.splitlines():
        array, index, job_id, state, reason = line.split("|", 4)
        queue.setdefault(f"{array}_{index}", []).append(Element(job_id, state, reason))
    for jobs in queue.values():
        jobs.sort(key=lambda job: job.state == "PENDING")
    return queue


def correct_states(rows: Sequence[Row]) -> None:
    """Correct, in place, the states of runs in arrays where their files alone cannot say them.

    A run that is in SLURM's queue, to start or to start again, is ``queued``. One that is not
    there is ``planned`` if it had not begun, and ``lost`` if its files say that it runs; ``ended``
    has its element. Where SLURM does not answer, the states of the files are kept.
    """
    unsure = [row for row in rows if row.get("element") and row["state"] not in _FINAL]
    if not unsure:
        return
    try:
        queue = elements(row["element"] for row in unsure)
    except SlurmError as error:
        for row in unsure:
            if row["state"] == "queued":
                row["reason"] = f"as its files say; {error}"
        return
    gone = []
    for row in unsure:
        if row["element"] in queue:
            _correct_queued(row, queue[row["element"]][0])
            continue
        row["ended"] = row["element"]
        if row["state"] == "running" or (row["state"] == "queued" and not RunDir(row["run"]).held):
            gone.append(row)
    _correct_gone(gone)


def _correct_queued(row: Row, element: Element) -> None:
    """A run that SLURM holds waits to start again, unless it is at work or has just failed."""
    at_work = row["state"] == "running" or (
        row["state"] == "failed" and element.state != "RUNNING"
    )
    if element.state == "PENDING" or not at_work:
        waits = f": {element.reason}" if element.state == "PENDING" else ""
        row["state"] = "queued"
        row["reason"] = f"SLURM {element.job_id} {element.state}{waits}"


def _correct_gone(rows: Sequence[Row]) -> None:
    """Runs that are queued or running by their files and that SLURM does not hold."""
    if not rows:
        return
    ended = _ended(row["element"] for row in rows)
    for row in rows:
        row["state"] = {"queued": "planned", "running": "lost"}[row["state"]]
        row["reason"] = f"no longer in SLURM's queue{ended.get(row['element'], '')}"


def scancel(job_ids: Sequence[str]) -> None:
    """Cancel SLURM jobs; those that run save their state first.

    Raises:
        SlurmError: SLURM refused.
    """
    for start in range(0, len(job_ids), _MOST_IDS):
        _ask("scancel", *job_ids[start : start + _MOST_IDS])


def largest_array() -> int:
    """How many elements an array may have here."""
    try:
        output = _ask("scontrol", "show", "config")
    except SlurmError:  # `sbatch` writes scripts on machines without SLURM, too
        return _LARGEST_ARRAY
    size = re.search(r"^MaxArraySize\s*=\s*(\d+)", output, re.MULTILINE)
    return int(size[1]) if size else _LARGEST_ARRAY


_FINAL = ("done", "unreadable")  # states that SLURM cannot change


def _arrays(names: Iterable[str]) -> str:
    """The arrays of elements, as options of SLURM's programs take them."""
    return ",".join(sorted({name.rpartition("_")[0] for name in names}))


def _ended(names: Iterable[str]) -> dict[str, str]:
    """How elements ended, by sacct; nothing where a site keeps no accounts."""
    try:
        output = _ask("sacct", "-n", "-P", "-X", "-S", "now-7days", f"--name={_arrays(names)}",
                      "-o", "JobName,JobID,State")  # fmt: skip
    except SlurmError:
        return {}
    ended = {}
    for line in output.splitlines():
        array, job_id, state = line.split("|")
        ended[f"{array}_{job_id.rpartition('_')[2]}"] = f": job {job_id} {state}"
    return ended


def _ask(*command: str) -> str:
    """The output of a command of SLURM."""
    program = command[0]
    try:
        process = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
        )
    except FileNotFoundError:
        raise SlurmError(f"there is no {program} on this machine") from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{program} did not answer within {_TIMEOUT_SECONDS:g} s") from None
    if process.returncode:
        output = " ".join((process.stderr or process.stdout).split())
        raise SlurmError(f"{program} failed: {output}")
    return process.stdout
