"""The gradient of a batch as a CUDA graph: a thousand small launches become one.

Where a step of a small network is short, the host takes longer to ask for its kernels than a GPU
to run them. Recorded once for each shape of batch, they are all launched by one call. The recorded
operations read and write fixed memory, so a batch is first copied there; the update of the weights
stays outside, where the learning rate may change.

References:
    https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from deeplense_batch.tasks.task import Batch

__all__ = ["CudaRecorder", "GradientGraph", "Recorder"]

Shape = tuple[object, ...]
Sums = dict[str, Tensor]
Gradient = Callable[[Batch, Tensor], Sums]  # of a batch and the progress, a scalar on the device
Launch = Callable[[Batch, Tensor, int], Sums]  # the same of a seed, wherever kernels are launched

_LAUNCHED_STEPS = 3  # of each shape: libraries choose their kernels before one is recorded
_MOST_SHAPES = 4  # an epoch has batches of one size or two; a graph keeps its memory

_log = logging.getLogger(__name__)


class Recorder(Protocol):
    """What can run a function beside the current stream, and record one to run it again."""

    def warm_up(self, function: Callable[[], Sums]) -> Sums:
        """Run it once, unrecorded, on the stream that it will be recorded on."""

    def record(self, function: Callable[[], Sums]) -> tuple[Callable[[], None], Sums]:
        """Record it; what runs it again, and what it gives each time, in the same memory."""


class CudaRecorder:
    """Records CUDA graphs, all on one stream and in one pool of memory."""

    def __init__(self, device: torch.device) -> None:
        # Streams are taken in turns: one with a priority is never that of a reader's copies, which
        # would be recorded.
        self._stream = torch.cuda.Stream(device, priority=-1)
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, function: Callable[[], Sums]) -> Sums:
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            sums = function()
        current.wait_stream(self._stream)
        return sums

    def record(self, function: Callable[[], Sums]) -> tuple[Callable[[], None], Sums]:
        graph = torch.cuda.CUDAGraph()
        current = torch.cuda.current_stream(self._stream.device)
        try:
            # Other threads read images and write checkpoints meanwhile.
            with (
                _own_workspace(),
                torch.cuda.graph(
                    graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
                ),
            ):
                sums = function()
        except RuntimeError:
            self._leave(current)
            raise
        return graph.replay, sums

    def _leave(self, current: torch.cuda.Stream) -> None:
        """End a recording that failed, as torch does where it succeeds.

        Else the next operations would run on its stream, no freed memory would be used again, and
        random numbers be refused ("offset increment outside graph capture").
        """
        torch.cuda.set_stream(current)
        device = self._stream.device
        # Torch has ended it, if no operation broke it; and names of its own may change.
        with contextlib.suppress(RuntimeError, AttributeError):
            torch._C._cuda_endAllocateToPool(device.index, self._pool)
            torch._C._cuda_releasePool(device.index, self._pool)
        fresh = torch.Generator(device).graphsafe_get_state()
        torch.cuda.default_generators[device.index].graphsafe_set_state(fresh)


@contextlib.contextmanager
def _own_workspace() -> Iterator[None]:
    """Let a graph take cuBLAS's workspace from its own memory.

    One taken before belongs to nobody's graph: whoever frees it (Lightning does, at the end of a
    training) leaves a graph that writes where it must not.
    """
    clear = getattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: None)  # a name of torch's own
    clear()
    try:
        yield
    finally:
        clear()


@dataclass(frozen=True)
class _Recorded:
    """The graph of batches of one shape."""

    batch: Batch  # in fixed memory
    replay: Callable[[], None]
    sums: Sums
    gradients: list[Tensor | None]


class GradientGraph:
    """Computes what `gradient` does, the first steps as it is and then by replaying a graph.

    Arguments:
        gradient: Leaves the gradients in the parameters, and gives sums of losses, scalars.
        launch: The same for a seed, with no gradient left of a step before.
        parameters: Of the network.
        recorder: What records.
    """

    def __init__(
        self,
        gradient: Gradient,
        launch: Launch,
        parameters: Sequence[Tensor],
        recorder: Recorder,
    ) -> None:
        self._gradient, self._launch = gradient, launch
        self._parameters = list(parameters)
        self._recorder: Recorder | None = recorder
        self._progress = torch.zeros((), device=self._parameters[0].device)
        self._seen: Counter[Shape] = Counter()
        self._recorded: dict[Shape, _Recorded] = {}

    @property
    def replays(self) -> bool:
        """Whether any step has been recorded."""
        return bool(self._recorded)

    def __call__(self, batch: Batch, progress: float, seed: int) -> Sums:
        """The gradient of a batch, left in the parameters, and its sums.

        Arguments:
            batch: On the device.
            progress: Share of the training that is over.
            seed: Of dropout and the like.
        """
        self._progress.fill_(progress)
        shape = _shape(batch)
        recorded = self._recorded.get(shape) or self._record(batch, shape)
        if recorded is None:
            return self._launched(batch, seed)
        torch.manual_seed(seed)
        for fixed, value in zip(_tensors(recorded.batch), _tensors(batch), strict=True):
            fixed.copy_(value)
        recorded.replay()
        for parameter, gradient in zip(self._parameters, recorded.gradients, strict=True):
            parameter.grad = gradient
        return {name: value.clone() for name, value in recorded.sums.items()}

    def drop(self) -> bool:
        """Record no more, and give up what is recorded, with its memory; whether any was."""
        had, self._recorder = self.replays, None
        self._recorded.clear()
        return had

    def _launched(self, batch: Batch, seed: int) -> Sums:
        if self._recorder is None:
            return self._launch(batch, self._progress, seed)
        return self._recorder.warm_up(lambda: self._launch(batch, self._progress, seed))

    def _record(self, batch: Batch, shape: Shape) -> _Recorded | None:
        """The graph for batches like this one; None where its kernels are launched, this time."""
        self._seen[shape] += 1
        if self._recorder is None or self._seen[shape] <= _LAUNCHED_STEPS:
            return None
        if len(self._recorded) == _MOST_SHAPES:
            return None
        for parameter in self._parameters:  # backward makes new ones: those of a graph are its own
            parameter.grad = None
        try:
            fixed = batch.mapped(torch.clone)
            replay, sums = self._recorder.record(lambda: self._gradient(fixed, self._progress))
        except RuntimeError as error:  # out of memory too
            self.drop()  # of those before, which draw their random numbers elsewhere now
            cause = error.__context__ or error  # of what broke it, its end only says that it is
            _log.warning(
                "engine.graph: a step of this network cannot be recorded (%s); its kernels are "
                "launched one by one", " ".join(str(cause).split())[:160] or type(cause).__name__,
            )  # fmt: skip
            return None
        recorded = _Recorded(fixed, replay, sums, [p.grad for p in self._parameters])
        self._recorded[shape] = recorded
        return recorded


def _tensors(batch: Batch) -> list[Tensor]:
    own = [value for value in vars(batch).values() if isinstance(value, Tensor)]
    return own + [batch.truth[name] for name in sorted(batch.truth)]


def _shape(batch: Batch) -> Shape:
    """What two batches have to share for one graph to serve both."""
    names = tuple(name for name, value in vars(batch).items() if isinstance(value, Tensor))
    return (names, tuple(sorted(batch.truth)), *(value.shape for value in _tensors(batch)))
