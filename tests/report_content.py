"""What `results.json` holds, made up: for the tests of pages and figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from deeplense_batch.report.pages.compose import search
from deeplense_batch.report.run_table import COLUMNS

CLASSES = ("no", "sphere", "vort")
NASTY = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    r"100% of_it & #1 ${x}^~\ [a] {b}",
    "two\nlines",
    "ΛCDM — naïve \N{GREEK SMALL LETTER ALPHA}, 模型 “quoted” -- 'it' <b>",
)
NAMES = (
    "resnet18",
    "resnet50",
    "convnext_tiny",
    "vit_base_patch16_224",
    "deit3_small",
    "lens_vit",
)


def model(place: int, label: str, **numbers: object) -> dict:
    """The model in that place: the first six lie close together."""
    auc = 0.9902 - 0.0009 * (place - 1) - (0.01 if place > 4 else 0)
    best = place == 1
    return {
        "place": place, "label": label, "job": "comparison", "model": label, "variant": None,
        "runs": 3, "run": f"runs/comparison/{place:03d}", "valid_auc": auc + 0.001,
        "valid_score": auc + 0.001, "auc_mean": auc, "auc_low": auc - 0.0024,
        "auc_high": auc + 0.0021, "auc_sd": 0.0007, "auc_min": auc - 0.0008,
        "auc_max": auc + 0.0006, "auc_no_mean": auc + 0.003, "auc_sphere_mean": auc - 0.004,
        "auc_vort_mean": auc, "accuracy_mean": auc - 0.04, "accuracy_low": auc - 0.047,
        "accuracy_high": auc - 0.033, "accuracy_sd": 0.002,
        "difference": None if best else auc - 0.9902,
        "difference_low": None if best else auc - 0.9902 - 0.0015,
        "difference_high": None if best else auc - 0.9902 + 0.0014 + 0.002 * (place < 5),
        "p_value": None if best else max(0.0001, 0.6 - 0.13 * place),
        "resolved": None if best else place > 4, "interval": "samples and seeds",
        "ece": 0.031, "ece_calibrated": 0.009, "temperature": 1.31,
        "train_seconds": 3000.0 / place + 200, "device": "NVIDIA A100",
        "reference_hours": 0.4 / place, "parameters_m": 11.17 * place, "gflops": 1.8 * place,
        "pareto": place in (1, 3),
    } | numbers  # fmt: skip


def row(number: int, **values: object) -> dict:
    """A finished run."""
    return dict.fromkeys(COLUMNS) | {
        "job": "comparison", "task": "classification", "model": NAMES[number % 6],
        "seed": number % 3, "state": "done", "attempts": 1, "epochs": 15,
        "planned_epochs": 15, "best_epoch": 11,
        "valid_auc": 0.99 - number / 1e5, "auc": 0.989 - number / 1e5, "accuracy": 0.95,
        "train_seconds": 1500.0 + number, "device": "NVIDIA A100", "test": "val[50%:]",
        "run": f"runs/comparison/{number:03d}", "log": f"runs/comparison/{number:03d}/log.txt",
        "more": {},
    } | values  # fmt: skip


def comparison(models: list[dict], **fields: object) -> dict:
    """Those models on one test slice."""
    return {
        "number": 1, "heading": "Data 1a2b, test slice val[50%:]", "task": "classification",
        "score": "auc", "more": [],
        "classes": [*CLASSES], "test_samples": 3750, "models": models,
        "sentences": [
            f"Best by validation: {models[0]['label']}, validation AUC 0.9912, test AUC 0.9902.",
            "Data: folder common_test_1; classes no, sphere, vort; 3750 test samples.",
        ],
        "figures": [{"name": "auc", "caption": "Test AUC with 95% intervals."}],
    } | fields  # fmt: skip


def content(comparisons: list[dict], rows: list[dict]) -> dict:
    """The whole, with what it says of its runs."""
    done = sum(row["state"] == "done" for row in rows)
    return {
        "schema": 2, "made": "2026-11-21T09:00:00+00:00", "complete": done == len(rows),
        "missing": "" if done == len(rows) else f"incomplete: {done} of {len(rows)} runs done",
        "counts": f"{len(rows)} runs: {done} done, {len(rows) - done} not",
        "rows": rows, "comparisons": comparisons,
    }  # fmt: skip


def usual() -> dict:
    """Six models of three seeds, all done."""
    models = [model(place, name) for place, name in enumerate(NAMES, start=1)]
    return content([comparison(models)], [row(number) for number in range(18)])


def draw(folder: Path, *names: str) -> list[Path]:
    """Write small figures, PNG and SVG; the paths of the PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(3, 2))
    figure.subplots().plot(np.arange(5))
    for name in names:
        figure.savefig(folder / f"{name}.svg")
        figure.savefig(folder / f"{name}.png", dpi=80)
    return [folder / f"{name}.png" for name in names]


def scored(count, seeds=1, mark="not resolved"):
    """Models as `charts.score_dots` takes them."""
    random = np.random.default_rng(0)
    models = []
    for i in range(count):
        values = list(0.9 + 0.09 * random.random(seeds))
        mean = float(np.mean(values))
        models.append({"label": f"model_{i}_of_many", "mean": mean, "low": mean - 0.004,
                       "high": mean + 0.003, "interval": "samples and seeds", "seeds": values,
                       "mark": mark})  # fmt: skip
    return models


def comparison_and_runs(count, seeds=2, **fields):
    """A comparison as in `results.json`, and the runs of its models."""
    random = np.random.default_rng(0)
    models, runs = [], []
    for place in range(count):
        auc = 0.99 - 0.001 * place
        rows = [
            {"model": f"net_{place}", "auc": auc + random.normal() / 1e4, "accuracy": auc - 0.05,
             "train_seconds": 100.0 * (count - place + seed), "train_samples": 600,
             "device": "CPU" if place % 3 == 2 else "GPU"}
            for seed in range(seeds)
        ]  # fmt: skip
        model = {"place": place + 1, "label": f"net_{place}", "valid_score": auc, "auc_mean": auc,
                 "auc_low": auc - 0.004, "auc_high": auc + 0.003, "accuracy_mean": auc - 0.05,
                 "interval": "samples and seeds",
                 "difference": -0.001 * place if place else None,
                 "resolved": place >= 2 if place else None,
                 "difference_low": -0.001 * place - 0.001, "p_value": 0.04 if place else None,
                 "difference_high": 0.001 - 0.001 * place, "parameters_m": 5.0 + place,
                 "reference_hours": 1.0 + place if place < 3 else None}  # fmt: skip
        models.append(model)
        runs.append(rows)
    return {"number": 1, "score": "auc", "models": models} | fields, runs


def searched(count):
    """Searches of so many models; which samples are searched for, and the scores of each."""
    random = np.random.default_rng(0)
    positive = random.random(5000) < 0.05
    scores = [random.normal(size=5000) + 2 * positive for _ in range(count)]
    return [search(positive, score, 2.5) for score in scores], positive, scores
