"""Pairs of a few small images, whose values are known."""

from __future__ import annotations

import numpy as np

from deeplense_batch.data.encoding import COUNTS
from deeplense_batch.data.pairs.pair_arrays import PairArrays
from deeplense_batch.data.writer import ShardWriter

__all__ = ["coarse", "write_pairs"]


def coarse(images, ratio=2):
    """Sums over blocks of ratio x ratio pixels of images, (N, C, H, W)."""
    n, c, h, w = images.shape
    return images.reshape(n, c, h // ratio, ratio, w // ratio, ratio).sum((3, 5))


def write_pairs(root, n=10, *, split="train", ratio=2, clean=True, counts=True, seed=0, side=16,
                channels=1, compression=None, shard_size=4):  # fmt: skip
    """Counts with block sums as inputs; gives both as float64, (N, C, H, W) and (N, C, h, w)."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 90, (n, channels, side, side)).astype(COUNTS)
    inputs = coarse(images, ratio).astype(COUNTS if counts else np.float32)
    scales = [np.full((n, channels), scale) for scale in (89.0, 200.0)]
    with ShardWriter(
        root, split=split, shape=images.shape[1:], stored=COUNTS, dtype=np.dtype(np.float64),
        classes=(), source="tests", seed=0, shard_size=shard_size, pixel_scale=0.05,
        inputs_dtype=np.dtype(np.float64 if counts else np.float32), compression=compression,
    ) as writer:  # fmt: skip
        writer.append(
            images,
            targets=[-1] * n,
            ids=[f"{split}/{i}" for i in range(n)],
            scale=scales[0],
            pairs=PairArrays(
                inputs,
                scales[1] if counts else None,
                (images / 89 + 1).astype(np.float32) if clean else None,
            ),
        )
        writer.publish()
    return images / 89.0, inputs / 200.0 if counts else inputs
