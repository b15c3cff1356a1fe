"""Processes that draw and expose: the same images, a sentence if they fail, an end with us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import wait_for

from deeplense_batch.data.digest import sha256
from deeplense_batch.data.shards import ShardError
from deeplense_batch.simulation.substructure import Substructure
from deeplense_batch.simulation.workers import PLACES, Workers

SMALL = Substructure(size=32)


@contextmanager
def started(maker: Substructure, processes: int = 2) -> Iterator[Workers]:
    with Workers(maker, seed=3, processes=processes) as workers:
        wait_for(workers.ready)
        yield workers


def made(workers: Workers, maker: Substructure, number: int, indices: range):
    """One batch, as the pipeline has it made."""
    workers.draw(number, "train", indices)
    images = maker.tracer.images(workers.drawn(number))
    workers.rendered(number).copy_(torch.from_numpy(images))
    workers.expose(number)
    return workers.exposed(number)


def below(pid: int) -> list[int]:
    """The processes that a process has started, and those that these have."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")  # each thread has its own
    own = [child for task in tasks for child in task.read_text().split()]
    return [int(child) for child in own] + [g for child in own for g in below(int(child))]


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"  # one that nobody waits for


@pytest.mark.parametrize(
    "kind",
    [
        ("substructure", {}),
        ("substructure", {"preset": "varied", "set_": {"lens.los_shear": 0.03}}),
        ("super_resolution", {"preset": "physical"}),
    ],
    ids=str,
)
def test_batches_are_those_of_one_process(kind):
    from deeplense_batch.simulation.simulate import generator_class

    maker = generator_class(kind[0])(size=32, **kind[1])
    with started(maker) as workers:
        assert workers.room == 2 * PLACES
        for number in range(workers.room + 3):  # each place is used again
            indices = range(7 * number, 7 * number + 8 - number % 3)  # some batches are shorter
            ours, theirs = (
                maker.make("train", indices, seed=3),
                made(workers, maker, number, indices),
            )
            assert (theirs.images == ours.images).all() and (theirs.scale == ours.scale).all()
            assert theirs.digests == [sha256(image) for image in ours.images]
            assert set(theirs.truth) == set(ours.truth)
            for name, values in ours.truth.items():
                assert np.array_equal(theirs.truth[name], values, equal_nan=True), name


def test_they_end_when_they_are_not_wanted_any_more():
    before = below(os.getpid())
    with started(SMALL) as workers:
        begun = set(below(os.getpid())) - set(before)
        assert len(begun) == 3
        workers.draw(0, "train", range(4))
    assert not any(map(is_running, begun))


def test_they_end_before_they_have_started():
    before = below(os.getpid())
    with Workers(SMALL, seed=3, processes=2) as workers:
        begun = set(below(os.getpid())) - set(before)
        assert begun and not workers.ready()
    wait_for(lambda: not any(map(is_running, begun)))


def test_they_end_with_a_process_that_is_killed():
    """As by SIGKILL, after which it can tell nobody."""
    code = (
        "import time\n"
        "from deeplense_batch.simulation.substructure import Substructure\n"
        "from deeplense_batch.simulation.workers import Workers\n"
        "workers = Workers(Substructure(size=32), seed=3, processes=2)\n"
        "while not workers.ready(): time.sleep(0.01)\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    path = os.pathsep.join(filter(None, sys.path))
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path}
    )
    assert process.stdout.readline() == b"ready\n"
    begun = below(process.pid)
    assert len(begun) == 3 and all(map(is_running, begun))
    process.kill()
    process.wait()
    wait_for(lambda: not any(map(is_running, begun)))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_signals_to_all_of_a_job_are_left_to_the_first_process(number):
    before = below(os.getpid())
    with started(SMALL) as workers:
        for pid in set(below(os.getpid())) - set(before):
            os.kill(pid, number)
        assert (made(workers, SMALL, 0, range(4)).images == SMALL.make("train", range(4), seed=3)
                .images).all()  # fmt: skip


def test_one_that_dies_is_told_in_a_sentence():
    before = below(os.getpid())
    with started(SMALL, 1) as workers:
        for pid in set(below(os.getpid())) - set(before):
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(
            ChildProcessError, match="process 1 of 1 that draw scenes died; was mem"
        ):
            made(workers, SMALL, 0, range(4))


def test_what_is_raised_in_one_is_raised_here():
    dark = Substructure(size=32, set_={"source.intensity": 1e9})
    said = pytest.raises(ShardError, match=r"counts from 0 to .*: change the source or the cam")
    with started(dark, 1) as workers, said:
        made(workers, dark, 0, range(4))
