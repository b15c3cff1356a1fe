"""Run directories made without a training, and what comes of real ones."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from conftest import Gate, heed_interrupts

from deeplense_batch.core.distributed import World
from deeplense_batch.core.job import Job
from deeplense_batch.core.result import write_metrics
from deeplense_batch.core.rundir import RunDir, Status
from deeplense_batch.models import checkpoint
from deeplense_batch.runs.planning.plan import PlannedRun, plan
from deeplense_batch.training.setup import set_up
from deeplense_batch.training.trainer import BEST


def make_run(root, model="resnet18", *, seed=0, job="demo", state="done", reason=None, train=None,
             message=None, test="val[50%:]", **numbers):  # fmt: skip
    """A run directory as `run` leaves it, with history and, if done, `metrics.json`."""
    n = {"auc": 0.9, "valid": 0.91, "accuracy": 0.8, "seconds": 60.0, "digest": "a" * 16}
    n |= {"device": "AMD EPYC, 1 thread", "notes": [], "commit": "abc123", "place": "/data"}
    n |= numbers
    content = {"name": job, "model": {"name": model}, "seed": seed, "train": train or {}}
    recipe = Job.model_validate(content | {"data": {"root": n["place"], "test": test}})
    run = RunDir.create(root / job / recipe.run_name(n["digest"]), recipe.to_yaml())
    (run.path / "log.txt").write_text("a line\n")
    for epoch, auc in enumerate((n["valid"] - 0.1, n["valid"], n["valid"] - 0.05), start=1):
        valid = {"loss": 1 / epoch, "auc": auc}
        run.append("history.jsonl", {"epoch": epoch, "train": {"loss": 1.0}, "valid": valid})
    if state == "done":
        run.write_json("metrics.json", metrics_of(n, test))
    run.write_status(
        Status(state=state, reason=reason, message=message, attempt=1, epoch=3, epochs=15)
    )
    return run


def metrics_of(n, test):
    scores = {"auc": n["auc"], "auc_no": n["auc"], "auc_sphere": n["auc"], "auc_vort": None}
    scores |= {"accuracy": n["accuracy"], "balanced_accuracy": 0.7, "nll": 0.5}
    return {
        "schema": 1,
        "data": {"digest": n["digest"], "test": test, "samples": {"test": 600}},
        "valid": {"epoch": 2, "loss": 0.5, "scores": {"auc": n["valid"]}},
        "test": {"scores": scores, "notes": n["notes"]},
        "commit": n["commit"],
        "cost": {"epochs": 3, "train_seconds": n["seconds"], "images_per_s": 420.0,
                 "parameters": 11_170_000, "gflops": 1.8},
        "device": {"name": n["device"], "count": 1},
    }  # fmt: skip


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def weights(item: PlannedRun, name: str = checkpoint.CHECKPOINT) -> dict[str, torch.Tensor]:
    return checkpoint.load(item.run.path / name)["model"]


def same_result(one: PlannedRun, other: PlannedRun) -> None:
    """Weights, history and outputs are equal to the last bit."""
    for name in (checkpoint.CHECKPOINT, BEST):
        a, b = weights(one, name), weights(other, name)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)
    histories = [item.run.read_lines("history.jsonl") for item in (one, other)]
    for a, b in zip(*histories, strict=True):
        assert (a["train"], a["valid"], a["lr"]) == (b["train"], b["valid"], b["lr"])
    outputs = [np.load(item.run.path / "outputs.npz") for item in (one, other)]
    assert all(np.array_equal(outputs[0][k], outputs[1][k]) for k in outputs[0].files)
    scores = [item.run.read_json("metrics.json")["test"] for item in (one, other)]
    assert scores[0] == scores[1]


_SLOW_DISK = """
import sys, threading, time
from deeplense_batch.__main__ import main
from deeplense_batch.core import files
sync = files.sync
def slow(descriptor):
    if threading.current_thread().name.startswith("checkpoint"):
        time.sleep(float(sys.argv[1]))
    sync(descriptor)
files.sync = slow
main(sys.argv[2:])
"""


def start(item: PlannedRun, *, disk_seconds: float = 0, **environment: str) -> subprocess.Popen:
    """Start a run, on a disk that takes so long to hold a checkpoint that it was given."""
    item.create()
    program = ["-c", _SLOW_DISK, str(disk_seconds)] if disk_seconds else ["-m", "deeplense_batch"]
    return subprocess.Popen(
        [sys.executable, *program, "run", str(item.run.path)],
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )


def kill_in_mid_epoch(item: PlannedRun, gate: Gate) -> None:
    """Start a run that saves after every step, and kill it after a step of its second epoch."""
    process = start(item, **gate.after(1))
    gate.wait_until_held()
    process.kill()
    process.wait()
    assert process.returncode == -signal.SIGKILL and item.run.status().state == "lost"
    saved = checkpoint.load_checkpoint(item.run.path)
    assert saved is not None and (saved["epoch"], saved["step"]) == (1, 1)


def copy_with_bands(run: Path, copy: Path, *bands: str) -> Path:
    """A copy of a finished run that says it has learnt these bands."""
    shutil.copytree(run, copy)
    best = checkpoint.load(copy / BEST)
    checkpoint.save(copy / BEST, best | {"bands": list(bands)})
    return copy


def untrained(job: Job, root: Path) -> PlannedRun:
    """A run that is done, of a network with the weights that it would start from."""
    (item,) = plan([job], root)
    item.create()
    ready = set_up(job, World(0, 1, torch.device("cpu")))
    transform, info = ready.train.transform, ready.info
    best = {
        "model": ready.model.state_dict(), "epoch": 3, "task": ready.task.state_dict(),
        **transform.stored(),
        "shape": list(info.shape), "pixel_scale": info.pixel_scale, "bands": list(info.bands),
    }  # fmt: skip
    if ready.task.spec.needs_inputs:
        best["ratio"] = info.ratio
    if info.choice is not None:
        best |= info.choice.stored(info.as_stored.shape[0])
    checkpoint.save(item.run.path / BEST, best)
    numbers = {"auc": 0.9, "valid": 0.91, "accuracy": 0.8, "seconds": 60.0, "notes": ["a note"],
               "digest": item.digest, "commit": "abc123", "device": "a processor"}  # fmt: skip
    metrics = metrics_of(numbers, job.data.test)
    metrics |= {"job": job.name, "run": item.run.path.name, "seed": job.seed}
    metrics |= {"identity": job.identity(item.digest), "versions": {"torch": "2.8.0"}}
    metrics["data"] |= {"classes": list(info.classes), "samples": ready.samples}
    metrics["data"] |= {"train": job.data.train, "valid": job.data.valid}
    write_metrics(item.run, metrics)
    item.run.write_status(Status(state="done"))
    return item


def lose(run):
    """Make a run look as if its process had been killed."""
    run.write_json("status.json", run.read_json("status.json") | {"pid": 2**22 + 1})
