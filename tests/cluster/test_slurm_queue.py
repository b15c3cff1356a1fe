"""What SLURM knows of runs: its queue, the ranks of srun, and the states that only it can say."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from conftest import typed
from slurm_programs import program

from deeplense_batch.cluster.slurm_queue import (
    Element,
    SlurmError,
    elements,
    largest_array,
    ranks,
    scancel,
)
from deeplense_batch.core.rundir import ELEMENT, Status, find_runs


def test_the_ranks_of_srun(monkeypatch):
    given = {"SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_NTASKS": "8", "SLURM_JOB_ID": "11",
             "SLURM_JOB_NODELIST": "no-such-node[003-004,7],other", "SLURM_NODEID": "1",
             "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.3"}  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    found = ranks(os.environ)
    assert (found["RANK"], found["LOCAL_RANK"], found["WORLD_SIZE"]) == ("5", "1", "8")
    assert found["MASTER_ADDR"] == "10.0.0.3"  # no-such-node003 is a name of SLURM alone
    assert 15000 <= int(found["MASTER_PORT"]) < 30000
    monkeypatch.setenv("SLURM_JOB_NODELIST", "localhost,other")
    assert ranks(os.environ)["MASTER_ADDR"] == "localhost"
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
    assert ranks(os.environ)["MASTER_PORT"] != found["MASTER_PORT"]
    with pytest.raises(SlurmError, match="SLURM_PROCID is not set; srun starts such a run"):
        ranks({})


def test_an_element_at_work_says_more_than_a_link_that_waits(recipe):
    program("squeue", r"printf 'a-0-b|1|5_1|RUNNING|None\na-0-b|1|6_1|PENDING|Dependency\n'")
    assert elements(["a-0-b_1"])["a-0-b_1"][0].state == "RUNNING"
    program("squeue", r"printf 'a-0-b|1|6_1|PENDING|Dependency\na-0-b|1|5_1|RUNNING|None\n'")
    assert [job.job_id for job in elements(["a-0-b_1"])["a-0-b_1"]] == ["5_1", "6_1"]


QUEUE = {"pending": "PENDING|Priority", "running": "RUNNING|None", "ending": "COMPLETING|None"}


@pytest.mark.parametrize(
    ("files", "slurm", "shown"),
    [
        ("queued", "pending", "queued"),
        ("queued", None, "planned"),  # cancelled while it waited
        ("stopped", "pending", "queued"),  # requeued
        ("stopped", "ending", "queued"),
        ("stopped", None, "stopped"),
        ("running", "pending", "queued"),  # its node died
        ("running", "running", "running"),
        ("running", None, "lost"),
        ("failed", "pending", "queued"),  # on another node
        ("failed", "ending", "failed"),
        ("failed", None, "failed"),
        ("done", "ending", "done"),
    ],
)
def test_what_slurm_says_of_a_run(recipe, capsys, files, slurm, shown, monkeypatch):
    line = f"printf 't-0-small|0|5_0|{QUEUE[slurm]}\\n'" if slurm else "exit 0"
    program("squeue", line)
    program("sacct", "printf 't-0-small|5_0|NODE_FAIL\\n'")
    assert typed(capsys, "submit", "--grid", recipe, "--cluster=debug", "--train.epochs=1",
                 "--seeds=[0]")[0] == 0  # fmt: skip
    (run,) = find_runs(Path("runs"))
    monkeypatch.setenv(ELEMENT, "t-0-small_0")
    run.write_status(Status(state=files, element="t-0-small_0"))
    content = run.read_json("status.json") | {"host": "elsewhere"}
    if files == "queued":
        content |= {"host": socket.gethostname(), "pid": 2**22 + 1}
    run.write_json("status.json", content)
    told = typed(capsys, "status")[1]
    assert told.splitlines()[-1] == f"1 run: 1 {shown}"
    if shown in ("planned", "lost"):
        assert "no longer in SLURM's queue: job 5_0 NODE_FAIL" in told
    if slurm == "pending":
        assert "SLURM 5_0 PENDING: Priority" in told
    program("squeue", "echo down >&2; exit 1")
    assert typed(capsys, "status")[1].splitlines()[-1] == f"1 run: 1 {files}"


def test_many_jobs_are_cancelled_by_few_commands(recipe):
    program("scancel", 'echo $# >> asked; echo "$@" >> ids')
    scancel([str(number) for number in range(450)])
    assert Path("asked").read_text().split() == ["200", "200", "50"]
    assert Path("ids").read_text().split() == [str(number) for number in range(450)]
    Path("asked").unlink()
    scancel([])
    assert not Path("asked").exists()
    program("scancel", "echo 'scancel: error:  Invalid' >&2; echo 'job id' >&2; exit 1")
    with pytest.raises(SlurmError, match=r"^scancel failed: scancel: error: Invalid job id$"):
        scancel(["7"])


def test_the_largest_array_is_slurm_s_or_the_usual_one(recipe, monkeypatch):
    program("scontrol", r"printf 'A = 1\nMaxArraySize            = 42001\nMaxJobCount = 7\n'")
    assert largest_array() == 42001
    program("scontrol", "echo 'MaxJobCount = 7'")
    assert largest_array() == 1000
    monkeypatch.setenv("PATH", "")
    assert largest_array() == 1000  # there is no SLURM here


def test_elements_are_asked_about_by_their_arrays(recipe):
    program("squeue", r"""echo "$@" > asked; printf 'a-0-b|3|9_3|RUNNING|None\n'""")
    found = elements(["a-0-b_3", "a-0-b_4", "c-1-d_0"])
    assert found == {"a-0-b_3": [Element("9_3", "RUNNING", "None")]}
    assert "--name=a-0-b,c-1-d" in Path("asked").read_text()
