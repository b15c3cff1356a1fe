"""Whole runs of the program: cut and resumed, the main job, and what a finished run is for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
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
from benchmarks.gpu_round.sets import images_of, main_set, varied
from deeplense_batch.core.scoring.auc import auc_standard_error

__all__ = ["bench", "gpu_tests", "resume", "training", "verbs"]

_JOB = "jobs/common_test_1.yaml"
_ROOT = Path(__file__).parent.parent.parent
_EVALUATED = 1.3  # seconds of an epoch, over those of its steps: batches of a queue, evaluation
_START_SECONDS = 20.0  # of a run, before its first epoch and after its last
_FAST = ("--train.amp=auto", "--engine.channels_last=true")
_WAYS = {
    "float32": ("--train.amp=off", "--engine.channels_last=false"),
    "fast": _FAST,
    "launched": (*_FAST, "--engine.graph=off"),
    "deterministic": (*_FAST, "--engine.deterministic=true"),
    "new": _FAST,  # every image simulated as it is trained on
}


def _main_job(round_: Round, root: str, name: str, *more: str) -> tuple[object, ...]:
    small = ("--data.size=32", "--model.name=test_resnet") if round_.small else ()
    words = ("run", _JOB, f"--device={round_.device}", f"--name={name}", "--seed=0")
    return (*words, "--model.name=resnet18", f"--data.root={root}", *small, *more)


def resume(round_: Round) -> None:
    """A run and one that was cut: the same end; to the last bit where that is asked for."""
    root = main_set(round_)
    _resumed(round_, root, "", _alike)
    round_.attempt("a deterministic run that was cut", lambda: _deterministic(round_, root))


def _deterministic(round_: Round, root: str) -> None:
    round_.need_cuda("every run on the processor is")
    _resumed(round_, root, "deterministic", _equal, "--engine.deterministic=true")


def _resumed(
    round_: Round, root: str, kind: str, test: Callable[..., object], *engine: str
) -> None:
    more = ("--data.train=train[:20%]", "--train.epochs=3", "--train.amp=auto", *engine)
    whole, cut = f"{kind}whole", f"{kind}cut"
    batch(*_main_job(round_, root, whole, *more))
    words = _main_job(round_, root, cut, *more)
    named = f"{kind} run".strip()
    round_.check(f"a signal saves a {named}, and exits 85", lambda: _cut(words, cut))
    batch(*words)
    outputs = [np.load(run_of(job) / "outputs.npz")["logits"] for job in (whole, cut)]
    furthest = float(np.abs(outputs[0] - outputs[1]).max())
    round_.number(f"a {named} that was cut: largest difference of a logit", furthest, "")
    losses = [[line["train"]["loss"] for line in history_of(job)] for job in (whole, cut)]
    round_.check(
        f"a {named} that was cut ends like a whole one", lambda: test(round_, furthest, losses)
    )


def _cut(words: tuple[object, ...], job: str) -> str:
    process = subprocess.Popen(command(*words), stdout=subprocess.DEVNULL)
    while process.poll() is None and not any(
        path.stat().st_size for path in Path("runs", job).glob("*/history.jsonl")
    ):
        time.sleep(0.02)
    process.send_signal(signal.SIGUSR2)
    code = process.wait()
    if code == 0:
        raise NotTested("the run was over before the signal came")
    assert code == 85, f"exit {code}"
    return f"after epoch {len(history_of(job))} of 3"


def _alike(round_: Round, furthest: float, losses: list[list[float]]) -> str:
    """To the last bit on a processor; a GPU's own sums have no order."""
    if not round_.cuda:
        assert furthest == 0, f"{furthest}, {losses}"
        raise NotTested("no GPU: equal to the last bit on the processor")
    assert np.allclose(losses[0], losses[1], rtol=2e-2), losses
    return f"{'equal to the last bit' if furthest == 0 else 'to rounding'}; losses {losses}"


def _equal(_: Round, furthest: float, losses: list[list[float]]) -> str:
    assert furthest == 0, f"{furthest}, {losses}"
    return "equal to the last bit"


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
    """The main job in float32 and in bf16 with channels_last: scores and costs; then what else."""
    root = main_set(round_)
    epochs = _epochs(round_, images_of(root))
    for name in ("fast", "float32"):
        round_.attempt(f"{name}: a whole run", partial(_trained, round_, root, name, epochs))
    round_.check("bf16 scores like float32", lambda: _same_auc(round_, epochs))
    for name in ("launched", "deterministic"):
        round_.attempt(f"{name}: a run", partial(_beside, round_, root, name, epochs))
    new = f"--data.simulate={{images: {round_.sized(images_of(root), 12)}}}"
    round_.attempt("new images: a run", partial(_beside, round_, root, "new", epochs, new))


