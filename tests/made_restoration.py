"""Pairs of rings of two classes, and small runs that learnt from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from conftest import make_job
from scipy.ndimage import gaussian_filter
from tiny_networks import UNET

from deeplense_batch.data.pairs.pair_arrays import PairArrays
from deeplense_batch.data.writer import ShardWriter
from deeplense_batch.runs.planning.plan import plan
from deeplense_batch.runs.training_run import run

__all__ = ["SIDE", "classifier", "drawer", "restorer", "write_rings"]

SIDE = 32
_EDSR = {"name": "edsr", "options": {"width": 4, "blocks": 1}}


def write_rings(root: Path, *, labelled: bool = True) -> Path:
    """Pairs of 32 and 16 pixels, ratio 2, and their truth; rings that are whole, or half."""
    number = np.dtype(np.float32)
    for seed, (split, count) in enumerate({"train": 32, "val": 24}.items()):
        random = np.random.default_rng(seed)
        y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
        radii = random.uniform(7, 11, count)
        clean = np.exp(-((np.hypot(x, y) - radii[:, None, None]) ** 2) / 4)
        targets = np.arange(count) % 2
        clean[targets == 1] *= x > 0
        clean = gaussian_filter(clean, (0, 0.7, 0.7))[:, None].astype(np.float32)
        images = clean + random.normal(0, 0.02, clean.shape).astype(np.float32)
        inputs = images.reshape(count, 1, SIDE // 2, 2, SIDE // 2, 2).mean((3, 5), dtype=number)
        with ShardWriter(
            root, split=split, shape=(1, SIDE, SIDE), stored=number, dtype=number,
            classes=("whole", "half") if labelled else (), source="tests", seed=0,
            pixel_scale=0.05, inputs_dtype=number,
        ) as writer:  # fmt: skip
            writer.append(
                images,
                targets=targets if labelled else [-1] * count,
                ids=[f"{split}/{i}.npy" for i in range(count)],
                pairs=PairArrays(inputs, None, clean),
            )
            writer.publish()
    return root


def restorer(pairs: Path, runs: Path, **fields: dict) -> Path:
    """The directory of a run that has learnt to restore them."""
    task = {"name": "restoration", "options": {"residual": True}}
    return _trained(pairs, runs, **{"task": task, "model": _EDSR, **fields})


def drawer(pairs: Path, runs: Path, **fields: dict) -> Path:
    """The directory of a run that has learnt to draw images of their inputs."""
    task = {"name": "generation", "options": {"conditions": ["input"]}}
    model = {"name": "unet", "options": {"inputs": True, **UNET}}
    train = {"epochs": 2, "batch_size": 8, "lr": 2e-3, "schedule": "constant", "ema": 0.9}
    return _trained(pairs, runs, **{"task": task, "model": model, "train": train, **fields})


def classifier(pairs: Path, runs: Path) -> Path:
    """The directory of a run that tells whole rings from halves, in a stretch of its own."""
    data = {"stretch": "asinh", "augment": {}}
    return _trained(pairs, runs, name="classifier", data=data)


def _trained(pairs: Path, runs: Path, **fields: dict) -> Path:
    train = {"epochs": 2, "batch_size": 8, "lr": 2e-3, "schedule": "constant"}
    (item,) = plan([make_job(pairs, **({"train": train} | fields))], runs)
    run(item, device="cpu")
    return item.run.path
