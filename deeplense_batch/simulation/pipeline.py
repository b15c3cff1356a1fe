"""Simulation beside a GPU: scenes, rays, noise and writing at one time, each of another batch.

Processes draw scenes (`workers`); this one traces the rays of several batches together, and copies
them into the memory of the processes, which expose them while the next are traced. All that runs
in a thread, ahead of whoever writes or trains. Until the processes have started, batches are made
here, noise by threads. However a batch is made, it is the same to the last bit.
"""

from __future__ import annotations

import platform
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from itertools import chain, count, islice
from mmap import mmap
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F

from deeplense_batch.core.distributed import DeviceError
from deeplense_batch.core.machine import cores
from deeplense_batch.core.processes import local_size
from deeplense_batch.data.generate import GeneratedBatch
from deeplense_batch.simulation.rays import Optics, Tracer
from deeplense_batch.simulation.workers import PLACES, Exposes, Workers

__all__ = ["Asked", "ahead", "made_ahead"]

Asked = tuple[str, Sequence[int]]  # a split, and indices of images

_PORTABLE = 1  # cudaHostRegisterPortable: for every context of the process
_TOGETHER = 256  # images that are traced at once, where the memory of the device holds them
_SHARED_BYTES = 1 << 30  # of images that are in work
_AHEAD_BYTES = 1 << 27  # of images that wait for their use

T = TypeVar("T")


def made_ahead(
    maker: Exposes, asked: Iterable[Asked], *, seed: int, processes: int | None = None
) -> Generator[GeneratedBatch, None, None]:
    """Make batches, in order, ahead of their use.

    Arguments:
        maker: Draws, traces and exposes them.
        asked: Split and indices of each, `maker.batch` of them at most; may be without end.
        seed: Of every random number.
        processes: That draw and expose; by default one for each core of this process but one.

    Raises:
        ChildProcessError: A process could not be started, or died.
        OutOfMemoryError: The device has not the memory for one image.
    """
    pixels = maker.batch * maker.shape[-1] ** 2
    most = _SHARED_BYTES // (PLACES * pixels * 10)
    processes = max(1, min(cores() // local_size() - 1, most)) if processes is None else processes
    waiting = max(2, _AHEAD_BYTES // (pixels * 2))
    yield from ahead(_made(maker, iter(asked), seed, processes), waiting)


def ahead(items: Generator[T, None, None], most: int) -> Generator[T, None, None]:
    """What an iterator gives, computed in a thread of its own, `most` items ahead of their use.

    The iterator is closed in that thread, when this one is closed or it raises.
    """
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(most)
    over = threading.Event()

    def put(item: T | None, error: BaseException | None = None) -> bool:
        while not over.is_set():
            try:
                ready.put((item, error), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def fill() -> None:
        try:
            with closing(items):
                for item in items:
                    if not put(item):
                        return
            put(None, StopIteration())
        except BaseException as error:  # is raised by whoever waits for the item
            put(None, error)

    thread = threading.Thread(target=fill, name="made ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]  # None only beside an error
    finally:
        over.set()
        thread.join()


def _made(
    maker: Exposes, asked: Iterator[Asked], seed: int, processes: int
) -> Generator[GeneratedBatch, None, None]:
    together = max(1, _TOGETHER // maker.batch)
    first = list(islice(asked, together + 1))
    asked = chain(first, asked)
    few = len(first) <= together  # not worth the start of processes
    with ThreadPoolExecutor(max(processes, 1)) as pool, (
        nullcontext() if few else Workers(maker, seed=seed, processes=processes)
    ) as workers:  # fmt: skip
        while workers is None or not workers.ready():
            some = list(islice(asked, together))
            if not some:
                return
            yield from _made_here(maker, some, seed, pool)
        with _pinned(workers.memory, maker.tracer.device):
            yield from _made_by(workers, maker.tracer, asked, min(together, workers.room // 4))


def _made_here(
    maker: Exposes, some: Sequence[Asked], seed: int, pool: ThreadPoolExecutor
) -> Iterator[GeneratedBatch]:
    """Make batches in this process; numpy draws noise without Python's lock."""
    drawn = [maker.draw(split, indices, seed=seed) for split, indices in some]
    rendered = maker.tracer.images(_joined([batch.optics for batch in drawn]))
    ends = np.cumsum([len(batch.indices) for batch in drawn])
    yield from pool.map(maker.expose, drawn, np.split(rendered, ends[:-1]))


def _made_by(
    workers: Workers, tracer: Tracer, asked: Iterator[Asked], together: int
) -> Iterator[GeneratedBatch]:
    """Make batches by the processes: some are drawn, some traced, some exposed at any time."""
    drawing: deque[int] = deque()
    traced: deque[tuple[list[int], Callable[[], object]]] = deque()  # and a wait for the device
    exposing: deque[int] = deque()
    numbers = count()
    in_work = 0
    while True:
        while in_work < workers.room and (batch := next(asked, None)) is not None:
            drawing.append(next(numbers))
            workers.draw(drawing[-1], *batch)
            in_work += 1
        if not in_work:
            return
        if drawing:
            group = [drawing.popleft() for _ in range(min(together, len(drawing)))]
            traced.append((group, _trace(workers, tracer, group)))
        if traced and (len(traced) > 1 or not drawing):
            group, wait = traced.popleft()
            wait()
            for number in group:
                workers.expose(number)
            exposing += group
        kept = workers.room - 3 * together if drawing or traced else 0  # busy while others render
        while len(exposing) > kept:
            yield workers.exposed(exposing.popleft())
            in_work -= 1


def _trace(workers: Workers, tracer: Tracer, group: Sequence[int]) -> Callable[[], object]:
    """Render batches into the memory of their processes; gives what waits until it is there."""
    images = chain.from_iterable(
        piece.unbind() for piece in tracer.pieces(_joined([workers.drawn(n) for n in group]))
    )
    for number in group:
        place = workers.rendered(number)
        place.copy_(torch.stack([*islice(images, len(place))]), non_blocking=True)
    if tracer.device.type != "cuda":
        return lambda: None
    event = torch.cuda.Event(blocking=True)
    event.record(torch.cuda.current_stream(tracer.device))
    return event.synchronize


@contextmanager
def _pinned(memory: mmap, device: torch.device) -> Iterator[None]:
    """Let a GPU write into memory by itself: copies into any other memory wait for it.

    Raises:
        DeviceError: It cannot.
    """
    if device.type != "cuda":
        yield
        return
    cuda, bytes_ = torch.cuda.cudart(), torch.frombuffer(memory, dtype=torch.uint8)
    try:
        torch.cuda.check_error(cuda.cudaHostRegister(bytes_.data_ptr(), len(bytes_), _PORTABLE))
    except RuntimeError as error:
        raise DeviceError(
            f"{platform.node()}: {len(bytes_) >> 20} MB of memory cannot be pinned for the GPU "
            f"({error}); more memory, or fewer cores (taskset -c 0), may do"
        ) from error
    try:
        yield
    finally:
        torch.cuda.synchronize(device)
        torch.cuda.check_error(cuda.cudaHostUnregister(bytes_.data_ptr()))


def _joined(parts: Sequence[Optics]) -> Optics:
    """Optics of batches as those of one; of halos, each batch has as many as it needs."""
    most = max(part["halos"].shape[1] for part in parts)
    padded = [
        part | {"halos": F.pad(part["halos"], (0, 0, 0, most - part["halos"].shape[1]))}
        for part in parts
    ]
    return {name: torch.cat([part[name] for part in padded]) for name in padded[0]}
