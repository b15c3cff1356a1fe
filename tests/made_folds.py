"""Runs of a cross-validation, made without a training: outputs of known answers."""

from __future__ import annotations

import numpy as np
from conftest import CLASSES
from made_runs import metrics_of

from deeplense_batch.core.job import Job
from deeplense_batch.core.rundir import RunDir, Status

SAMPLES, FOLDS = 90, 3
TARGETS = np.arange(SAMPLES) % 3


def fold_run(root, fold, *, model="resnet18", seed=0, skill=1.0, state="done", folds=FOLDS,
             job="cross", scores=None, notes=(), task=None, learns=None, arrays=None, sets=(),
             **numbers):  # fmt: skip
    """The run of one fold, whose samples are every third one; its logits, (n, 3)."""
    known = {"valid": 0.9, "accuracy": 0.8, "seconds": 60.0, "digest": "a" * 16, "auc": 0.5}
    numbers = known | {"device": "AMD EPYC", "commit": "abc", "notes": [*notes]} | numbers
    recipe = Job.model_validate({
        "name": job, "model": {"name": model}, "seed": seed, "task": task or {},
        "data": {"root": "/data", "fold": f"{fold}/{folds}", "roots": sets},
    })  # fmt: skip
    run = RunDir.create(root / job / recipe.run_name(numbers["digest"]), recipe.to_yaml())
    run.write_status(Status(state=state, attempt=1, epoch=3, epochs=15))
    if state != "done":
        return run
    metrics = metrics_of(numbers, recipe.data.test)
    metrics["data"] |= {"valid": recipe.data.valid}
    metrics["learns"] = learns
    metrics["test"]["scores"] |= scores or {}
    run.write_json("metrics.json", metrics)
    own = np.arange(fold - 1, SAMPLES, folds)
    content = {"classes": CLASSES, "ids": ids_of(own), "targets": TARGETS[own]}
    content |= {"logits": logits_of(model, seed, fold, skill)[own]} if arrays is None else {}
    content |= {name: values[own] for name, values in (arrays or {}).items()}
    order = np.random.default_rng(fold).permutation(len(own))  # not that of the ids
    kept = {n: values if n == "classes" else values[order] for n, values in content.items()}
    np.savez(run.path / "outputs.npz", **kept)
    return run


def ids_of(samples):
    return np.array([f"{i:03d}" for i in samples])


def logits_of(model, seed, fold, skill):
    """What the network of a fold would say of all samples: of a scale of its own."""
    random = np.random.default_rng([len(model), seed, fold])
    return fold * (skill * np.eye(3)[TARGETS] + random.normal(size=(SAMPLES, 3)))
