"""The one loop: train, validate, keep the best, save; and go on where it was cut off.

The loop calls four methods of a task and never learns what is learnt. Every random choice is a
function of (seed, epoch, step) or of (seed, epoch, sample), never of what ran before, so a
checkpoint needs no state of any generator, and a training that goes on from one ends bit for bit
as it would have without the interruption.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from deeplense_batch import checkpoint
from deeplense_batch.data.loader import Loader, order, share_of
from deeplense_batch.distributed import World
from deeplense_batch.job import Job
from deeplense_batch.optim import Schedule, build_optimizer
from deeplense_batch.rundir import RunDir
from deeplense_batch.tasks.task import Arrays, Batch, Scores, Task

__all__ = ["BEST", "DivergedError", "Interrupt", "StoppedError", "Trainer", "evaluate"]

BEST = "best.pt"

_AGREE_STEPS = 10  # steps between two looks at the other processes' flags
_log = logging.getLogger(__name__)


class StoppedError(RuntimeError):
    """The run was cut short and its state is saved: run it again."""


class DivergedError(RuntimeError):
    """The loss is no number any more."""


@dataclass
class Interrupt:
    """A flag that a signal handler sets and the loop looks at between steps."""

    signal: int = 0


@dataclass
class Trainer:
    """A training under way."""

    job: Job
    run: RunDir
    world: World
    task: Task
    model: nn.Module  # bare, on the device
    train: Loader
    valid: Loader
    interrupt: Interrupt
    beat: Callable[[int], None]  # told the finished epochs, often

    epoch: int = 0  # finished epochs
    step: int = 0  # finished steps of the epoch under way
    best_epoch: int = 0
    best_score: float = -math.inf
    seconds: dict[str, float] = field(default_factory=lambda: {"train": 0.0, "evaluate": 0.0})

    def __post_init__(self) -> None:
        train = self.job.train
        self._wrapped = self.world.wrap(self.model)
        self._optimizer = build_optimizer(
            train.optimizer, self.model, lr=train.lr, weight_decay=train.weight_decay
        )
        self._schedule = Schedule(
            train.schedule, lr=train.lr, epochs=train.epochs, warmup=train.warmup
        )
        self._sums: dict[str, torch.Tensor] = {}  # of the losses of the epoch under way
        self._epoch_seconds = 0.0

    def resume(self) -> None:
        """Take up the newest checkpoint, if there is one."""
        state = checkpoint.load_checkpoint(self.run.path)
        if self.world.main:  # an epoch is told before it is saved
            told = self.run.read_lines("history.jsonl")
            self.run.write_lines("history.jsonl", told[: state["epoch"] if state else 0])
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        # The sums are those of all processes, so the first one takes them up, the others zeros.
        share = 1.0 if self.world.main else 0.0
        self._sums = {name: share * v.to(self.world.device) for name, v in state["sums"].items()}
        for name in _COUNTERS:
            setattr(self, name, state[name])
        _log.info("going on after epoch %d, step %d", self.epoch, self.step)

    def fit(self) -> None:
        """Train to the last epoch.

        Raises:
            StoppedError: The interrupt was set; the state is saved.
            DivergedError: A mean loss of an epoch is not finite.
        """
        while self.epoch < self.job.train.epochs:
            self._train_epoch()
            self._end_epoch()

    def _train_epoch(self) -> None:
        seed, epoch = self.job.seed, self.epoch
        batches = order(len(self.train), self.job.train.batch_size, seed=seed, epoch=epoch)
        self._wrapped.train()
        started = time.perf_counter()
        while self.step < len(batches):
            time_epochs = epoch + self.step / len(batches)
            self._schedule.set(self._optimizer, time_epochs)
            self._train_step(batches[self.step], time_epochs)
            self.step += 1
            self.beat(self.epoch)
            if self._interrupted():
                self._epoch_seconds += time.perf_counter() - started
                self._save()
                raise StoppedError(
                    f"{self.run.path}: stopped by a signal in epoch {epoch + 1}, step "
                    f"{self.step} of {len(batches)}; the state is saved, run it again to go on"
                )
        if self.world.device.type == "cuda":
            torch.cuda.synchronize()
        self._epoch_seconds += time.perf_counter() - started

    def _train_step(self, batch: np.ndarray, time_epochs: float) -> None:
        seed, epoch, world = self.job.seed, self.epoch, self.world
        mine = share_of(batch, rank=world.rank, world=world.size)
        samples = self.train.augmented(mine, self.job.data.augment, seed=seed, epoch=epoch)
        # Dropout and the like: a function of the step, so nothing need be saved of a generator.
        entropy = np.random.SeedSequence((seed, epoch, self.step, world.rank))
        torch.manual_seed(int(entropy.generate_state(1)[0]))
        progress = time_epochs / self.job.train.epochs
        losses = self.task.losses(self._wrapped, Batch(*samples), progress)
        # Shares may differ by a sample; DDP averages them as if they did not.
        weight = len(mine) * world.size / len(batch)
        self._optimizer.zero_grad(set_to_none=True)
        (losses["loss"] * weight).backward()
        if self.job.train.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.job.train.clip)
        self._optimizer.step()
        for name, value in losses.items():
            part = value.detach().double() * len(mine)
            self._sums[name] = self._sums[name] + part if name in self._sums else part

    def _end_epoch(self) -> None:
        loss = {
            name: float(self.world.total(value)) / len(self.train)
            for name, value in self._sums.items()
        }
        if not all(math.isfinite(value) for value in loss.values()):
            raise DivergedError(
                f"{self.run.path}: the loss of epoch {self.epoch + 1} is not finite ({loss})"
            )
        started = time.perf_counter()
        outputs = evaluate(self.task, self.model, self.valid, self.world)
        scores: Scores = {}
        if outputs is not None:
            scores, _ = self.task.score(outputs)
        score = self.world.share(scores.get(self.task.monitor))
        seconds = {"train": self._epoch_seconds, "evaluate": time.perf_counter() - started}
        self._schedule.end_epoch(score)
        self.epoch, self.step, self._sums, self._epoch_seconds = self.epoch + 1, 0, {}, 0.0
        for name, value in seconds.items():
            self.seconds[name] += value
        if not self.best_epoch or (score is not None and score > self.best_score):
            self.best_epoch, self.best_score = self.epoch, -math.inf if score is None else score
            if self.world.main:
                checkpoint.save(self.run.path / BEST, self._best())
        if self.world.main:
            self._report(loss, scores, seconds)
        self._save()
        self.beat(self.epoch)

    def _report(self, loss: dict[str, float], scores: Scores, seconds: Any) -> None:
        rate = len(self.train) / max(seconds["train"], 1e-9)
        lr = self._optimizer.param_groups[0]["lr"]
        line = {"epoch": self.epoch, "lr": lr, "train": loss, "valid": scores}
        self.run.append("history.jsonl", line | {"seconds": seconds, "images_per_s": rate})
        shown = scores.get(self.task.monitor)
        _log.info(
            "epoch %d of %d: loss %.4f, valid %s %s%s, %.0f images/s",
            self.epoch, self.job.train.epochs, loss["loss"], self.task.monitor,
            "undefined" if shown is None else f"{shown:.4f}",
            " (best)" if self.best_epoch == self.epoch else "", rate,
        )  # fmt: skip

    def _best(self) -> dict[str, Any]:
        transform = self.train.transform
        return {
            "model": {name: value.cpu() for name, value in self.model.state_dict().items()},
            "epoch": self.epoch,
            "mean": list(transform.mean),
            "sd": list(transform.sd),
        }

    def _interrupted(self) -> bool:
        if self.world.size > 1 and self.step % _AGREE_STEPS:
            return False
        return bool(self.world.largest(self.interrupt.signal))

    def _save(self) -> None:
        sums = {name: self.world.total(value.clone()) for name, value in self._sums.items()}
        if self.world.main:
            state = {
                "model": self.model.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "schedule": self._schedule.state_dict(),
                "sums": sums,
            } | {name: getattr(self, name) for name in _COUNTERS}
            checkpoint.save_checkpoint(self.run.path, state)
        self.world.barrier()


def evaluate(task: Task, model: nn.Module, loader: Loader, world: World) -> Arrays | None:
    """Predict a whole slice, every sample once, over all processes.

    Returns:
        On the first process what `Task.predict` gives, in the order of the slice, with ``ids``
        and ``targets``, (N, ...); None on the others.
    """
    world.same_buffers(model)
    model.eval()
    parts: dict[str, list[np.ndarray]] = {}
    with torch.inference_mode():
        for index in loader.in_order(rank=world.rank, world=world.size):
            predicted = task.predict(model, Batch(*loader.batch(index)))
            for name, value in predicted.items():
                parts.setdefault(name, []).append(value.float().cpu().numpy())
            parts.setdefault("index", []).append(index)
    gathered = world.gather({name: np.concatenate(v) for name, v in parts.items()})
    if gathered is None:
        return None
    index = gathered.pop("index")
    places = np.argsort(index)
    assert np.array_equal(index[places], np.arange(len(loader))), "a sample is missing or doubled"
    outputs = {name: values[places] for name, values in gathered.items()}
    return outputs | {"ids": loader.ids, "targets": loader.targets.cpu().numpy()}


_COUNTERS = ("epoch", "step", "best_epoch", "best_score", "seconds", "_epoch_seconds")
