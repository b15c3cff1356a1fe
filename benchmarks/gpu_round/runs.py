"""Whole runs of the program: cut and resumed, the main job, and what a finished run is for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.gpu_round.program import (
    batch,
    command,
    history_of,
    metrics_of,
    run_of,
    timed,
)
from benchmarks.gpu_round.record import NotTested, Round
from benchmarks.gpu_round.sets import MAIN, VARIED
from deeplense_batch.report.significance import auc_standard_error

__all__ = ["bench", "gpu_tests", "resume", "training", "verbs"]

_JOB = "jobs/common_test_1.yaml"
_ROOT = Path(__file__).parent.parent.parent


def _main_job(round_: Round, name: str, *more: str) -> tuple[object, ...]:
    small = ("--data.size=32", "--model.name=test_resnet") if round_.small else ()
    words = ("run", _JOB, f"--device={round_.device}", f"--name={name}", "--seed=0")
    return (*words, "--model.name=resnet18", *small, *more)


def resume(round_: Round) -> None:
    """A run and one that was cut: the same end."""
    more = ("--data.train=train[:20%]", "--train.epochs=3", "--train.amp=auto")
    batch(*_main_job(round_, "whole", *more))
    words = _main_job(round_, "cut", *more)
    round_.check("a signal saves, and exits 85", lambda: _cut(words))
    batch(*words)
    outputs = [np.load(run_of(job) / "outputs.npz")["logits"] for job in ("whole", "cut")]
    furthest = float(np.abs(outputs[0] - outputs[1]).max())
    round_.number("a run that was cut: largest difference of a logit", furthest, "")
    round_.check("a run that was cut ends like a whole one", lambda: _alike(round_, furthest))


def _cut(words: tuple[object, ...]) -> str:
    process = subprocess.Popen(command(*words), stdout=subprocess.DEVNULL)
    while process.poll() is None and not any(
        path.stat().st_size for path in Path("runs/cut").glob("*/history.jsonl")
    ):
        time.sleep(0.02)
    process.send_signal(signal.SIGUSR2)
    code = process.wait()
    if code == 0:
        raise NotTested("the run was over before the signal came")
    assert code == 85, f"exit {code}"
    return f"after epoch {len(history_of('cut'))} of 3"


def _alike(round_: Round, furthest: float) -> str:
    """To the last bit on a processor; a GPU's own sums have no order."""
    losses = [[line["train"]["loss"] for line in history_of(job)] for job in ("whole", "cut")]
    if not round_.cuda:
        assert furthest == 0, f"{furthest}, {losses}"
        raise NotTested("no GPU: equal to the last bit on the processor")
    assert np.allclose(losses[0], losses[1], rtol=2e-2), losses
    return f"{'equal to the last bit' if furthest == 0 else 'to rounding'}; losses {losses}"


def gpu_tests(round_: Round) -> None:
    """The tests that are marked gpu."""
    round_.check("tests marked gpu", lambda: _pytest(round_))


def _pytest(round_: Round) -> str:
    files = [
        p for p in sorted((_ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in p.read_text()
    ]
    assert files, "no test is marked gpu"
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu", *map(str, files)]
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, cwd=_ROOT, env=os.environ
    )
    last = (done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or [""])[-1]
    if "No module named pytest" in last:
        raise NotTested(last)
    assert done.returncode == 0, last
    round_.need_cuda(last)
    return last


def training(round_: Round) -> None:
    """The main job, as its recipe is and with bf16 and channels_last: scores and costs."""
    epochs = f"--train.epochs={round_.sized(15, 1)}"
    ways = {"recipe": (), "fast": ("--train.amp=auto", "--engine.channels_last=true")}
    for name, more in ways.items():
        wall = timed(*_main_job(round_, name, epochs, *more))
        _tell_cost(round_, name, wall)
    round_.check("bf16 scores like float32", lambda: _same_auc(round_))


def _tell_cost(round_: Round, name: str, wall: float) -> None:
    metrics, lines = metrics_of(name), history_of(name)
    cost = metrics["cost"]
    busy = cost["train_seconds"] + cost["evaluate_seconds"]
    numbers = {
        "test AUC": (metrics["test"]["scores"]["auc"], ""),
        "wall, from start to end": (wall, "s"),
        "train": (cost["train_seconds"], "s"),
        "evaluate": (cost["evaluate_seconds"], "s"),
        "neither training nor evaluation": (wall - busy, "s"),
        "energy": (cost["joules"], "J"),
        "peak memory": (cost["peak_memory_gb"], "GB"),
    }
    for what, (value, unit) in numbers.items():
        round_.number(f"{name}: {what}", value, unit)
    round_.number(f"{name}: training", [line["images_per_s"] for line in lines], "images/s")


def _same_auc(round_: Round) -> str:
    aucs = [metrics_of(name)["test"]["scores"]["auc"] for name in ("recipe", "fast")]
    samples = metrics_of("recipe")["data"]["samples"]["test"]
    error = auc_standard_error(min(aucs[0], 0.999), samples // 3, samples - samples // 3)
    round_.need_cuda(f"AUC {aucs} of {samples} test images after an epoch")
    assert abs(aucs[0] - aucs[1]) < 4 * error, f"AUC {aucs}, standard error {error:.4f}"
    return f"AUC {aucs}, standard error {error:.4f}"


def verbs(round_: Round) -> None:
    """Predict, explain, train a generator, and draw from it."""
    run, device = run_of("fast"), f"--device={round_.device}"
    images = round_.sized(37_500, 240)
    seconds = timed("predict", run, MAIN, "--out=answers.parquet", device)
    round_.number("predict, with its start", images / seconds, "images/s")
    seconds = timed("explain", run, "--slice=val[:6]", "--out=looks.png", device)
    round_.number("explain 6 images, with its start", seconds, "s")
    tiny = ("--data.size=16", '--model.options={"radius": true, "width": 16}')
    seconds = timed(
        "run", "jobs/diffusion_edm.yaml", device, "--judge=null", f"--data.root={VARIED}",
        f"--train.epochs={round_.sized(2, 1)}", *(tiny if round_.small else ()),
    )  # fmt: skip
    lines = history_of("diffusion_edm")
    rates = [line["images_per_s"] for line in lines]
    round_.number("diffusion_edm: training", rates, "images/s")
    count, steps = round_.sized((512, 25), (6, 2))
    asked = (f"--images={count}", f"--steps={steps}", "--out=drawn", device)
    seconds = timed("sample", run_of("diffusion_edm"), *asked)
    round_.number(f"sample, {steps} steps, with its start", count / seconds, "images/s")


def bench(round_: Round) -> None:
    """`bench` of the main job, for the table of docs/performance.md."""
    steps, repeats = round_.sized((30, 3), (1, 1))
    for model in round_.sized(("resnet18", "mobilenetv3_small_100"), ("test_resnet",)):
        shown = batch(
            "bench", _JOB, f"--model.name={model}", f"--device={round_.device}",
            f"--steps={steps}", f"--repeats={repeats}", f"--out=bench-{model}.json",
            *(("--data.size=32",) if round_.small else ()),
        )  # fmt: skip
        round_.tell("bench", name=model, shown=shown.splitlines())
