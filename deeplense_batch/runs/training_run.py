"""One run, start to end: claim its directory, build, resume, fit, test, write."""

from __future__ import annotations

import contextlib
import logging
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from deeplense_batch import models
from deeplense_batch.core import provenance
from deeplense_batch.core.distributed import DeviceError, World, open_world
from deeplense_batch.core.job import Job, JobError
from deeplense_batch.core.machine import cores
from deeplense_batch.core.processes import Interrupt, is_main, signals
from deeplense_batch.core.rundir import RunBusyError, RunDir, RunDirError
from deeplense_batch.core.scoring.figures import save as save_figure
from deeplense_batch.data.digest import verify
from deeplense_batch.data.loader import Loader, Transform
from deeplense_batch.data.shards import ShardError, SplitInfo, open_slices
from deeplense_batch.inference.trained import Trained
from deeplense_batch.models import checkpoint
from deeplense_batch.models.weights import start_from
from deeplense_batch.report.columns import score_name
from deeplense_batch.runs.evaluation_run import draw_and_judge, open_critic
from deeplense_batch.runs.lifecycle import (
    attempt,
    heart,
    logging_to,
    report_failure,
    wait_for_main,
)
from deeplense_batch.runs.plan import PlannedRun, data_notes, put_aside
from deeplense_batch.runs.preflight import UnfitError, check_room, preflight
from deeplense_batch.tasks.task import Arrays, Scores, Task
from deeplense_batch.training.precision import PrecisionError
from deeplense_batch.training.resolved import of_pieces, resolved
from deeplense_batch.training.setup import frame_of, gflops_of, model_of, task_of
from deeplense_batch.training.trainer import BEST, DivergedError, Trainer, evaluate

__all__ = ["run"]

_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (DivergedError, "diverged"),
    (torch.OutOfMemoryError, "oom"),
    (DeviceError, "environment"),
    (models.WeightsError, "environment"),
    (PrecisionError, "environment"),
    (models.ModelError, "data"),
    (ShardError, "data"),
    (UnfitError, "environment"),
    (OSError, "environment"),
    (JobError, "data"),
    (RunDirError, "data"),
    (checkpoint.CheckpointError, "data"),
)

_log = logging.getLogger(__name__)


def run(planned: PlannedRun, *, device: str | None = None, force: bool = False) -> Scores:
    """Carry out a run; go on with it if it was cut off; return at once if it is done.

    Arguments:
        planned: The job and its directory (`plan.plan`, `plan.reopen`).
        device: ``cpu`` or ``cuda``, in place of what the job asks for.
        force: Put aside what is there and start over.

    Returns:
        Scores on the test slice, empty on every process but the first.

    Raises:
        RunBusyError: Another process is at work on it.
        RunDirError, CheckpointError: A file that it needs to go on is damaged.
        DeviceError, UnfitError, WeightsError, OSError: The machine lacks what the job needs.
        ShardError, ModelError, ValueError: Data, model and task do not fit together.
        DivergedError: The loss is not finite.
        StoppedError: A signal came; the state is saved.
    """
    if force and planned.run.path.exists():
        with planned.run.claim():
            put_aside(planned.run)
    directory = planned.create()
    if directory.status().state == "done":
        return _scores_of(directory)
    with contextlib.ExitStack() as stack:
        interrupt = stack.enter_context(signals())  # to the end: processes wait for the first one
        if is_main():
            stack.enter_context(directory.claim())
            directory.check()
            if directory.status().state == "done":  # while this process came to claim it
                raise RunBusyError(f"{directory.path}: another process has just carried it out")
            stack.enter_context(logging_to(directory))
            stack.enter_context(
                attempt(directory, epochs=planned.training.train.epochs, reasons=_REASONS)
            )
        else:
            stack.enter_context(wait_for_main(directory))
            stack.enter_context(report_failure(directory, _REASONS))
        world = stack.enter_context(
            open_world(gpus=planned.training.resources.gpus, device=device)
        )
        stack.enter_context(report_failure(directory, _REASONS))
        return _carry_out(planned, directory, world, interrupt)


def _scores_of(directory: RunDir) -> Scores:
    """The scores of a run that is done.

    Raises:
        RunDirError: They cannot be read.
    """
    path = directory.path / "metrics.json"
    try:
        return dict(directory.read_json("metrics.json")["test"]["scores"])
    except FileNotFoundError:
        raise RunDirError(path, "is missing, though the run is said to be done") from None
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, RunDirError):
            raise
        raise RunDirError(path, "holds no scores of a run") from None


