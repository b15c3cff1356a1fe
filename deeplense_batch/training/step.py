"""One step: the gradient of a global batch, over processes and micro-batches, and the update.

The loss of a batch is the mean over its samples, so the pieces are weighted by their true numbers
of samples: any world size and any micro-batch make the same step, but for rounding, where each
sample goes through the network alone. Batch norm takes its statistics from a piece, and dropout
and diffusion draw their noise piece by piece: there the pieces are part of the result.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from deeplense_batch.core.distributed import World
from deeplense_batch.core.job import Job
from deeplense_batch.models import ModelError
from deeplense_batch.models.start import classifier_of
from deeplense_batch.tasks.extended import Extended, bare
from deeplense_batch.tasks.task import Batch, Task
from deeplense_batch.training.graph import CudaRecorder, GradientGraph, Recorder
from deeplense_batch.training.optim import (
    Ema,
    Schedule,
    build_optimizer,
    copy_buffers,
    freeze,
    load_optimizer,
)
from deeplense_batch.training.precision import Precision

__all__ = ["DivergedError", "Stepper", "compiled"]

_LEAST_SCALE = 2.0**-4  # of fp16's losses: 20 halvings, a step left out each, from where it starts
_LOOK_STEPS = 10  # on a GPU; to look at every loss would make the host wait for it

_log = logging.getLogger(__name__)


class DivergedError(RuntimeError):
    """The loss is no number any more."""

    exit_code = 6


class Stepper:
    """A model with all that changes its weights."""

    def __init__(self, job: Job, world: World, task: Task, model: nn.Module) -> None:
        train, engine = job.train, job.engine
        freeze(bare(model), train.freeze)
        if engine.channels_last:
            model.to(memory_format=torch.channels_last)
        self._task = task
        self._world = world
        self._clip = train.clip
        self._frozen = train.freeze
        self._settled = False  # whether batch norms use the statistics that they keep
        self._format = torch.channels_last if engine.channels_last else torch.contiguous_format
        self._on_cpu = world.device.type == "cpu"
        self.micro_batch = train.micro_batch
        self.precision = Precision(train.amp, world.device)
        self.model = model
        self.ema = None if train.ema is None else Ema(model, train.ema)
        self.schedule = Schedule(train.schedule, epochs=train.epochs, warmup=train.warmup)
        self.optimizer = build_optimizer(
            train.optimizer,
            model,
            lr=train.lr,
            weight_decay=train.weight_decay,
            head_lr=train.head_lr,
            head=None if train.head_lr is None else _head(model),
            layer_decay=train.layer_decay,
        )
        self._shared = world.wrap(model, sync_bn=train.sync_bn)
        self._called: Callable[..., Any] = self._shared
        if engine.compile:
            self._called = compiled(self._shared)
        self.graph = False  # whether steps were replayed as CUDA graphs
        self._graph: GradientGraph | None = None
        if self._recordable(job):
            self._graph = self._recording(CudaRecorder(world.device))
        self._lost = torch.zeros((), dtype=torch.bool, device=world.device)
        self._steps = 0

    @property
    def scored(self) -> nn.Module:
        """The weights that are evaluated and kept: the averaged ones where there are any."""
        return self.model if self.ema is None else self.ema.model

    @property
    def compiled(self) -> bool:
        """Whether the network that trains is compiled."""
        return self._called is not self._shared

    def _recordable(self, job: Job) -> bool:
        """Whether every step does the same with batches of a shape, and nothing waits."""
        return (
            self._world.device.type == "cuda"
            and self._world.size == 1
            and job.engine.graph == "auto"
            and not self.compiled
            and self.precision.name != "fp16"
            and not job.train.mixup
            and job.data.simulate is None  # whose thread would break a recording
            and self._task.spec.replayable
        )

    def _recording(self, recorder: Recorder) -> GradientGraph:
        """Steps of whole batches, which a recorder replays."""

        def gradient(batch: Batch, progress: Tensor) -> dict[str, Tensor]:
            return self._gradient(batch, len(batch.images), progress)

        def launch(batch: Batch, progress: Tensor, seed: int) -> dict[str, Tensor]:
            return self._launched(batch, len(batch.images), progress, seed)

        return GradientGraph(gradient, launch, [*self.model.parameters()], recorder)

    def start_epoch(self, *, settled: bool = False) -> None:
        """Put the model in training mode; frozen parts keep their statistics.

        Arguments:
            settled: Batch norms use the statistics that they keep, and change them no more.
        """
        if settled and self._graph is not None:  # what is recorded has norms of the other mode
            self._graph.drop()
            self._graph = None
        self._settled = settled
        self._shared.train()
        for name, module in bare(self.model).named_modules():
            frozen = f"{name}.".startswith(tuple(f"{part}." for part in self._frozen))
            if frozen or (settled and isinstance(module, _BatchNorm)):
                module.eval()

    def __call__(
        self, batch: Batch, *, samples: int, time: float, progress: float, seed: int
    ) -> dict[str, Tensor]:
        """Make one step.

        Arguments:
            batch: This process's share of the global batch.
            samples: Samples of the global batch.
            time: Time in epochs, for the schedule.
            progress: Share of the training that is over, in [0, 1).
            seed: Of dropout and the like: a function of the step, so nothing need be saved.

        Returns:
            Sums of the losses over this process's samples, float64 scalars on the device; zeros
            for those that are not finite in a step that fp16 leaves out.

        Raises:
            DivergedError: A loss is not finite; with fp16, no scale makes the gradients finite.
            torch.OutOfMemoryError: One sample at a time is too much, or there are several
                processes, which cannot agree on smaller micro-batches in mid-step.
        """
        self.schedule.set(self.optimizer, time)
        if self._graph is not None and self.micro_batch is None:
            sums = self._graph(batch, progress, seed)
            self.graph |= self._graph is not None and self._graph.replays
        else:
            sums = self._launched(batch, samples, progress, seed)
        self._update()
        self._look(sums["loss"])
        if self.precision.name == "fp16":
            return {name: value.nan_to_num(0.0, 0.0, 0.0) for name, value in sums.items()}
        return sums

    def finish(self) -> None:
        """Give up what only further steps would use: graphs and gradients, with their memory."""
        if self._graph is not None:
            self._graph.drop()
        self._graph = None
        self.optimizer.zero_grad(set_to_none=True)

    def find_micro_batch(self, batch: Batch, samples: int) -> None:
        """Halve micro-batches until there is memory for them: passes that change no weight.

        All processes take the size of the one that has the least memory. The optimizer's moments
        are not there yet: a batch that only just fits may still run out of memory in the second
        step, from which several processes do not recover.

        Arguments:
            batch: This process's share of the largest batch of an epoch.
            samples: Samples of that global batch.

        Raises:
            torch.OutOfMemoryError: One sample at a time is too much.
        """
        norms = [m for m in self._shared.modules() if isinstance(m, nn.SyncBatchNorm)]
        for norm in norms:  # which would wait for a process that has run out of memory
            norm.eval()
        kept = self._buffers()
        while True:
            fault = self._try(lambda: self._gradient(batch, samples, 0.0, averaged=False))
            if not self._world.all_reduce_max(int(fault is not None)):
                break
            self._restore(kept)
            if not self._halve(len(batch.images)):
                raise torch.OutOfMemoryError(fault or "another process is out of memory")
        self._restore(kept)
        self.optimizer.zero_grad(set_to_none=True)
        self.start_epoch(settled=self._settled)  # frozen norms stay as they were

    def _launched(
        self, batch: Batch, samples: int, progress: float | Tensor, seed: int
    ) -> dict[str, Tensor]:
        """The gradient of a batch by kernels launched one by one, and its sums."""
        sums: dict[str, Tensor] = {}

        def gradient() -> None:
            sums.update(self._gradient(batch, samples, progress))

        kept = self._buffers()
        while True:
            torch.manual_seed(seed)
            fault = self._try(gradient)
            if fault is None:
                return sums
            self._restore(kept)
            if self._world.size > 1 or not self._make_room(len(batch.images)):
                raise torch.OutOfMemoryError(fault)

    def _try(self, gradient: Callable[[], object]) -> str | None:
        """Compute a gradient; the error's text where memory ran out.

        Of a pass that failed nothing lives on here: its activations go with the exception, so
        that their memory is free for a smaller one.
        """
        while True:
            self.optimizer.zero_grad(set_to_none=True)
            try:
                gradient()
                return None
            except torch.OutOfMemoryError as error:
                return str(error)
            except RuntimeError as error:
                if not self._leave_uncompiled(error):
                    raise

    def _buffers(self) -> list[Tensor]:
        """Copies of what a pass changes beside gradients: the statistics of batch norms."""
        buffers = [*self.model.buffers()]
        kept = [torch.empty_like(buffer) for buffer in buffers]
        copy_buffers(buffers, kept)
        return kept

    def _restore(self, kept: list[Tensor]) -> None:
        copy_buffers(kept, [*self.model.buffers()])

    def _gradient(
        self, batch: Batch, samples: int, progress: float | Tensor, *, averaged: bool = True
    ) -> dict[str, Tensor]:
        count = len(batch.images)
        pieces = math.ceil(count / (self.micro_batch or count))
        sums: dict[str, Tensor] = {}
        for i in range(pieces):
            piece = _piece(batch, i * count // pieces, (i + 1) * count // pieces, self._format)
            last = averaged and i == pieces - 1
            with self._unsynchronised(last), self.precision.autocast():
                losses = self._task.losses(cast(nn.Module, self._called), piece, progress)
            # DDP averages over the processes as if their shares had one size.
            weight = len(piece.images) * self._world.size / samples
            with self._unsynchronised(last):
                self.precision.scaler.scale(losses["loss"] * weight).backward()
            for name, value in losses.items():
                part = value.detach().double() * len(piece.images)
                sums[name] = sums[name] + part if name in sums else part
        return sums

    def _unsynchronised(self, last: bool) -> contextlib.AbstractContextManager[None]:
        """Gradients are averaged over the processes once a step, with the last piece."""
        if last or not isinstance(self._shared, DistributedDataParallel):
            return contextlib.nullcontext()
        return self._shared.no_sync()

    def _update(self) -> None:
        scaler = self.precision.scaler
        if self._clip is not None:
            scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self._clip)
        scaler.step(self.optimizer)
        scaler.update()
        if self.ema is not None:
            self.ema.update(self.model)

    def _look(self, loss: Tensor) -> None:
        """End where a loss is not finite; fp16 leaves such steps out and lowers its scale."""
        self._steps += 1
        self._lost |= ~torch.isfinite(loss)
        if not self._on_cpu and self._steps % _LOOK_STEPS:
            return
        if self.precision.name == "fp16":
            scale = self.precision.scaler.get_scale()
            if scale < _LEAST_SCALE:
                raise DivergedError(
                    f"the gradients are not finite in fp16, at a scale of {scale:g} either; "
                    "a lower train.lr, train.clip or train.amp: bf16 may help"
                )
        elif self._lost:
            seen = (
                f"is {float(loss)}"
                if self._on_cpu
                else f"of the last {_LOOK_STEPS} steps is not finite"
            )
            raise DivergedError(f"the loss {seen}; a lower train.lr may help")

    def _leave_uncompiled(self, error: RuntimeError) -> bool:
        """Go on without compiling, where it is the compiler that fails on this very network."""
        if not self.compiled:
            return False
        from torch._dynamo.exc import TorchDynamoException  # of all that torch.compile raises

        if not isinstance(error, TorchDynamoException):
            return False
        self._called = self._shared
        reason = " ".join(str(error).split()) or type(error).__name__
        _log.warning(
            "engine.compile: torch.compile fails on this network (%s); it trains uncompiled",
            reason[:160],
        )
        return True

    def _make_room(self, count: int) -> bool:
        """After running out of memory: give up recorded steps, or else halve micro-batches."""
        graph, self._graph = self._graph, None
        if graph is None or not graph.drop():
            return self._halve(count)
        torch.cuda.empty_cache()
        _log.warning("out of memory: steps are not replayed any more, which took memory")
        return True

    def _halve(self, count: int) -> bool:
        """Halve micro-batches; False where there is nothing left to halve."""
        size = min(self.micro_batch or count, count)
        if size == 1:
            return False
        self.micro_batch = math.ceil(size / 2)
        torch.cuda.empty_cache()
        _log.warning("out of memory: micro-batches of %d from here on", self.micro_batch)
        return True

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "micro_batch": self.micro_batch,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of an earlier attempt."""
        self.model.load_state_dict(state["model"])
        load_optimizer(self.optimizer, state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if state["scaler"]:  # empty, of a training that went on without fp16 until now
            self.precision.scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self.micro_batch = state["micro_batch"]


def compiled(network: nn.Module, **options: Any) -> Callable[..., Any]:
    """A network by `torch.compile`, which takes `options`: once for batches of every size."""
    fast = torch.compile(network, **options)

    def called(*inputs: Any) -> Any:
        for value in inputs:
            if isinstance(value, Tensor) and value.ndim:
                torch._dynamo.maybe_mark_dynamic(value, 0)
        return fast(*inputs)

    return called


def _piece(batch: Batch, start: int, stop: int, memory_format: torch.memory_format) -> Batch:
    def laid_out(values: Tensor) -> Tensor:
        return values.contiguous(memory_format=memory_format) if values.ndim == 4 else values

    return batch.part(slice(start, stop)).mapped(laid_out)


def _head(model: nn.Module) -> nn.Module:
    """The classifier of a model, as timm's models tell it, and what its task has beside it."""
    if (head := classifier_of(bare(model))) is None:
        raise ModelError("train.head_lr: this model does not tell which part is its classifier")
    return nn.ModuleList([head, *model.parts]) if isinstance(model, Extended) else head
