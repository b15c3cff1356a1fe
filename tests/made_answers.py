"""Runs made without a training, with answers to a test slice and to a validation slice."""

from __future__ import annotations

import numpy as np
from made_runs import make_run
from sklearn.metrics import roc_auc_score

from deeplense_batch.core.scoring.metrics import softmax
from deeplense_batch.report.compare import compare, name_variants
from deeplense_batch.report.run_table import read_rows

CLASSES = ("no", "sphere", "vort")
TARGETS = np.repeat([0, 1, 2], 200)


def answers(skill, *, seed=0, own=0.0):
    """Logits, (600, 3): a shared difficulty, and noise of a model's own."""
    shared = np.random.default_rng(99).normal(size=(600, 3))
    noise = own * np.random.default_rng(seed + 1).normal(size=(600, 3))
    return (skill * np.eye(3)[TARGETS] + shared + noise).astype(np.float32)


def write_outputs(run, logits, name="outputs.npz", **changed):
    """Let a run have answered so."""
    content = {"classes": CLASSES, "ids": np.arange(600).astype(str), "targets": TARGETS}
    np.savez(run.path / name, **(content | {"logits": logits} | changed))


def model_run(root, name, logits, *, scores=None, **numbers):
    """A finished run with these answers and more test scores."""
    auc = np.mean([roc_auc_score(k == TARGETS, softmax(logits)[:, k]) for k in range(3)])
    run = make_run(root, name, auc=float(auc), **numbers)
    write_outputs(run, logits)
    return with_scores(run, **(scores or {}))


def with_scores(run, **scores):
    """The run with more scores on its test slice."""
    metrics = run.read_json("metrics.json")
    metrics["test"]["scores"] |= scores
    run.write_json("metrics.json", metrics)
    return run


def compared(root):
    """The models of the only comparison of the runs below a folder."""
    rows = read_rows(root)
    name_variants(rows)
    (models,) = compare(rows)
    return models
