"""Shards of a few small images of counts, whose values are known."""

from __future__ import annotations

import numpy as np
from conftest import CLASSES

from deeplense_batch.data.encoding import COUNTS
from deeplense_batch.data.writer import ShardWriter


def images_of(n, *, channels=1, seed=0):
    return np.random.default_rng(seed).integers(0, 900, (n, channels, 4, 5)).astype(COUNTS)


def write(root, n=10, *, split="train", append=10, seed=0, dtype=np.float64, **options):
    """Counts of 1/899 in `n` samples of rotating classes, appended in pieces."""
    images = images_of(n, seed=seed)
    options = {"shard_size": 4, "classes": CLASSES, "source": "here", "seed": 3} | options
    writer = ShardWriter(
        root, split=split, shape=(1, 4, 5), stored=COUNTS, dtype=np.dtype(dtype), **options
    )
    with writer:
        for i in range(0, n, append):
            part = slice(i, min(i + append, n))
            writer.append(
                images[part],
                targets=[j % 3 for j in range(n)[part]],
                ids=[f"{split}/ü{j}.npy" for j in range(n)[part]],
                scale=np.full((len(images[part]), 1), 899.0),
                truth={"theta_e": np.arange(n)[part] / 8},
            )
        writer.publish()
    return images


def write_shards(root, split, images, targets, classes=CLASSES, *, truth=None, catalogue=None,
                 **options):  # fmt: skip
    """Counts (N, C, H, W) uint16, or floats, as the only shard of a split."""
    with ShardWriter(
        root, split=split, shape=images.shape[1:], stored=images.dtype,
        dtype=np.dtype(np.float64), classes=classes, source="tests", seed=0,
        shard_size=len(images), **options,
    ) as writer:  # fmt: skip
        ids = [f"{split}/{i}" for i in range(len(images))]
        scale = images.max((2, 3)).astype(np.float64) if images.dtype == COUNTS else None
        writer.append(
            images, targets=targets, ids=ids, scale=scale, truth=truth or {}, catalogue=catalogue
        )
        writer.publish()


def write_catalogue(root, split, columns, *, samples=0, shape=(1, 4, 5), classes=CLASSES,
                    targets=None, **options):  # fmt: skip
    """Images of counts with a catalogue, as the only shard of a split; bands and group by name."""
    count = len(next(iter(columns.values()))) if columns else samples
    images = np.random.default_rng(count).integers(1, 900, (count, *shape)).astype(COUNTS)
    with ShardWriter(
        root, split=split, shape=shape, stored=COUNTS, dtype=np.dtype(np.float64),
        classes=classes, source="tests", seed=0, shard_size=max(count, 1), **options,
    ) as writer:  # fmt: skip
        writer.append(
            images,
            targets=[i % len(classes) for i in range(count)] if targets is None else targets,
            ids=[f"{split}/{i}" for i in range(count)],
            scale=images.max((2, 3)).astype(np.float64),
            catalogue=columns,
        )
        writer.publish()
