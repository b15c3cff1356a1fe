"""How long a large comparison takes to plan and to collect, and what resampling in bulk saves.

The runs are made up: folders as a finished run leaves them, with answers to a test slice. Each
program that is measured runs in a process of its own, so that its memory is its own.

    python -m benchmarks.collect [--runs 1000] [--samples 3750] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import itertools
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from sklearn.metrics import roc_auc_score

from benchmarks.documents import Document, document, measured, show
from benchmarks.machine import machine_facts
from deeplense_batch.core.job import Job
from deeplense_batch.core.rundir import RunDir, Status
from deeplense_batch.core.scoring.metrics import softmax
from deeplense_batch.data.packing.pack import pack
from deeplense_batch.report.statistics import bootstrap

__all__ = ["bench_collect"]

_CLASSES = ("no", "sphere", "vort")
_SEEDS = 5  # of each model
_LOOPED = 20  # resamples that scikit-learn is given; more would take as long, one by one


def bench_collect(*, runs: int = 1000, samples: int = 3750) -> Document:
    """Measure planning, `status` and `collect` on made-up runs, and resampling.

    Arguments:
        runs: How many; of five seeds a model. As many points are planned.
        samples: Of the test slice.
    """
    targets, logits = _answers(samples)
    with tempfile.TemporaryDirectory() as folder:
        planning, _ = _measured("submit", "--grid", _grid(Path(folder), runs), "--dry_run")
        root = Path(folder) / "runs"
        for number in range(runs):
            _make_run(root, number, targets, logits)
        status, _ = _measured("status", str(root))
        seconds, memory = _measured("collect", str(root), "--out", f"{folder}/report")
        page = Path(folder, "report/report.html").stat().st_size / 1e6
    ratio = _bootstrap_ratio(targets, logits)
    return document(
        [machine_facts("cpu")]
        + [
            measured("many runs", name, value, unit)
            for name, value, unit in (
                ("runs", runs, ""),
                ("test samples of each", samples, ""),
                ("submit --dry_run of a grid", planning, "s"),
                ("status", status, "s"),
                ("collect", seconds, "s"),
                ("collect: peak memory", memory, "GB"),
                ("collect: page", page, "MB"),
                (f"{bootstrap.RESAMPLES} resamples of a macro AUC: times scikit-learn", ratio, ""),
            )
        ]
    )


def _grid(folder: Path, points: int) -> str:
    """A recipe of so many points, by learning rate and seed, on data of a few images."""
    random = np.random.default_rng(0)
    for split, name in itertools.product(("train", "valid", "test"), _CLASSES):
        (folder / "images" / split / name).mkdir(parents=True)
        for number in range(2):
            image = random.random((16, 16), np.float32)
            np.save(folder / "images" / split / name / f"{number}.npy", image)
    pack(folder / "images", folder / "data")
    rates = [1e-3 / (rate + 1) for rate in range(-(-points // _SEEDS))]
    content = {
        "model": {"name": "resnet18", "pretrained": False},
        "data": {"root": str(folder / "data"), "test": "test"},
        "grid": {"train.lr": rates},
        "seeds": list(range(_SEEDS)),
    }
    (folder / "grid.yaml").write_text(yaml.safe_dump(content))
    return str(folder / "grid.yaml")


def _answers(samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Class numbers, (N,), and what all models share of their logits, (N, 3)."""
    targets = np.arange(samples) * len(_CLASSES) // samples
    random = np.random.default_rng(0)
    return targets, 2.2 * np.eye(len(_CLASSES))[targets] + random.normal(size=(samples, 3))


def _make_run(root: Path, number: int, targets: np.ndarray, shared: np.ndarray) -> None:
    model, seed = divmod(number, _SEEDS)
    content = {"name": "bench", "model": {"name": f"model{model}"}, "seed": seed}
    job = Job.model_validate(content | {"data": {"root": "data/bench", "test": "test"}})
    run = RunDir.create(root / job.name / job.run_name("bench"), job.to_yaml())
    noise = np.random.default_rng(number + 1).normal(size=shared.shape)
    logits = (shared * (1 + model / 1000) + 0.3 * noise).astype(np.float32)
    np.savez_compressed(
        run.path / "outputs.npz",
        ids=np.array([f"test/{i:06d}.npy" for i in range(len(targets))]),
        targets=targets, logits=logits, classes=np.array(_CLASSES),
    )  # fmt: skip
    auc = 0.9 + model / 100_000 + seed / 1000
    scores = {"auc": auc, "accuracy": 0.8} | {f"auc_{name}": auc for name in _CLASSES}
    for epoch in range(1, 16):
        valid = {"loss": 1 / epoch, "auc": auc - 1 / (epoch + 20)}
        run.append("history.jsonl", {"epoch": epoch, "train": {"loss": 1.0}, "valid": valid})
    metrics = {
        "schema": 1,
        "data": {"digest": "bench", "test": "test", "samples": {"test": len(targets)}},
        "valid": {"epoch": 15, "monitor": "auc", "scores": {"auc": auc}},
        "test": {"scores": scores, "notes": []},
        "cost": {"epochs": 15, "train_seconds": 600.0 + model, "images_per_s": 400.0,
                 "parameters": 1_000_000 + model, "gflops": 1.0},
        "device": {"name": "none", "count": 1},
    }  # fmt: skip
    run.write_json("metrics.json", metrics)
    run.write_status(Status(state="done", attempt=1, epoch=15, epochs=15))


def _measured(*words: str) -> tuple[float, float]:
    """Seconds and peak memory, GB, of a verb in a process of its own."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "deeplense_batch", *words], check=True, stdout=subprocess.DEVNULL
    )
    seconds = time.perf_counter() - started
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9


def _bootstrap_ratio(targets: np.ndarray, logits: np.ndarray) -> float:
    scores = softmax(logits)
    started = time.perf_counter()
    bootstrap.bootstrap([bootstrap.macro_auc(targets, scores)], targets)
    ours = (time.perf_counter() - started) / bootstrap.RESAMPLES
    random = np.random.default_rng(0)
    places = [np.flatnonzero(targets == k) for k in range(len(_CLASSES))]
    started = time.perf_counter()
    for _ in range(_LOOPED):
        drawn = np.concatenate([random.choice(place, len(place)) for place in places])
        for k in range(len(_CLASSES)):
            roc_auc_score(targets[drawn] == k, scores[drawn, k])
    return (time.perf_counter() - started) / _LOOPED / ours


def main(words: Sequence[str] | None = None) -> None:
    """Measure with the options of the command line, or of `words`."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=1000, help="planned, looked at and collected")
    parser.add_argument("--samples", type=int, default=3750, help="of the test slice")
    parser.add_argument("--out", default="", help="a JSON file for the numbers")
    options = vars(parser.parse_args(words))
    out = options.pop("out")
    show(bench_collect(**options), out)


if __name__ == "__main__":
    main()
