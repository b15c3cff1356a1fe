"""Processes that draw scenes and expose images, beside the one that traces their rays on a GPU.

One program is started; it loads what is needed once, and forks the processes. It is not forked
from this process: CUDA does not survive a fork, and whatever script calls this is not run again.
Each process has a pipe to this one, and by its end they notice that this one has ended, however it
did; signals to the whole job are blocked in them. Images lie in memory that all share and that has
no name, so that nothing is left of it either.

A batch number n is the business of process n % P, in place n // P % `PLACES` of its memory.
"""

from __future__ import annotations

import math
import mmap
import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from typing import Any, NoReturn, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeplense_batch.data.digest import sha256
from deeplense_batch.data.generate import GeneratedBatch
from deeplense_batch.simulation.rays import Optics, Tracer

__all__ = ["PLACES", "Drawing", "Exposes", "Workers"]

PLACES = 6  # batches of each process that are drawn, rendered or exposed at a time
_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR2}

Key = tuple[str, int]  # what is asked for, ``draw`` or ``expose``, and the number of the batch


class Drawing(Protocol):
    """A batch of which the scenes are drawn."""

    @property
    def optics(self) -> Optics:
        """What its rays are traced by."""

    @property
    def indices(self) -> Sequence[int]:
        """Of its images."""


class Exposes(Protocol):
    """What makes images in three steps, of which the middle one is that of `tracer`; pickles."""

    @property
    def batch(self) -> int:
        """The most images of a batch."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W of an image."""

    @property
    def stored(self) -> np.dtype:
        """Type of an image."""

    @property
    def tracer(self) -> Tracer:
        """Makes images without noise."""

    def draw(self, split: str, indices: Sequence[int], *, seed: int) -> Any:
        """Draw the scenes of some indices: a `Drawing`."""

    def expose(self, drawn: Any, rendered: NDArray[np.float64]) -> GeneratedBatch:
        """Add the noise to images without it, (B, H, W)."""


