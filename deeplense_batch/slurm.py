"""What SLURM knows of runs, and what it tells a process of one.

Runs are in arrays, and an element of one is named ``<array>_<index>``: by the name of the array,
which is made before SLURM is asked for anything, and not by the number that SLURM then gives. So
a run says in its `status.json` what it waits for before it is handed over, and nothing is lost
where whoever submits is killed in between.

The truth about a run is in its files. SLURM is asked, by one squeue, only for what files cannot
say: whether a run still waits, and whether one that says nothing more is still at work. Its word
of how a job ended, from sacct where a site has that, is a reason and never a state.
"""

from __future__ import annotations

import re
import socket
import subprocess
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deeplense_batch.rows import Row
from deeplense_batch.rundir import RunDir

__all__ = ["Element", "SlurmError", "elements", "largest_array", "ranks", "scancel", "settle"]

_SECONDS = 30.0  # for an answer of SLURM
_LARGEST_ARRAY = 1000  # SLURM's default
_WORDS = 200  # of a command line, at once


class SlurmError(RuntimeError):
    """SLURM is not there, or did not take what it was given."""

    exit_code = 4


@dataclass(frozen=True)
class Element:
    """What squeue says of an element of an array."""

    job_id: str
    state: str  # PENDING, RUNNING, COMPLETING, ...
    reason: str


def ranks(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of `distributed`, from those that srun gives each of its processes.

    The first process is on the first node of the list; where its name is known to SLURM alone,
    the address that srun was started from, which is that node, stands in for it. The port is a
    function of the job, so that all agree and neighbours on a node do not.

    Raises:
        SlurmError: srun did not start this process.
    """
    from submitit.slurm.slurm import SlurmJobEnvironment  # takes a while to load

    try:
        rank, local, size = (environ[f"SLURM_{name}"] for name in ("PROCID", "LOCALID", "NTASKS"))
    except KeyError as error:
        raise SlurmError(f"--slurm: {error.args[0]} is not set; srun starts such a run") from None
    first = SlurmJobEnvironment().hostnames[0]
    try:
        socket.gethostbyname(first)
    except OSError:
        first = environ["SLURM_LAUNCH_NODE_IPADDR"]
    names = ("SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT")
    number = zlib.crc32("/".join(environ.get(name, "") for name in names).encode())
    return {
        "RANK": rank,
        "LOCAL_RANK": local,
        "WORLD_SIZE": size,
        "LOCAL_WORLD_SIZE": str(-(-int(size) // int(environ.get("SLURM_NNODES", 1)))),
        "MASTER_ADDR": first,
        "MASTER_PORT": str(15000 + number % 15000),  # below those that systems give out
    }


def elements(arrays: Iterable[str]) -> dict[str, Element]:
    """Ask squeue for the elements of arrays that wait or run, by their name.

    Raises:
        SlurmError: There is no squeue here, or it does not answer.
    """
    names = ",".join(sorted(set(arrays)))
    shown = _ask("squeue", "-h", "-r", f"--name={names}", "-o", "%j|%K|%i|%T|%r")
    found: dict[str, Element] = {}
    for line in shown.splitlines():
        array, index, job_id, state, reason = line.split("|", 4)
        element = Element(job_id, state, reason)
        known = found.setdefault(f"{array}_{index}", element)
        if known.state == "PENDING":  # a later link of a chain says less than the one at work
            found[f"{array}_{index}"] = element
    return found


def settle(rows: Sequence[Row]) -> None:
    """Set the state of runs in arrays right, where their files alone cannot say it.

    A run that SLURM holds, to start or to start again, is ``queued``; one that it does not hold is
    ``planned`` if it had not begun, and ``lost`` if it says that it runs. Where SLURM does not
    answer, the files stand.
    """
    unsure = [row for row in rows if row.get("element") and row["state"] not in _SURE]
    if not unsure:
        return
    try:
        known = elements(row["element"].rpartition("_")[0] for row in unsure)
    except SlurmError as error:
        for row in unsure:
            if row["state"] == "queued":
                row["reason"] = f"as its files say; {error}"
        return
    gone = []
    for row in unsure:
        element = known.get(row["element"])
        if element is None:
            gone += [row] if row["state"] in ("queued", "running") else []
        elif element.state == "PENDING" or (
            row["state"] != "running" and (row["state"] != "failed" or element.state == "RUNNING")
        ):
            waits = f": {element.reason}" if element.state == "PENDING" else ""
            row["state"] = "queued"
            row["reason"] = f"SLURM {element.job_id} {element.state}{waits}"
    gone = [row for row in gone if row["state"] == "running" or not RunDir(row["run"]).held]
    if not gone:
        return
    ended = _ended({row["element"].rpartition("_")[0] for row in gone})
    for row in gone:
        row["state"] = {"queued": "planned", "running": "lost"}[row["state"]]
        row["reason"] = f"SLURM holds it no more{ended.get(row['element'], '')}"


def scancel(job_ids: Sequence[str]) -> None:
    """Cancel jobs; those that run save their state first.

    Raises:
        SlurmError: SLURM refused.
    """
    for start in range(0, len(job_ids), _WORDS):
        _ask("scancel", *job_ids[start : start + _WORDS])


def largest_array() -> int:
    """How many elements an array may have here."""
    try:
        shown = _ask("scontrol", "show", "config")
    except SlurmError:  # scripts are also written elsewhere
        return _LARGEST_ARRAY
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", shown, re.MULTILINE)
    return int(found[1]) if found else _LARGEST_ARRAY


_SURE = ("done", "unreadable")


def _ended(arrays: set[str]) -> dict[str, str]:
    """How elements ended, by sacct; nothing where a site keeps no accounts."""
    names = ",".join(sorted(arrays))
    try:
        shown = _ask("sacct", "-n", "-P", "-X", "-S", "now-7days", f"--name={names}",
                     "-o", "JobName,JobID,State")  # fmt: skip
    except SlurmError:
        return {}
    found = {}
    for line in shown.splitlines():
        array, job_id, state = line.split("|")
        found[f"{array}_{job_id.rpartition('_')[2]}"] = f": job {job_id} {state}"
    return found


def _ask(*words: str) -> str:
    try:
        done: Any = subprocess.run(words, capture_output=True, text=True, timeout=_SECONDS)
    except FileNotFoundError:
        raise SlurmError(f"there is no {words[0]} on this machine") from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{words[0]} did not answer within {_SECONDS:g} s") from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise SlurmError(f"{words[0]} failed: {said}")
    return str(done.stdout)
