"""A real SLURM on this machine, for tests: its own folder, key, ports and daemons.

The daemons run as this user and are ended by their pid files; nothing of a SLURM that the machine
may have is touched.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

NODES = ("n1", "n2")
TOOLS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue")

_CONF = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
KillWait=10
SelectType=select/cons_tres
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=3,sched_interval=3
SlurmctldTimeout=10
SlurmdTimeout=10
DependencyParameters=kill_invalid_depend
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
AccountingStorageType=accounting_storage/none
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4 RealMemory=20000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4 RealMemory=20000
PartitionName=main Nodes=n[1-2] Default=YES State=UP PriorityTier=1 GraceTime=15 OverSubscribe=NO
PartitionName=high Nodes=n[1-2] State=UP PriorityTier=10 PreemptMode=OFF
"""


def missing_tools() -> list[str]:
    """The programs of a SLURM that this machine lacks."""
    return [tool for tool in TOOLS if _find(tool) is None]


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Start a cluster of two nodes; gives the environment that its commands need."""
    folder.chmod(0o755)  # munged insists on a path that others cannot write
    ports = _free_ports(3)
    conf = folder / "slurm.conf"
    conf.write_text(
        _CONF.format(
            host=socket.gethostname(), user=getpass.getuser(), folder=folder, ports=ports
        )
    )  # fmt: skip
    for name in ("state", "spool-n1", "spool-n2"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    environment = os.environ | {"SLURM_CONF": str(conf)}
    try:
        _start(
            "munged", f"--key-file={key}", f"--socket={folder}/munge.sock",
            f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log",
            f"--seed-file={folder}/munged.seed", "--force", environment=environment,
        )  # fmt: skip
        start_controller(environment)
        for node in NODES:
            start_node(environment, node)
        wait_for_nodes(environment)
        yield environment
    finally:
        for pid_file in ("slurmd-n1.pid", "slurmd-n2.pid", "slurmctld.pid", "munged.pid"):
            end(folder / pid_file)


def start_controller(environment: dict[str, str]) -> None:
    _start("slurmctld", environment=environment)


def start_node(environment: dict[str, str], node: str) -> None:
    _start("slurmd", "-N", node, environment=environment)


def kill_node(environment: dict[str, str], node: str, job: str, pids: list[int]) -> None:
    """Have a node vanish, with all that runs on it, as by a loss of power."""
    folder = Path(environment["SLURM_CONF"]).parent
    number = subprocess.run(
        ["squeue", "-h", "-j", job, "-o", "%A"],
        env=environment, check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    os.kill(int((folder / f"slurmd-{node}.pid").read_text()), signal.SIGKILL)
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if entry.read_bytes().startswith(f"slurmstepd: [{number}.".encode()):
                pids = [int(entry.parent.name), *pids]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _find(tool: str) -> str | None:
    return shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _start(tool: str, *words: str, environment: dict[str, str]) -> None:
    path = _find(tool)
    assert path is not None
    subprocess.run([path, *words], env=environment, check=True, capture_output=True, timeout=240)


def wait_for_nodes(environment: dict[str, str], seconds: float = 240.0) -> None:
    """Wait until every node is there with nothing to do."""
    end = time.monotonic() + seconds
    states = ""
    while states.split() != ["idle"] * len(NODES):
        assert time.monotonic() < end, f"the nodes did not come up: {states}"
        time.sleep(0.3)
        answer = subprocess.run(
            ["sinfo", "-h", "-N", "-p", "main", "-o", "%T"],
            env=environment, capture_output=True, text=True,
        )  # fmt: skip
        states = answer.stdout + answer.stderr


def end(pid_file: Path) -> None:
    """End a daemon."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGTERM)
        for _ in range(100):
            os.kill(pid, 0)
            time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports
