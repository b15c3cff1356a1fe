"""What the environment says of a process: nothing, everything, or half of it."""

from __future__ import annotations

import os

import pytest

from deeplense_batch.launch import carry_out
from deeplense_batch.plan import plan
from deeplense_batch.processes import (
    StartError,
    forget,
    local_rank,
    local_size,
    meeting_place,
    rank,
    started,
    world_size,
)


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
        carry_out(item, device="cpu")
    say(monkeypatch, MASTER_ADDR="localhost", MASTER_PORT="29500")
    with pytest.raises(
        StartError, match="--processes=2, but this is one of WORLD_SIZE=4 processes"
    ):
        carry_out(item, device="cpu", processes=2)
    assert not item.run.path.exists()
