"""A map over forked processes that keeps the order, and holds little in memory.

Threads do not pay here: an image costs a dozen numpy calls of some microseconds, each of which
releases the interpreter's lock and has to wait for it again. (Measured on two cores: two threads
took twice the processor time of one, and no less wall time.)
"""

from __future__ import annotations

import math
import mmap
import multiprocessing
import platform
import signal
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import numpy as np

from deeplense_batch.data.encoding import Array

__all__ = ["map_in_order"]

T = TypeVar("T")

_AHEAD = 3  # blocks of each process: one in work, the others ready while a shard is written


def map_in_order(
    work: Callable[[int, Array], T],
    tasks: int,
    *,
    processes: int,
    shape: tuple[int, ...],
    dtype: np.dtype,
    threads: bool = False,
) -> Generator[tuple[T, Array], None, None]:
    """Give the results of ``work(0, block)``, ``work(1, block)``, ... in order.

    Process p of P does the tasks p, p + P, ..., and runs a few blocks ahead at most. All processes
    end when the generator is closed, and when this process is killed.

    Arguments:
        work: Carries out the task of a number: fills the block, and returns something small that
            pickles. It may be any closure.
        tasks: Number of tasks.
        processes: Processes to fork; below two, all is done in this one.
        shape: Of a block.
        dtype: Of a block.
        threads: Threads of this process in place of others: where a GPU is in use, which a process
            should not be forked beside.

    Yields:
        The result of a task, and its block, which is only good until the next one.

    Raises:
        ChildProcessError: A process or thread could not be started, or a process died. What `work`
            raises is raised here.
    """
    processes = min(processes, tasks)
    if processes >= 2 and threads:
        yield from _threaded(work, tasks, processes, shape, dtype)
        return
    if processes >= 2:
        yield from _forked(work, tasks, processes, shape, dtype)
        return
    block = np.empty(shape, dtype)
    for task in range(tasks):
        yield work(task, block), block


def _threaded(
    work: Callable[[int, Array], T],
    tasks: int,
    threads: int,
    shape: tuple[int, ...],
    dtype: np.dtype,
) -> Generator[tuple[T, Array], None, None]:
    """The same over several threads, each with a few blocks."""
    blocks = [np.empty(shape, dtype) for _ in range(threads * _AHEAD)]
    pool = ThreadPoolExecutor(threads, thread_name_prefix="reader")

    def begin(task: int) -> Future[T]:
        try:
            return pool.submit(work, task, blocks[task % len(blocks)])
        except RuntimeError as error:
            raise ChildProcessError(
                f"{platform.node()}: the threads that read images could not be started ({error}): "
                "more memory or processes (ulimit -u) may do"
            ) from error

    try:
        begun = deque(begin(task) for task in range(min(len(blocks), tasks)))
        for task in range(tasks):
            yield begun.popleft().result(), blocks[task % len(blocks)]
            if task + len(blocks) < tasks:  # its block is free
                begun.append(begin(task + len(blocks)))
    finally:
        pool.shutdown(cancel_futures=True)


def _forked(
    work: Callable[[int, Array], T],
    tasks: int,
    processes: int,
    shape: tuple[int, ...],
    dtype: np.dtype,
) -> Generator[tuple[T, Array], None, None]:
    """The same over several processes, each with a few blocks of shared memory."""
    size = max(math.prod(shape) * dtype.itemsize, 1)
    shared = mmap.mmap(-1, processes * _AHEAD * size)
    blocks = [np.ndarray(shape, dtype, shared, i * size) for i in range(processes * _AHEAD)]
    context = multiprocessing.get_context("fork")  # `work` need not pickle, its data are shared
    pipes = [context.Pipe() for _ in range(processes)]
    workers = [
        context.Process(target=_serve, args=(work, tasks, blocks, pipes, p))
        for p in range(processes)
    ]
    try:
        _start(workers)
        for _, theirs in pipes:
            theirs.close()
        for task in range(tasks):
            pipe = pipes[task % processes][0]
            result: T = _receive(pipe, task)
            yield result, blocks[task % len(blocks)]
            if task + len(blocks) < tasks:
                pipe.send(None)  # the block is free
    finally:
        for ours, _ in pipes:
            ours.close()
        for worker in workers:
            if worker.pid is not None:
                worker.join()


def _start(workers: Sequence[BaseProcess]) -> None:
    for number, worker in enumerate(workers):
        try:
            worker.start()
        except OSError as error:
            raise ChildProcessError(
                f"{platform.node()}: process {number + 1} of {len(workers)} that read images "
                f"could not be started ({error.strerror}): more memory or processes (ulimit -u), "
                "or fewer cores (taskset -c 0) may do"
            ) from error


def _receive(pipe: Connection, task: int) -> Any:
    try:
        result = pipe.recv()
    except (EOFError, ConnectionResetError) as error:
        raise ChildProcessError(f"the process of task {task} died; was memory short?") from error
    if isinstance(result, Exception):
        raise result
    return result


def _serve(
    work: Callable[[int, Array], object],
    tasks: int,
    blocks: Sequence[Array],
    pipes: Sequence[tuple[Connection, Connection]],
    own: int,
) -> None:
    """Do every task of a process, in that process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process ends us
    for p, (theirs, ours) in enumerate(pipes):
        theirs.close()  # held open here, the pipe would never break
        if p != own:
            ours.close()
    pipe = pipes[own][1]
    try:
        for task in range(own, tasks, len(pipes)):
            if task >= len(blocks):
                pipe.recv()  # until the block is free
            try:
                result = work(task, blocks[task % len(blocks)])
            except Exception as error:
                pipe.send(error)
                return
            pipe.send(result)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the reader is gone: no more is wanted
