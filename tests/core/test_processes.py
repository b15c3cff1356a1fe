"""What the environment says of a process: nothing, everything, or half of it."""

from __future__ import annotations

import errno
import multiprocessing
import os
import socket
from datetime import timedelta

import numpy as np
import pytest

from deeplense_batch.core import distributed
from deeplense_batch.core.processes import (
    StartError,
    forget,
    local_rank,
    local_size,
    meeting_place,
    rank,
    started,
    world_size,
)
from deeplense_batch.data.packing import parallel
from deeplense_batch.runs.launch import execute
from deeplense_batch.runs.plan import plan


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rest = dict(os.environ)
    forget(rest)
    for name in set(os.environ) - set(rest):
        monkeypatch.delenv(name)


def say(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_nobody_has_said_anything(monkeypatch):
    assert started() == (0, 1)
    say(monkeypatch, LOCAL_RANK="3", MASTER_ADDR="localhost")  # and a rest of somebody else
    assert (rank(), world_size(), local_rank(), local_size()) == (0, 1, 0, 1)


def test_torchrun_says_all(monkeypatch):
    say(monkeypatch, RANK="5", WORLD_SIZE="8", LOCAL_RANK="1", LOCAL_WORLD_SIZE="4")
    say(monkeypatch, MASTER_ADDR="node", MASTER_PORT="29500")
    assert (rank(), world_size(), local_rank(), local_size()) == (5, 8, 1, 4)
    assert meeting_place() == ("node", 29500)


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"RANK": "0"}, "RANK=0 is set and WORLD_SIZE is not"),
        ({"WORLD_SIZE": "4"}, "WORLD_SIZE=4 is set and RANK is not"),
        ({"RANK": "4", "WORLD_SIZE": "4"}, "RANK=4 is set in the environment; expected a"),
        ({"RANK": "-1", "WORLD_SIZE": "4"}, "RANK=-1 is set"),
        ({"RANK": "", "WORLD_SIZE": "4"}, "RANK= is set"),
        ({"RANK": "0", "WORLD_SIZE": "x"}, "WORLD_SIZE=x is set in the environment; expected a"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "WORLD_SIZE=0 is set"),
    ],
)  # fmt: skip
def test_half_of_it_is_refused(monkeypatch, variables, sentence):
    say(monkeypatch, **variables)
    with pytest.raises(StartError) as error:
        started()
    assert str(error.value).startswith(sentence)


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


@pytest.mark.parametrize("rank", ["0", "1"])
def test_processes_that_do_not_meet_say_where_they_waited(job, tmp_path, monkeypatch, rank):
    """At a port that somebody else has, or a host that is not there."""
    (item,) = plan([job], tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(taken.getsockname()[1])}
        if rank == "1":
            place["MASTER_ADDR"] = "nowhere.invalid"
        say(monkeypatch, RANK=rank, WORLD_SIZE="2", LOCAL_RANK=rank, **place)
        monkeypatch.setattr(distributed, "_TIMEOUT", timedelta(seconds=1))
        with pytest.raises(distributed.DeviceError) as error:
            execute(item, device="cpu")
    sentence = str(error.value)
    where = f"MASTER_ADDR={place['MASTER_ADDR']}, MASTER_PORT={place['MASTER_PORT']} ("
    assert f": process {rank} of 2 cannot meet the others at {where}" in sentence
    assert "\n" not in sentence
    if rank == "0":  # which writes the state
        status = item.run.status()
        assert (status.state, status.reason, status.message) == (
            *("failed", "environment"), sentence
        )  # fmt: skip


def test_processes_that_read_images_and_cannot_be_started_say_why(monkeypatch):
    def refused(process):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    context = multiprocessing.get_context("fork")
    monkeypatch.setattr(context.Process, "start", refused)
    work = parallel.map_in_order(
        lambda i, block: i, 4, processes=2, shape=(1,), dtype=np.dtype("f4")
    )
    with pytest.raises(ChildProcessError, match=r"process 1 of 2 .*Resource temporarily unavail"):
        next(work)