def _carry_out(
    planned: PlannedRun, directory: RunDir, world: World, interrupt: Interrupt
) -> Scores:
    job, begun = planned.training, time.perf_counter()
    started = begun
    preflight(directory.path, job, world)
    if world.device.type == "cpu":  # the number of threads is part of how sums are rounded
        torch.set_num_threads(min(job.resources.cpus, cores()))
    task, loaders = _loaders(job, world)
    train, valid, test = loaders
    info = train.split.info
    model = _network(job, directory, world, info, task)
    learnt = Trained(
        directory, job, task, model, train.transform, info.shape, info.pixel_scale, 0,
        {"identity": job.identity(planned.digest), "data": {"digest": planned.digest}},
    )  # fmt: skip
    # Before anything is learnt, since it may not fit.
    critic = open_critic(job.judge, learnt, world.device) if job.judge else None
    energy = provenance.Energy(world.device.index)
    loaded = time.perf_counter() - started
    trainer = Trainer(
        job, directory, world, task, model, train, valid, interrupt, heart(directory)
    )
    _log.info(
        "%s on %s: %d train, %d valid, %d test images",
        directory.name, world.describe()["name"], len(train), len(valid), len(test),
    )  # fmt: skip
    trainer.resume()
    trainer.fit()
    pieces = of_pieces(job, world, trainer.stepper)
    if pieces and world.main:
        _log.warning("%s", pieces)

    started = time.perf_counter()
    best = checkpoint.load(directory.path / BEST)["model"] if world.main else None
    model.load_state_dict(world.broadcast(best))
    _calibrate(task, model, valid, directory, world, tta=job.data.tta)
    outputs = evaluate(task, model, test, world, tta=job.data.tta)
    seconds = {"load": loaded, **trainer.seconds, "test": time.perf_counter() - started}
    joules = world.all_gather(energy.joules())
    judgement, started = None, time.perf_counter()
    if job.judge is not None:
        judgement = draw_and_judge(
            learnt, job.judge, critic, directory.path, seed=job.seed, device=world.device,
            interrupt=interrupt, beat=trainer.beat, rank=world.rank, ranks=world.size,
        )  # fmt: skip
        seconds["judge"] = time.perf_counter() - started
    if outputs is None:
        return {}
    scores, notes = task.score(outputs)
    _write_outputs(directory, outputs, info.classes)
    for name, figure in task.draw(outputs, directory.read_lines("history.jsonl")).items():
        figure.suptitle(f"{directory.name}, {job.data.test}", fontsize=7, color="0.4")
        save_figure(figure, directory.figures / f"{name}.png")
    metrics = _metrics(planned, directory, world, trainer, seconds)
    if judgement is not None:
        judgement.write(directory, f"{directory.name}, {job.data.test}")
        metrics["judged"] = judgement.numbers
        scores |= judgement.scores
        notes += judgement.notes
    lasted = time.perf_counter() - begun
    metrics["cost"]["device_hours"] = _device_hours(directory, lasted * world.size)
    metrics["cost"]["gflops"] = gflops_of(model, frame_of(job, info))
    whole = metrics["cost"]["attempts"] == 1 and None not in joules
    metrics["cost"]["joules"] = (
        sum(joules) if whole else None
    )  # those of earlier attempts are lost
    metrics["data"]["samples"] = {"train": len(train), "valid": len(valid), "test": len(test)}
    notes += data_notes(job.data.root) + ([pieces] if pieces else [])
    notes += [trainer.choice] if trainer.choice else []
    targets = outputs["targets"][outputs["targets"] >= 0]  # others have no label
    counts = np.bincount(targets, minlength=len(info.classes)).tolist()
    metrics["test"] = {"scores": scores, "notes": notes, "tta": job.data.tta}
    metrics["test"]["scored"], metrics["learns"] = task.num_scored(outputs), task.spec.target_name
    metrics["test"]["class_counts"] = dict(zip(info.classes, counts, strict=True))
    metrics["summary"] = _summary(task.spec.monitor, scores, metrics["cost"])
    directory.write_json("metrics.json", metrics)
    shown = scores.get(task.spec.monitor)
    _log.info("test %s %s", task.spec.monitor, "undefined" if shown is None else f"{shown:.4f}")
    return scores


