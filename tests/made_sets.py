"""Sets of small images of known values that are trained on together."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deeplense_batch.data.writer import ShardWriter

CLASSES = ("no", "sphere", "vort")


def pixels(count: int, shape: tuple[int, int, int], seed: int, level: float = 0.0) -> np.ndarray:
    """Images (N, C, H, W) float32 of white noise about a level."""
    noise = np.random.default_rng(seed).normal(level, 1, (count, *shape))
    return noise.astype(np.float32)


def write_set(
    root: Path, *, train: int = 24, val: int = 18, shape: tuple[int, int, int] = (1, 12, 12),
    classes: tuple[str, ...] = CLASSES, seed: int = 0, level: float = 0.0,
    dtype: type = np.float32, truth: tuple[str, ...] = (), **options,
) -> Path:  # fmt: skip
    """A folder of shards with splits ``train`` and ``val``, in two files each."""
    for split, count, own in (("train", train, 2 * seed), ("val", val, 2 * seed + 1)):
        images = pixels(count, shape, own, level)
        if dtype != np.float32:
            images = np.clip(images * 20 + 100, 0, 255)
        with ShardWriter(
            root, split=split, shape=shape, stored=np.dtype(dtype), dtype=np.dtype(dtype),
            classes=classes, source="tests", seed=0, shard_size=-(-count // 2), **options,
        ) as writer:  # fmt: skip
            writer.append(
                images.astype(dtype),
                targets=np.arange(count) % max(len(classes), 1) if classes else [-1] * count,
                ids=[f"{split}/{i}" for i in range(count)],
                truth={name: np.linspace(0.5, 1.5, count) for name in truth},
            )
            writer.publish()
    return root
