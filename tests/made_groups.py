"""Shards whose images are in groups, of one tile each."""

from __future__ import annotations

import numpy as np
from conftest import CLASSES
from made_shards import images_of

from deeplense_batch.data.encoding import COUNTS
from deeplense_batch.data.writer import ShardWriter

SIZES = (3, 1, 6, 2, 4, 4)  # of the groups, 20 samples


def write_groups(root, values, *, group="tile", shard_size=7):
    """A split train, whose column `tile` has these values."""
    images = images_of(len(values))
    with ShardWriter(
        root, split="train", shape=(1, 4, 5), stored=COUNTS, dtype=np.dtype(np.float64),
        classes=CLASSES, source="tests", seed=0, shard_size=shard_size, group=group,
    ) as writer:  # fmt: skip
        writer.append(
            images,
            targets=[i % 3 for i in range(len(values))],
            ids=[f"{i}" for i in range(len(values))],
            scale=np.full((len(values), 1), 899.0),
            catalogue={"tile": np.asarray(values)},
        )
        writer.publish()
    return root


def tiles(kind=str):
    names = np.repeat(np.arange(len(SIZES)), SIZES)
    return names if kind is int else np.array([f"t{n}" for n in names], object)
