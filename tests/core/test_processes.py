"""What the environment says of a process: nothing, everything, or half of it."""

from __future__ import annotations

import errno
import multiprocessing
import os

import numpy as np
import pytest
from conftest import say

from deeplense_batch.core.processes import (
    StartError,
    local_rank,
    local_size,
    meeting_place,
    rank,
    started,
    world_size,
)
from deeplense_batch.data.packing import parallel

pytestmark = pytest.mark.usefixtures("alone")


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
