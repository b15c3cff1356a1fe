"""Pairs of a few small images, whose values are known."""

from __future__ import annotations

import numpy as np

from deeplense_batch.data.encoding import COUNTS
from deeplense_batch.data.pairs.pair_arrays import PairArrays
from deeplense_batch.data.shards import open_split
from deeplense_batch.data.writer import ShardWriter

__all__ = ["SHIFTS", "coarse", "sky", "write_pairs", "write_shifted"]

# Of pairs of shifted skies, rows and columns, pixels of the inputs.
SHIFTS = np.array([[0.0, 0.0], [0.7, -0.3], [-1.2, 0.45], [2.0, 1.0], [0.26, 0.9], [0.0, 0.0]])


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


def sky(side, pixel, shift, sigma):
    """Three blobs around the middle, moved by rows and columns of pixels of width 2."""
    y, x = ((np.arange(side) - (side - 1) / 2) * pixel - 2 * s for s in shift)
    made = np.zeros((side, side))
    for row, column, height in ((-6.0, 3.0, 1.0), (4.0, -7.0, 0.7), (5.0, 8.0, 0.5)):
        made += height * np.exp(-((y[:, None] - row) ** 2 + (x - column) ** 2) / (2 * sigma**2))
    return made


def write_shifted(root):
    """Pairs with known shifts, of which the last has an input of noise alone."""
    random = np.random.default_rng(0)
    images = np.array([[sky(64, 1.0, (0, 0), 2.5)] for _ in SHIFTS])
    inputs = np.array([[sky(32, 2.0, shift, 4.0) * 3 + 1] for shift in SHIFTS])
    inputs[-1] = random.normal(size=(1, 32, 32))
    images, inputs = (
        (v + random.normal(scale=0.02, size=v.shape)).astype(np.float32) for v in (images, inputs)
    )
    with ShardWriter(
        root, split="train", shape=(1, 64, 64), stored=images.dtype, dtype=images.dtype,
        classes=(), source="tests", seed=0, inputs_dtype=inputs.dtype,
    ) as writer:  # fmt: skip
        writer.append(
            images, targets=[-1] * 6, ids=[*"abcdef"],
            pairs=PairArrays(inputs, None, images),
        )  # fmt: skip
        writer.publish()
    return open_split(root, "train")