def _loaders(job: Job, world: World) -> tuple[Task, tuple[Loader, Loader, Loader]]:
    """The task, and its images to train, to validate and to test on.

    Raises:
        ShardError: A shard is damaged, there are too few images, or they lack what is learnt.
    """
    slices = open_slices(job)
    for split in {split.info.name: split.info for split in slices.values()}.values():
        verify(split)
    transform = Transform(job.data.crop, job.data.size, job.data.stretch)
    task = task_of(job, slices["train"].info)
    load = partial(
        Loader, device=world.device, resident=job.engine.resident, truths=task.spec.truth_keys
    )
    train = load(slices["train"], transform=transform)
    train.transform = train.measured()
    valid, test = (load(slices[use], transform=train.transform) for use in ("valid", "test"))
    for loader in (train, valid, test):
        if len(loader) < world.size:
            raise ShardError(
                f"{job.data.root}: {len(loader)} samples of {loader.split.info.name} are less "
                f"than one for each of {world.size} processes"
            )
    if lacking := set(task.spec.truth_keys) - set(train.truth) if task.spec.needs_truth else ():
        raise ShardError(
            f"{job.data.root}: has no truth/{min(lacking)}, which task {job.task.name} learns; "
            "'simulate' keeps it beside the images"
        )
    task.fit_statistics(train.targets.cpu().numpy(), train.truth)
    if task.spec.target_name:
        _log.info("%s of %s", job.task.name, task.spec.target_name)
    return task, (train, valid, test)


def _network(job: Job, directory: RunDir, world: World, info: SplitInfo, task: Task) -> nn.Module:
    """The network with the weights it starts from, on the device."""
    torch.manual_seed(job.seed)
    model = model_of(job, info, task, pretrained=job.model.pretrained and not job.train.init)
    if job.train.init:
        left = start_from(model, Path(job.train.init))
        _log.info("from the weights of %s%s", job.train.init, ", but for the head" * bool(left))
    if world.main:
        check_room(directory.path, model)
    return model.to(world.device)


def _calibrate(
    task: Task, model: nn.Module, valid: Loader, directory: RunDir, world: World, *, tta: bool
) -> None:
    """Let a task choose what it chooses by the best weights, and keep it beside them."""
    if not task.spec.calibrates:
        return
    outputs = evaluate(task, model, valid, world, tta=tta)
    if outputs is not None:
        task.calibrate(outputs)
        best = checkpoint.load(directory.path / BEST)
        checkpoint.save(directory.path / BEST, best | {"task": task.state_dict()})


def _summary(monitor: str, scores: Scores, cost: dict[str, Any]) -> str:
    score = scores.get(monitor)
    shown = [] if score is None else [f"test {score_name(monitor)} {score:.4f}"]
    return ", ".join([*shown, f"{cost['train_seconds'] / 60:.1f} min of training"])


def _metrics(
    planned: PlannedRun,
    directory: RunDir,
    world: World,
    trainer: Trainer,
    seconds: dict[str, float],
) -> dict[str, Any]:
    job, history = planned.training, directory.read_lines("history.jsonl")
    attempts = [line["devices"] for line in directory.read_lines("attempts.jsonl")]
    cuda = world.device.type == "cuda"
    peak = torch.cuda.max_memory_allocated() / 1e9 if cuda else provenance.host_memory_gb()
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
            "monitor": trainer.task.spec.monitor,
            "chosen_by": "loss" if trainer.by_loss else trainer.task.spec.monitor,
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
        },
        "engine": job.engine.model_dump()
        | {"amp": trainer.stepper.precision.name, "micro_batch": trainer.stepper.micro_batch},
        "resolved": resolved(job, world, trainer.stepper, attempts),
        "device": world.describe(),
        "versions": provenance.versions(),
        "commit": provenance.commit(),
    }


def _device_hours(directory: RunDir, now_open: float) -> float:
    """Hours of every device over every attempt: the ended ones, and this one's seconds so far."""
    lines = directory.read_lines("attempts.jsonl")
    seconds = sum(line["seconds"] * line["devices"] for line in lines if line["event"] == "end")
    return (seconds + now_open) / 3600


def _write_outputs(directory: RunDir, outputs: Arrays, classes: tuple[str, ...]) -> None:
    temporary = directory.path / ".outputs.tmp.npz"
    arrays: dict[str, Any] = {"classes": np.asarray(classes), **outputs}
    np.savez_compressed(temporary, **arrays)
    temporary.replace(directory.path / "outputs.npz")
