"""A map over forked processes that keeps the order, and holds little in memory."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from deeplense_batch.data.packing.parallel import map_in_order
from deeplense_batch.data.shards import ShardError


def squares(task, block):
    block[:] = task
    return task**2


@pytest.mark.parametrize("threads", [False, True])
def test_a_map_keeps_the_order_and_blocks_are_not_overwritten_too_early(threads):
    for tasks, processes in ((0, 2), (1, 2), (40, 3), (5, 8)):
        results = map_in_order(
            squares, tasks, processes=processes, shape=(2, 3), dtype=np.dtype(np.int64),
            threads=threads,
        )  # fmt: skip
        for task, (square, block) in enumerate(results):
            assert square == task**2 and (block == task).all()
        assert tasks == 0 or task == tasks - 1


def children():
    return set(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())


def test_beside_a_gpu_nothing_is_forked_and_what_fails_is_handed_on():
    def fail(task, block):
        if task == 5:
            raise ShardError("the sixth")
        return task

    options = {"processes": 3, "shape": (1,), "dtype": np.dtype(np.uint8), "threads": True}
    before, running = children(), set(threading.enumerate())
    first = map_in_order(squares, 1000, **options)
    assert next(first)[0] == 0 and children() == before
    first.close()
    with pytest.raises(ShardError, match="the sixth"):
        list(map_in_order(fail, 1000, **options))
    assert set(threading.enumerate()) == running


def test_threads_that_cannot_start_are_one_sentence(monkeypatch):
    def submit(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(ThreadPoolExecutor, "submit", submit)
    options = {"processes": 2, "shape": (1,), "dtype": np.dtype(np.uint8), "threads": True}
    with pytest.raises(ChildProcessError, match="the threads that read images could not be st"):
        next(map_in_order(squares, 10, **options))


def test_a_map_ends_its_processes_and_hands_on_what_fails():
    def fail(task, block):
        if task == 5:
            raise ShardError("the sixth")
        return task

    def die(task, block):
        if task == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return task

    options = {"processes": 2, "shape": (1,), "dtype": np.dtype(np.uint8)}
    before = children()
    first = map_in_order(squares, 1000, **options)
    assert next(first)[0] == 0 and len(children() - before) == 2
    first.close()
    assert children() == before
    with pytest.raises(ShardError, match="the sixth"):
        list(map_in_order(fail, 1000, **options))
    with pytest.raises(ChildProcessError, match="the process of task 5 died"):
        list(map_in_order(die, 1000, **options))
    assert children() == before
