"""A run by one process or by several, which end together."""

from __future__ import annotations

import os

import pytest
from conftest import make_job, say
from made_runs import untrained

from deeplense_batch.core.job import JobError, Resources
from deeplense_batch.core.processes import StartError
from deeplense_batch.core.rundir import RunDir, Status
from deeplense_batch.runs import launch
from deeplense_batch.runs.launch import execute, needs, report_not_begun
from deeplense_batch.runs.planning.plan import plan

pytestmark = pytest.mark.usefixtures("alone")


def test_several_need_a_place_to_meet_and_the_number_that_was_asked_for(
    job, tmp_path, monkeypatch
):
    (item,) = plan([job], tmp_path)
    say(monkeypatch, RANK="0", WORLD_SIZE="4")
    with pytest.raises(StartError, match="MASTER_ADDR and MASTER_PORT not, by which"):
        execute(item, device="cpu")
    say(monkeypatch, MASTER_ADDR="localhost", MASTER_PORT="29500")
    with pytest.raises(
        StartError, match="--processes=2, but this is one of WORLD_SIZE=4 processes"
    ):
        execute(item, device="cpu", processes=2)
    assert not item.run.path.exists()


DIES = """\
import os, sys
if os.environ.get("RANK") == "{rank}":
    os.write(2, b"libnccl.so.2: cannot open shared object file\\n")
    {death}
"""


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_dies_before_it_can_say_why_is_quoted_in_the_state(
    job, tmp_path, monkeypatch, capsys, rank
):
    """One that finds no library, say, while the first waits for it to meet."""
    (item,) = plan([job], tmp_path / "runs")
    (tmp_path / "sitecustomize.py").write_text(DIES.format(rank=rank, death="os._exit(7)"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    assert execute(item, device="cpu", processes=2) == 7
    status = item.run.status()
    assert (status.state, status.reason) == ("failed", "environment")
    told = "ended with exit code 7: libnccl.so.2: cannot open shared object file"
    assert status.message.startswith(f"process {rank} of 2 on ") and status.message.endswith(told)
    assert told in (item.run.path / "log.txt").read_text()
    assert "libnccl.so.2" in capsys.readouterr().err  # it is passed on as well


def test_a_process_that_is_killed_leaves_a_run_to_go_on_with(job, tmp_path, monkeypatch):
    (item,) = plan([job], tmp_path / "runs")
    death = "os.kill(os.getpid(), 9)"
    (tmp_path / "sitecustomize.py").write_text(DIES.format(rank=0, death=death))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    assert execute(item, device="cpu", processes=2) == 9
    assert item.run.status().state == "planned"
    assert "process 0 of 2" in (item.run.path / "log.txt").read_text()
    assert "ended by SIGKILL" in (item.run.path / "log.txt").read_text()


@pytest.mark.timeout(300)  # half of what a process waits for one that is dead
def test_a_process_that_dies_ends_the_others(shards, tmp_path, monkeypatch):
    (item,) = plan([make_job(shards, train={"epochs": 2000})], tmp_path / "runs")
    hook = tmp_path / "hook" / "sitecustomize.py"
    hook.parent.mkdir()
    hook.write_text(
        "import os, threading, pathlib\n"
        "def die():\n"
        f"    if pathlib.Path({str(item.run.path / 'history.jsonl')!r}).exists():\n"
        "        os._exit(1)\n"
        "    start()\n"
        "def start():\n"
        "    timer = threading.Timer(0.1, die)\n"
        "    timer.daemon = True\n"
        "    timer.start()\n"
        "if os.environ.get('RANK') == '1':\n"
        "    start()\n"
    )
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(hook.parent), before])))
    assert execute(item, device="cpu", processes=2) != 0
    assert len(item.run.read_lines("history.jsonl")) < 2000
    assert item.run.status().state in ("failed", "stopped", "lost")


def test_one_process_of_several_starts_nothing_over(job, tmp_path, monkeypatch):
    done = untrained(job, tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(JobError, match="run: --force: one process of several"):
        execute(done, device="cpu", force=True)
    assert done.run.status().state == "done"


def test_no_process_is_started_for_a_run_that_is_done(job, tmp_path, monkeypatch):
    done = untrained(job, tmp_path)
    monkeypatch.setattr(launch, "spawn_ranks", lambda *_, **__: pytest.fail("started"))
    assert execute(done, device="cpu", processes=2) == 0


def test_why_a_run_was_not_begun_is_written_where_it_was_not(tmp_path):
    planned, done, killed = (RunDir.create(tmp_path / "job" / name, "") for name in "abc")
    done.write_status(Status(state="done"))
    report_not_begun(planned, "no library", "no library\n")
    report_not_begun(done, "no library", "no library\n")
    report_not_begun(killed, "killed", "ended by SIGKILL\n", killed=True)
    status = planned.status()
    assert (status.state, status.reason) == ("failed", "environment")
    assert (
        status.message == "no library" and (planned.path / "log.txt").read_text() == "no library\n"
    )
    assert done.status().state == "done" and not (done.path / "log.txt").exists()
    assert killed.status().state == "planned"  # the next submit goes on with it
    assert (killed.path / "log.txt").read_text() == "ended by SIGKILL\n"


@pytest.mark.parametrize(
    ("asked", "device", "gpus", "tasks", "nodes"),
    [
        ({"gpus": 4, "nodes": 2}, None, 4, 4, 2),
        ({"gpus": 4, "nodes": 2}, "cuda", 4, 4, 2),
        ({"gpus": 4, "nodes": 2}, "cpu", 0, 1, 1),
        ({"gpus": 0}, "cuda", 1, 1, 1),
        ({"gpus": 0, "processes": 2, "nodes": 2}, "cuda", 2, 2, 2),
        ({"gpus": 0, "processes": 2, "nodes": 2}, "cpu", 0, 2, 2),
    ],
)
def test_what_a_run_needs_on_another_device(shards, asked, device, gpus, tasks, nodes):
    needed = needs(make_job(shards, resources=asked | {"cpus": 3}), device)
    assert (needed.gpus, needed.tasks, needed.nodes, needed.cpus) == (gpus, tasks, nodes, 3)
    Resources.model_validate(needed.model_dump())