def _epochs(round_: Round, images: int) -> int:
    """As many as the recipe asks for, or as this part has time for, by the rates of its steps."""
    rates = [
        round_.found("throughput", f"ours: batch 64, {way}")
        for way in ("float32", "bf16, channels_last")
    ]
    if round_.small or not all(rates):
        return int(round_.sized(3, 1))
    seconds = sum(_EVALUATED * images / rate for rate in rates if rate)
    return int(min(15, max(2, (0.75 * round_.left() - 2 * _START_SECONDS) / seconds)))


def _trained(round_: Round, root: str, name: str, epochs: int, *more: str) -> None:
    words = _main_job(round_, root, name, f"--train.epochs={epochs}", *_WAYS[name], *more)
    wall = timed(*words)
    round_.number(f"{name}: epochs", epochs, "")
    _tell_cost(round_, name, wall)


def _beside(round_: Round, root: str, name: str, epochs: int, *more: str) -> None:
    """The fast run in another way, for fewer epochs: how many times as fast it trains."""
    _trained(round_, root, name, min(epochs, 3), *more)
    ratio = metrics_of(name)["cost"]["images_per_s"] / metrics_of("fast")["cost"]["images_per_s"]
    round_.number(f"{name}: training, times fast", ratio, "")


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
        "checkpoints": (cost.get("checkpoint_seconds"), "s"),
    }
    for what, (value, unit) in numbers.items():
        round_.number(f"{name}: {what}", value, unit)
    round_.number(f"{name}: training", [line["images_per_s"] for line in lines], "images/s")


def _same_auc(round_: Round, epochs: int) -> str:
    aucs = [metrics_of(name)["test"]["scores"]["auc"] for name in ("float32", "fast")]
    samples = metrics_of("float32")["data"]["samples"]["test"]
    error = auc_standard_error(min(aucs[0], 0.999), samples // 3, samples - samples // 3)
    told = f"AUC {aucs} after {epochs} epochs, standard error of {samples} images {error:.4f}"
    round_.need_cuda(told)
    if epochs < 10:
        raise NotTested(f"too few epochs: {told}")
    assert abs(aucs[0] - aucs[1]) < 4 * error, told
    return told


def verbs(round_: Round) -> None:
    """Predict, explain, train a generator, and draw from it."""
    root = main_set(round_)
    device = f"--device={round_.device}"

    def predicted() -> None:
        seconds = timed("predict", run_of("fast"), root, "--out=answers.parquet", device)
        round_.number("predict, with its start", images_of(root) / seconds, "images/s")

    def explained() -> None:
        seconds = timed("explain", run_of("fast"), "--slice=val[:6]", "--out=looks.png", device)
        round_.number("explain 6 images, with its start", seconds, "s")

    round_.attempt("predict", predicted)
    round_.attempt("explain", explained)
    round_.attempt("diffusion", lambda: _generates(round_, device))


def _generates(round_: Round, device: str) -> None:
    tiny = ("--data.size=16", '--model.options={"radius": true, "width": 16}')
    batch(
        "run", "jobs/diffusion_edm.yaml", device, "--judge=null", f"--data.root={varied(round_)}",
        f"--train.epochs={round_.sized(2, 1)}", *(tiny if round_.small else ()),
    )  # fmt: skip
    rates = [line["images_per_s"] for line in history_of("diffusion_edm")]
    round_.number("diffusion_edm: training", rates, "images/s")
    count, steps = round_.sized((512, 25), (6, 2))
    asked = (f"--images={count}", f"--steps={steps}", "--out=drawn", device)
    seconds = timed("sample", run_of("diffusion_edm"), *asked)
    round_.number(f"sample, {steps} steps, with its start", count / seconds, "images/s")


def bench(round_: Round) -> None:
    """`bench` of the main job."""
    root = main_set(round_)
    for model in round_.sized(("resnet18", "mobilenetv3_small_100"), ("test_resnet",)):
        round_.attempt(f"bench of {model}", partial(_benched, round_, root, model))


def _benched(round_: Round, root: str, model: str) -> None:
    steps, repeats = round_.sized((30, 3), (1, 1))
    batch(
        "bench", _JOB, f"--model.name={model}", f"--device={round_.device}",
        f"--data.root={root}", f"--steps={steps}", f"--repeats={repeats}", "--out=bench.json",
        *(("--data.size=32",) if round_.small else ()),
    )  # fmt: skip
    found = json.loads(Path("bench.json").read_text())
    (speed,) = found["models"]
    round_.number(f"{model}: training", speed["images_per_s"], "images/s")
    for name, ratio in (
        (f"{model}: step through the data plane over one on a fixed batch", speed["step_ratio"]),
        ("loader over a DataLoader of 2 workers", found["data"]["loader_ratio"]),
        ("packing over a bare np.load", found["data"]["packing_ratio"]),
    ):
        spread = {"least": ratio["least"], "most": ratio["most"], "repeats": repeats}
        round_.tell("number", name=name, value=ratio["median"], unit="", **spread)
