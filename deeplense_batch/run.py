"""One run, start to end: claim its directory, build, resume, fit, test, write."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from types import FrameType
from typing import Any

import numpy as np
import torch

from deeplense_batch import checkpoint, models, record
from deeplense_batch.data.loader import Loader, Transform
from deeplense_batch.data.shards import ShardError
from deeplense_batch.data.verify import verify
from deeplense_batch.distributed import DeviceError, World, is_main, open_world, world_size
from deeplense_batch.figures import save as save_figure
from deeplense_batch.fit import BEST, DivergedError, Interrupt, StoppedError, Trainer, evaluate
from deeplense_batch.plan import Planned, data_notes, open_slices, put_aside
from deeplense_batch.precision import PrecisionError
from deeplense_batch.rundir import RunDir, Status, now
from deeplense_batch.tasks import build_task
from deeplense_batch.tasks.task import Arrays, Scores

__all__ = ["run"]

_HEARTBEAT_SECONDS = 30.0
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (DivergedError, "diverged"),
    (torch.OutOfMemoryError, "oom"),
    (DeviceError, "environment"),
    (models.WeightsError, "environment"),
    (PrecisionError, "environment"),
    (models.ModelError, "data"),
    (ShardError, "data"),
)

_log = logging.getLogger(__name__)


def run(planned: Planned, *, device: str | None = None, force: bool = False) -> Scores:
    """Carry out a run; go on with it if it was cut off; return at once if it is done.

    Arguments:
        planned: The job and its directory (`plan.plan`, `plan.reopen`).
        device: ``cpu`` or ``cuda``, in place of what the job asks for.
        force: Put aside what is there and start over.

    Returns:
        Scores on the test slice, empty on every process but the first.

    Raises:
        RunBusyError: Another process is at work on it.
        DeviceError, WeightsError: The machine lacks what the job needs.
        ShardError, ModelError, ValueError: Data, model and task do not fit together.
        DivergedError: The loss is not finite.
        StoppedError: A signal came; the state is saved.
    """
    if force and planned.run.path.exists():
        with planned.run.claim():
            put_aside(planned.run)
    directory = planned.make()
    if directory.status().state == "done":
        return directory.read_json("metrics.json")["test"]["scores"]
    with contextlib.ExitStack() as stack:
        if is_main():
            stack.enter_context(directory.claim())
            stack.enter_context(_logging_to(directory))
            stack.enter_context(_attempt(directory, planned))
        interrupt = stack.enter_context(_signals())
        world = stack.enter_context(open_world(gpus=planned.job.resources.gpus, device=device))
        return _carry_out(planned, directory, world, interrupt)


def _carry_out(planned: Planned, directory: RunDir, world: World, interrupt: Interrupt) -> Scores:
    job, started = planned.job, time.perf_counter()
    if world.device.type == "cpu":  # the number of threads is part of how sums are rounded
        torch.set_num_threads(min(job.resources.cpus, record.cores()))
    slices = open_slices(job)
    for split in {split.info.name: split.info for split in slices.values()}.values():
        verify(split)
    transform = Transform(job.data.crop, job.data.size, job.data.stretch)
    load = partial(Loader, device=world.device, resident=job.engine.resident)
    train = load(slices["train"], transform=transform)
    train.transform = train.measured()
    valid, test = (load(slices[use], transform=train.transform) for use in ("valid", "test"))
    for loader in (train, valid, test):
        if len(loader) < world.size:
            raise ShardError(
                f"{job.data.root}: {len(loader)} samples of {loader.split.info.name} are less "
                f"than one for each of {world.size} processes"
            )
    info = slices["train"].info
    task = build_task(job.task.name, classes=info.classes, **job.task.options)
    torch.manual_seed(job.seed)
    model = models.build(
        job.model.name,
        channels=info.shape[0],
        classes=len(info.classes),
        size=job.data.size or job.data.crop or info.shape[1],
        pretrained=job.model.pretrained,
        **job.model.options,
    ).to(world.device)
    energy = record.Energy(world.device.index)
    loaded = time.perf_counter() - started
    trainer = Trainer(
        job, directory, world, task, model, train, valid, interrupt, _heart(directory, job)
    )
    _log.info(
        "%s on %s: %d train, %d valid, %d test images",
        directory.name, world.describe()["name"], len(train), len(valid), len(test),
    )  # fmt: skip
    trainer.resume()
    trainer.fit()

    started = time.perf_counter()
    model.load_state_dict(checkpoint.load(directory.path / BEST)["model"])
    outputs = evaluate(task, model, test, world, tta=job.data.tta)
    if outputs is None:
        return {}
    seconds = {"load": loaded, **trainer.seconds, "test": time.perf_counter() - started}
    scores, notes = task.score(outputs)
    _write_outputs(directory, outputs, info.classes)
    for name, figure in task.draw(outputs, directory.read_lines("history.jsonl")).items():
        figure.suptitle(f"{directory.name}, {job.data.test}", fontsize=7, color="0.4")
        save_figure(figure, directory.figures / f"{name}.png")
    metrics = _metrics(planned, directory, world, trainer, seconds)
    metrics["cost"]["joules"] = energy.joules()
    metrics["data"]["samples"] = {"train": len(train), "valid": len(valid), "test": len(test)}
    notes += data_notes(job.data.root)
    metrics["test"] = {"scores": scores, "notes": notes, "tta": job.data.tta}
    directory.write_json("metrics.json", metrics)
    _log.info("test %s %s", task.monitor, scores.get(task.monitor))
    return scores


def _metrics(
    planned: Planned, directory: RunDir, world: World, trainer: Trainer, seconds: dict[str, float]
) -> dict[str, Any]:
    job, history = planned.job, directory.read_lines("history.jsonl")
    cuda = world.device.type == "cuda"
    peak = torch.cuda.max_memory_allocated() / 1e9 if cuda else record.host_memory_gb()
    slices = {use: getattr(job.data, use) for use in ("train", "valid", "test")}
    return {
        "schema": 1,
        "job": job.name,
        "run": directory.path.name,
        "model": job.model.name,
        "seed": job.seed,
        "identity": job.identity(planned.digest),
        "data": {"digest": planned.digest, "classes": list(trainer.task.classes)} | slices,
        "valid": {
            "epoch": trainer.best_epoch,
            "scores": history[trainer.best_epoch - 1]["valid"],
        },
        "cost": {
            "epochs": len(history),
            "attempts": directory.status().attempt,
            **{f"{name}_seconds": value for name, value in seconds.items()},
            "images_per_s": len(trainer.train) * len(history) / max(seconds["train"], 1e-9),
            "peak_memory_gb": peak,
            "parameters": sum(p.numel() for p in trainer.model.parameters()),
            "device_hours": _device_hours(directory, world),
        },
        "engine": job.engine.model_dump()
        | {"amp": trainer.stepper.precision.name, "micro_batch": trainer.stepper.micro_batch},
        "device": world.describe(),
        "versions": record.versions(),
        "commit": record.commit(),
    }


def _device_hours(directory: RunDir, world: World) -> float:
    """Hours of every device over every attempt, this one and the lost ones too."""
    lines = directory.read_lines("attempts.jsonl")
    seconds = sum(line["seconds"] * line["devices"] for line in lines if line["event"] == "end")
    begun = datetime.fromisoformat(lines[-1]["time"])
    now_open = (datetime.now(UTC) - begun).total_seconds() * world.size
    return (seconds + now_open) / 3600


def _write_outputs(directory: RunDir, outputs: Arrays, classes: tuple[str, ...]) -> None:
    temporary = directory.path / ".outputs.tmp.npz"
    arrays: dict[str, Any] = {"classes": np.asarray(classes), **outputs}
    np.savez_compressed(temporary, **arrays)
    temporary.replace(directory.path / "outputs.npz")


@contextlib.contextmanager
def _attempt(directory: RunDir, planned: Planned) -> Iterator[None]:
    """Keep the state of the run true, however it ends."""
    attempt = 1 + sum(line["event"] == "start" for line in directory.read_lines("attempts.jsonl"))
    _bury(directory)
    status = Status(state="running", attempt=attempt, epochs=planned.job.train.epochs)
    directory.sweep()
    directory.write_status(status)
    event = {"attempt": attempt, "commit": record.commit(), "devices": world_size()}
    directory.append("attempts.jsonl", {"event": "start", "time": now()} | event)
    started = time.perf_counter()
    state, reason, message = "done", None, None
    try:
        yield
    except (StoppedError, KeyboardInterrupt) as error:
        state, reason, message = "stopped", "signal", str(error) or "interrupted"
        raise
    except Exception as error:
        state, message = "failed", f"{type(error).__name__}: {error}"
        reason = next((name for kind, name in _REASONS if isinstance(error, kind)), "error")
        if reason == "error":
            _log.error("%s", "".join(traceback.format_exception(error)).rstrip())
        else:
            message = str(error)
            _log.debug("%s: %s", reason, error)  # for log.txt; who called tells the terminal
        raise
    finally:
        if sys.exc_info()[0] is not None and state == "done":
            state, reason = "stopped", "signal"  # SystemExit and the like
        end = {"event": "end", "time": now(), "state": state, "reason": reason}
        seconds = {"seconds": time.perf_counter() - started, "devices": world_size()}
        directory.append("attempts.jsonl", end | {"attempt": attempt} | seconds)
        ended = replace(status, state=state, reason=reason, message=message)
        directory.write_status(replace(ended, epoch=directory.status().epoch))


def _bury(directory: RunDir) -> None:
    """Write the end of an attempt that was killed: it lasted to its last sign of life."""
    lines = directory.read_lines("attempts.jsonl")
    if not lines or lines[-1]["event"] == "end":
        return
    start, seen = lines[-1], directory.status().updated or lines[-1]["time"]
    lasted = datetime.fromisoformat(seen) - datetime.fromisoformat(start["time"])
    end = {"event": "end", "time": seen, "state": "lost", "reason": None}
    seconds = {"seconds": max(lasted.total_seconds(), 0.0), "devices": start["devices"]}
    directory.append("attempts.jsonl", end | {"attempt": start["attempt"]} | seconds)


def _heart(directory: RunDir, job: Any) -> Any:
    """A function that tells the progress to `status.json`, at most every half minute."""
    last = {"time": 0.0, "epoch": -1}

    def beat(epoch: int) -> None:
        if not is_main():
            return
        if epoch == last["epoch"] and time.monotonic() - last["time"] < _HEARTBEAT_SECONDS:
            return
        last.update(time=time.monotonic(), epoch=epoch)
        directory.write_status(replace(directory.status(), epoch=epoch))

    return beat


@contextlib.contextmanager
def _signals() -> Iterator[Interrupt]:
    """Turn the first TERM, USR2 or Ctrl-C into a flag; a second Ctrl-C interrupts at once.

    Nothing is saved in the handler: it may run in the middle of anything.
    """
    interrupt = Interrupt()

    def handle(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and interrupt.signal:
            raise KeyboardInterrupt
        interrupt.signal = number

    numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2]
    # A Ctrl-C that the parent keeps to itself stays with it.
    numbers = [n for n in numbers if signal.getsignal(n) != signal.SIG_IGN or n != signal.SIGINT]
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _logging_to(directory: RunDir) -> Iterator[None]:
    """Write what the package logs into ``log.txt`` as well."""
    handler = logging.FileHandler(directory.path / "log.txt", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("deeplense_batch")
    logger.setLevel(logging.DEBUG)  # each handler keeps its own level
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