class Workers:
    """The processes; used as a context manager.

    Arguments:
        maker: Draws and exposes; each process gets a copy.
        seed: Of every random number.
        processes: How many.

    Raises:
        OSError: They could not be started.
        ChildProcessError: One of them died. What is raised in one of them is raised here as well,
            where its result is asked for.
    """

    def __init__(self, maker: Exposes, *, seed: int, processes: int) -> None:
        self.room = processes * PLACES
        self._counts: dict[int, int] = {}  # images by number of a batch that is in work
        self._answers: dict[Key, Any] = {}
        self._is_ready = False
        layout = _Layout.of(maker)
        memory = os.memfd_create("deeplense_batch")
        pipes = [Pipe() for _ in range(processes)]
        theirs = [their for _, their in pipes]
        self._pipes = [our for our, _ in pipes]
        try:
            os.ftruncate(memory, self.room * layout.size)
            self.memory = mmap.mmap(memory, self.room * layout.size)
            self._server = _start([memory, *(pipe.fileno() for pipe in theirs)])
        finally:
            os.close(memory)
            for pipe in theirs:
                pipe.close()
        self._places = [layout.place(self.memory, i) for i in range(self.room)]
        assert self._server.stdin is not None
        with suppress(BrokenPipeError), self._server.stdin as stdin:  # it died: see `_receive`
            stdin.write(pickle.dumps((maker, seed, layout)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes:
            pipe.close()
        if not self._is_ready:
            self._server.kill()
        self._server.wait()

    def ready(self) -> bool:
        """Whether they have all started."""
        if not self._is_ready and all(pipe.poll() for pipe in self._pipes):
            for number in range(len(self._pipes)):
                self._receive(number)
            self._is_ready = True
        return self._is_ready

    def draw(self, number: int, split: str, indices: Sequence[int]) -> None:
        """Have a batch drawn; numbers count up, and `room` of them may be in work."""
        self._counts[number] = len(indices)
        self._ask("draw", number, split, indices)

    def drawn(self, number: int) -> Optics:
        """The optics of a batch, once it is drawn."""
        optics: dict[str, NDArray[np.float64]] = self._answer("draw", number)
        return {name: torch.from_numpy(values) for name, values in optics.items()}

    def rendered(self, number: int) -> Tensor:
        """Where images without noise are to be written, (B, H, W) float64, before `expose`."""
        return torch.from_numpy(self._place(number)[0][: self._counts[number]])

    def expose(self, number: int) -> None:
        """Have the noise added."""
        self._ask("expose", number)

    def exposed(self, number: int) -> GeneratedBatch:
        """A batch, once it is exposed; its place is free then."""
        scale, truth, digests, pairs = self._answer("expose", number)
        images = self._place(number)[1][: self._counts.pop(number)].copy()
        return GeneratedBatch(images, scale, truth, digests, pairs=pairs)

    def _place(self, number: int) -> tuple[NDArray[np.float64], NDArray[Any]]:
        return self._places[_place_of(number, len(self._pipes))]

    def _ask(self, what: str, number: int, *more: object) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # it died: see `_receive`
            self._pipes[number % len(self._pipes)].send(((what, number), *more))

    def _answer(self, what: str, number: int) -> Any:
        while (what, number) not in self._answers:
            key, answer = self._receive(number % len(self._pipes))
            self._answers[key] = answer
        return self._answers.pop((what, number))

    def _receive(self, worker: int) -> Any:
        try:
            received = self._pipes[worker].recv()
        except (EOFError, ConnectionResetError) as error:
            raise ChildProcessError(
                f"process {worker + 1} of {len(self._pipes)} that draw scenes died; was memory "
                "short?"
            ) from error
        if isinstance(received, Exception):
            raise received
        return received


class _Layout:
    """The memory of one batch: images without noise, then with it."""

    def __init__(self, batch: int, shape: tuple[int, int, int], stored: np.dtype) -> None:
        self._rendered, self._images = (batch, *shape[1:]), (batch, *shape)
        self._stored = stored
        self._first = math.prod(self._rendered) * 8
        size = self._first + math.prod(self._images) * stored.itemsize
        self.size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE

    @classmethod
    def of(cls, maker: Exposes) -> Self:
        return cls(maker.batch, maker.shape, maker.stored)

    def place(self, memory: mmap.mmap, number: int) -> tuple[NDArray[np.float64], NDArray[Any]]:
        """Arrays of a place: images without noise, (B, H, W), and with it, (B, C, H, W)."""
        offset = number * self.size
        images: NDArray[Any] = np.ndarray(self._images, self._stored, memory, offset + self._first)
        return np.ndarray(self._rendered, np.float64, memory, offset), images


def _place_of(number: int, processes: int) -> int:
    worker, place = number % processes, number // processes % PLACES
    return worker * PLACES + place


def _start(descriptors: Sequence[int]) -> subprocess.Popen[bytes]:
    """Start the program below, with the modules and the memory of this one."""
    path = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-P", "-m", __name__, *map(str, descriptors)]
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # it inherits that
    try:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment,
            pass_fds=descriptors,
        )  # fmt: skip
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _main(memory: int, *descriptors: int) -> None:
    """Fork a process for each pipe, and end when they have ended."""
    maker, seed, layout = pickle.load(sys.stdin.buffer)  # loads all modules that are needed
    torch.set_num_threads(1)
    shared = mmap.mmap(memory, len(descriptors) * PLACES * layout.size)
    for number, descriptor in enumerate(descriptors):
        if os.fork() == 0:
            for other in descriptors:
                if other != descriptor:
                    os.close(other)  # held open here, the pipe of the other would never break
            places = [layout.place(shared, number * PLACES + i) for i in range(PLACES)]
            _work(Connection(descriptor), maker, seed, places, len(descriptors))
    for descriptor in descriptors:
        os.close(descriptor)
    with suppress(ChildProcessError):  # there is none any more
        while True:
            os.wait()


def _work(
    pipe: Connection,
    maker: Exposes,
    seed: int,
    places: Sequence[tuple[NDArray[np.float64], NDArray[Any]]],
    processes: int,
) -> NoReturn:
    """Answer one pipe until it ends; never returns, so that nothing of the parent's runs twice."""
    try:
        pipe.send(None)
        _answer_all(pipe, maker, seed, places, processes)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the reader is gone: no more is wanted
    except Exception as error:
        error.add_note(traceback.format_exc())
        with suppress(OSError):
            pipe.send(error)
    finally:
        os._exit(0)


def _answer_all(
    pipe: Connection,
    maker: Exposes,
    seed: int,
    places: Sequence[tuple[NDArray[np.float64], NDArray[Any]]],
    processes: int,
) -> None:
    """Draw and expose; what is to be drawn comes first, because the GPU waits for it."""
    drawn: dict[int, Any] = {}
    waiting: deque[int] = deque()  # to be exposed
    while True:
        while pipe.poll() or not waiting:
            (what, number), *more = pipe.recv()
            if what == "expose":
                waiting.append(number)
                continue
            drawn[number] = maker.draw(*more, seed=seed)
            optics = {name: values.numpy() for name, values in drawn[number].optics.items()}
            pipe.send((("draw", number), optics))
        number = waiting.popleft()
        batch = drawn.pop(number)
        rendered, images = places[number // processes % PLACES]
        made = maker.expose(batch, rendered[: len(batch.indices)])
        images[: len(made.images)] = made.images
        digests = [sha256(image) for image in made.images]
        pipe.send((("expose", number), (made.scale, made.truth, digests, made.pairs)))


if __name__ == "__main__":
    _main(*map(int, sys.argv[1:]))
