"""The one loop: train, validate, keep the best, save; and go on where it was cut off.

The loop knows the contract of a task (`tasks.task`) and never learns what is learnt. Every random
choice is a function of (seed, epoch, step) or of (seed, epoch, draw of a sample), never of what
ran before, so a checkpoint needs no state of any generator, and a training that goes on from one
ends bit for bit as it would have without the interruption.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deeplense_batch.core.distributed import World
from deeplense_batch.core.job import Job
from deeplense_batch.core.processes import Interrupt, StoppedError
from deeplense_batch.core.rundir import RunDir
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.batches.making import Batches
from deeplense_batch.data.batches.mixture import Mixture
from deeplense_batch.data.batches.sampling import order, share_of
from deeplense_batch.data.batches.unlabelled import Unlabelled
from deeplense_batch.models import checkpoint
from deeplense_batch.tasks.task import Batch, Scores, Task
from deeplense_batch.training.evaluation import batches_of, evaluate
from deeplense_batch.training.lessons import Lesson, lessons
from deeplense_batch.training.saver import BEST, Saver
from deeplense_batch.training.step import DivergedError, Stepper

__all__ = ["BEST", "DivergedError", "Trainer"]

_TIMED = ("train", "evaluate", "checkpoint")
_BEAT_SECONDS = 10.0  # between two signs of life at most; `beat` leaves some of them out
_AGREE_STEPS = 10  # steps between two looks at the other processes' flags
_log = logging.getLogger(__name__)


@dataclass
class Trainer:
    """A training under way."""

    job: Job
    run: RunDir
    world: World
    task: Task
    model: nn.Module  # bare, on the device
    train: Batches | Mixture
    valid: Loader
    interrupt: Interrupt
    beat: Callable[[int], None]  # called often, with the number of finished epochs
    curriculum: Sequence[Loader] = ()  # trained on before `train`, as the recipe says
    unlabelled: Unlabelled | None = None  # to which the task adapts the network

    epoch: int = 0  # finished epochs
    step: int = 0  # finished steps of the epoch under way
    best_epoch: int = 0
    best_score: float = -math.inf
    by_loss: bool = False  # the best epoch was chosen so, since no score was ever defined
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_TIMED, 0.0))

    def __post_init__(self) -> None:
        self.stepper = Stepper(self.job, self.world, self.task, self.model)
        self._lessons = lessons(self.job, self.world, self.task, self.train, self.curriculum)
        self._sums: dict[str, Tensor] = {}  # of the losses of the epoch under way
        self._epoch_seconds = 0.0
        self._saved = time.monotonic()
        self._saver = Saver(self.run)
        self._beaten = (-1, -math.inf)  # epoch and time of the last sign of life
        self._fitted = False  # whether a batch is known to have room in memory

    def resume(self) -> None:
        """Take up the newest checkpoint, if there is one."""
        # The main process reads it for all: another node may still see an older file.
        state = checkpoint.load_checkpoint(self.run.path) if self.world.main else None
        state = self.world.broadcast(state)
        fault = self._fault(state) if self.world.main else None
        if fault := self.world.broadcast(fault):
            raise checkpoint.CheckpointError(fault)
        if self.world.main:  # the history has an epoch before the checkpoint has
            lines = self.run.read_lines("history.jsonl")
            self.run.write_lines("history.jsonl", lines[: state["epoch"] if state else 0])
            if lines and state is None:
                _log.warning(
                    "%s: no checkpoint can be read: the training starts again from its first "
                    "epoch; the result will be the same", self.run.path,
                )  # fmt: skip
        if state is None:
            return
        try:
            self.stepper.load_state_dict(state)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise checkpoint.CheckpointError(
                f"{self.run.path / checkpoint.CHECKPOINT}: is not of this run's network "
                f"({type(error).__name__})"
            ) from error
        # The sums are those of all processes, so the first one takes them up, the others zeros.
        share = 1.0 if self.world.main else 0.0
        self._sums = {name: share * v.to(self.world.device) for name, v in state["sums"].items()}
        for name in _COUNTERS:
            setattr(self, name, state.get(name, getattr(self, name)))
        self.seconds = dict.fromkeys(_TIMED, 0.0) | self.seconds  # earlier versions have fewer
        _log.info("going on after epoch %d, step %d", self.epoch, self.step)

    def _fault(self, state: dict[str, Any] | None) -> str | None:
        """Why a run cannot continue from a checkpoint exactly; None if it can."""
        if state is None:
            return None
        path = self.run.path / checkpoint.CHECKPOINT
        # Earlier versions did not choose by loss.
        if lacking := {*_COUNTERS, "model", "sums"} - {*state, "by_loss"}:
            return f"{path}: has no {min(lacking)}; another program wrote it"
        epochs = len(self.run.read_lines("history.jsonl"))
        if epochs < state["epoch"]:
            return (
                f"{self.run.path}/history.jsonl: has {epochs} of the {state['epoch']} epochs that "
                f"{path.name} has; 'submit --force' starts the run over"
            )
        if state["best_epoch"]:
            return self._fault_of_best(state["best_epoch"])
        return None

    def _fault_of_best(self, epoch: int) -> str | None:
        """Why the weights of the best epoch so far cannot be used; None if they can."""
        path = self.run.path / BEST
        try:
            if checkpoint.load(path).get("epoch", 0) >= epoch:
                return None
            fault = f"{path}: is older than the best epoch"
        except FileNotFoundError:
            fault = f"{path}: is missing"
        except checkpoint.CheckpointError as error:
            fault = str(error)
        return f"{fault}; 'submit --force' starts the run over"

    def fit(self) -> None:
        """Train to the last epoch, or until the score has not risen for `train.patience` epochs.

        Raises:
            StoppedError: The interrupt was set; the state is saved.
            DivergedError: A loss, or an output for a validation image, is not finite.
        """
        patience = self.job.train.patience or self.job.train.epochs
        before = [lesson.last for lesson in self._lessons[:-1]]  # which nothing cuts short
        # In the end all is on the disk, and no more images are made.
        with self._saver, contextlib.closing(self.train):
            while (
                self.epoch < self.job.train.epochs
                and self.epoch - max(self.best_epoch, *before, 0) < patience
            ):
                self._train_epoch()
                self._end_epoch()
        self.stepper.finish()
        self.world.barrier()
        self.seconds["checkpoint"] = self._checkpoint_seconds

    @property
    def _lesson(self) -> Lesson:
        """What the epoch under way is trained on."""
        return next(lesson for lesson in self._lessons if self.epoch < lesson.last)

    def _train_epoch(self) -> None:
        seed, epoch, train = self.job.seed, self.epoch, self.job.train
        lesson = self._lesson
        if len(self._lessons) > 1:
            _log.info("epoch %d of %d is of %s", epoch + 1, train.epochs, lesson.name)
        steps = order(lesson.draws.order(seed=seed, epoch=epoch), train.batch_size)
        self.stepper.start_epoch(settled=epoch >= train.epochs - train.settled)
        started = time.perf_counter()
        for batch in self._batches(steps):
            if not self._fitted:
                self._fit_memory(batch, len(steps[self.step]))
            sums = self.stepper(
                batch,
                samples=len(steps[self.step]),
                time=epoch + self.step / len(steps),
                progress=(epoch + self.step / len(steps)) / train.epochs,
                seed=_mixed(seed, epoch, self.step, self.world.rank),
            )
            for name, value in sums.items():
                self._sums[name] = self._sums[name] + value if name in self._sums else value
            self.step += 1
            self._beat()
            started = self._look_up(started, len(steps))
        if self.world.device.type == "cuda":
            torch.cuda.synchronize()
        self._epoch_seconds += time.perf_counter() - started

    def _fit_memory(self, batch: Batch, samples: int) -> None:
        """Find out before the first step what a GPU has room for, not in mid-epoch."""
        if self.world.device.type != "cpu":
            self.stepper.find_micro_batch(batch, samples)
        self._fitted = True

    def _batches(self, steps: list[NDArray[np.int64]]) -> Iterator[Batch]:
        """This process's share of each step from the next one on, of all steps of an epoch.

        Mixed with its partners, and with unlabelled images beside it, where the job says so.
        """
        seed, epoch, alpha = self.job.seed, self.epoch, self.job.train.mixup
        rank, world, left = self.world.rank, self.world.size, steps[self.step :]
        asked = [share_of(step, rank=rank, world=world) for step in left]
        if alpha:  # a sample's partner is as far from the end of the batch as it is from its start
            partners = [share_of(step[::-1], rank=rank, world=world) for step in left]
            asked = [np.concatenate(pair) for pair in zip(asked, partners, strict=True)]
        images, weights, augment = self._lesson.images, self._lesson.weights, self.job.data.augment
        draws = self.task.spec.draws
        fetched = batches_of(images, asked, augment, seed=seed, epoch=epoch, draws=draws)
        beside: Iterator[Tensor | None] = repeat(None)
        if self.unlabelled is not None:
            beside = self.unlabelled.batches(
                sum(map(len, steps)), self.job.train.batch_size, augment,
                seed=seed, epoch=epoch, first=self.step, rank=rank, world=world,
            )  # fmt: skip
        both = zip(fetched, beside, strict=False)
        for step, (batch, others) in enumerate(both, start=self.step):
            batch = replace(batch, unlabelled=others)
            if weights is not None:
                batch = replace(batch, weights=weights[batch.index])
            if alpha:
                share = float(np.random.default_rng((seed, epoch, step)).beta(alpha, alpha))
                batch = _mix(batch, share)
            yield batch

    def _look_up(self, started: float, steps: int) -> float:
        """Between steps: stop after a signal, save when due; neither counts as training time."""
        if self.world.size > 1 and self.step % _AGREE_STEPS and self.step < steps:
            return started
        due = time.monotonic() - self._saved > self.job.engine.checkpoint_minutes * 60
        agreed = self.world.all_reduce_max(2 if self.interrupt.signal else int(due))
        if not agreed:
            return started
        self._epoch_seconds += time.perf_counter() - started
        self._save()
        if agreed == 2:
            self._saver.wait()
            self.world.barrier()
            raise StoppedError(
                f"{self.run.path}: stopped by a signal in epoch {self.epoch + 1}, step "
                f"{self.step} of {steps}; the state is saved, run it again to go on"
            )
        return time.perf_counter()

    def _end_epoch(self) -> None:
        lesson = self._lesson
        loss = {
            name: float(self.world.all_reduce_sum(value)) / len(lesson.draws)
            for name, value in self._sums.items()
        }
        if not all(math.isfinite(value) for value in loss.values()):
            raise DivergedError(f"the loss of epoch {self.epoch + 1} is not finite: {loss}")
        started = time.perf_counter()
        outputs = evaluate(self.task, self.stepper.scored, self.valid, self.world)
        finite = outputs is not None and bool(
            np.isfinite(outputs[self.task.spec.primary_output]).all()
        )
        if not self.world.broadcast(finite):
            raise DivergedError(
                f"after epoch {self.epoch + 1} outputs for validation images are not finite; a "
                "lower train.lr may help"
            )
        scores: Scores = {}
        if outputs is not None:
            scores = self.task.score_epoch(outputs, self.epoch + 1)
        score, by_loss = self.world.broadcast(_rank_of(scores, self.task.spec.monitor))
        seconds = {"train": self._epoch_seconds, "evaluate": time.perf_counter() - started}
        self.stepper.schedule.end_epoch(score)
        self.epoch, self.step, self._sums, self._epoch_seconds = self.epoch + 1, 0, {}, 0.0
        for name, value in seconds.items():
            self.seconds[name] += value
        better = score is not None and score > self.best_score
        # An epoch with a score is better than all that have none.
        if not self.best_epoch or (better if by_loss == self.by_loss else self.by_loss):
            self.best_epoch, self.by_loss = self.epoch, by_loss
            self.best_score = -math.inf if score is None else score
            if self.world.main:
                self._saver.save(BEST, self._best())
        if self.world.main:
            self._report(loss, scores, seconds, len(lesson.images))
        self._save()
        self._beat()

    def _beat(self) -> None:
        """Give a sign of life when an epoch is over, and now and then, without waiting for it."""
        epoch, before = self._beaten
        if self.world.main and (epoch != self.epoch or time.monotonic() - before > _BEAT_SECONDS):
            self._beaten = self.epoch, time.monotonic()
            self._saver.afterwards(partial(self.beat, self.epoch))

    def _report(self, loss: dict[str, float], scores: Scores, seconds: Any, images: int) -> None:
        rate = images / max(seconds["train"], 1e-9)
        group = self.stepper.optimizer.param_groups[0]
        lr = group["lr"] / group.get("lr_scale", 1.0)  # of the top layer
        line = {"epoch": self.epoch, "lr": lr, "train": loss, "valid": scores}
        self._saver.append("history.jsonl", line | {"seconds": seconds, "images_per_s": rate})
        shown = scores.get(self.task.spec.monitor)
        _log.info(
            "epoch %d of %d: loss %.4f, valid %s %s%s, %.0f images/s",
            self.epoch, self.job.train.epochs, loss["loss"], self.task.spec.monitor,
            "undefined" if shown is None else f"{shown:.4f}",
            " (best)" if self.best_epoch == self.epoch else "", rate,
        )  # fmt: skip
        if self.epoch == 1 and self.by_loss:
            _log.warning("warning: %s", self.choice)

    @property
    def _checkpoint_seconds(self) -> float:
        """What checkpoints have cost the loop, over all attempts."""
        return self.seconds["checkpoint"] + self._saver.seconds

    @property
    def choice(self) -> str | None:
        """A sentence, where the best epoch was not chosen by its score."""
        if not self.by_loss:
            return None
        targets, classes = self.valid.targets.cpu().numpy(), self.valid.info.classes
        lacking = [name for k, name in enumerate(classes) if not (targets == k).any()]
        why = f", which has no {' and no '.join(lacking)}" if lacking else ""
        return (
            f"the validation {self.task.spec.monitor} is undefined on {self.job.data.valid}{why}: "
            "the best epoch is that of the lowest validation loss"
        )

    def _best(self) -> dict[str, Any]:
        info = self.train.info
        bands, choice = info.bands, info.choice
        return {
            "model": dict(self.stepper.scored.state_dict()),
            "epoch": self.epoch,
            **self.train.transform.stored(),
            "task": self.task.state_dict(),
            "shape": list(info.shape),
            "pixel_scale": info.pixel_scale,
            **({"ratio": info.ratio} if self.task.spec.needs_inputs else {}),
            **({"bands": list(bands)} if bands else {}),
            **(choice.stored(info.as_stored.shape[0]) if choice else {}),
        }

    def _save(self) -> None:
        sums = {
            name: self.world.all_reduce_sum(value.clone()) for name, value in self._sums.items()
        }
        if self.world.main:
            state = self.stepper.state_dict() | {"sums": sums}
            state |= {name: getattr(self, name) for name in _COUNTERS}
            state["seconds"] = self.seconds | {"checkpoint": self._checkpoint_seconds}
            self._saver.save(checkpoint.CHECKPOINT, state)
        self._saved = time.monotonic()


def _mix(both: Batch, share: float) -> Batch:
    """Mix the first half of a batch with the second (mixup; Zhang et al. 2018, 1710.09412)."""
    half = len(both.images) // 2
    images = share * both.images[:half] + (1 - share) * both.images[half:]
    return Batch(
        images,
        both.targets[:half],
        both.index[:half],
        weights=None if both.weights is None else both.weights[:half],
        partners=both.targets[half:],
        partner_weights=None if both.weights is None else both.weights[half:],
        share=share,
        truth={name: values[:half] for name, values in both.truth.items()},
    )


def _rank_of(scores: Scores, monitor: str) -> tuple[float | None, bool]:
    """By what an epoch is compared, the higher the better, and whether that is its loss."""
    score, loss = scores.get(monitor), scores.get("loss")
    # A checkpoint holds plain numbers: one of numpy could be written, and not be read again.
    if score is not None and math.isfinite(score):
        return float(score), False
    return None if loss is None or not math.isfinite(loss) else -float(loss), True


def _mixed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


_COUNTERS = (
    *("epoch", "step", "best_epoch", "best_score", "by_loss", "seconds"),
    "_epoch_seconds",
)
