"""The order of the samples in an epoch: a function of (seed, epoch) and nothing else."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["balanced", "balancing_weights", "order", "share_of", "shuffled"]

Indices = NDArray[np.int64]


def shuffled(samples: int, *, seed: int, epoch: int) -> Indices:
    """Every sample once, in random order: (N,) int64."""
    return np.random.default_rng((seed, epoch)).permutation(samples)


def balanced(targets: NDArray[np.int64], *, seed: int, epoch: int) -> Indices:
    """As many draws as there are samples, every class equally often: (N,) int64.

    Rare classes repeat, and some samples of common ones are left out of the epoch.
    """
    random = np.random.default_rng((seed, epoch))
    classes = np.unique(targets)
    counts = np.full(len(classes), len(targets) // len(classes))
    counts[: len(targets) % len(classes)] += 1
    draws = []
    for c, count in zip(classes, counts, strict=True):
        members = np.flatnonzero(targets == c)
        rounds = [random.permutation(members) for _ in range(math.ceil(count / len(members)))]
        draws.append(np.concatenate(rounds)[:count])
    return random.permutation(np.concatenate(draws))


def balancing_weights(targets: NDArray[np.int64]) -> NDArray[np.float32]:
    """Weights of the samples, mean 1, that give every class present the same sum: (N,) float32."""
    classes, class_index, counts = np.unique(targets, return_inverse=True, return_counts=True)
    return (len(targets) / (len(classes) * counts))[class_index].astype(np.float32)


def order(indices: Indices, batch_size: int) -> list[Indices]:
    """Cut an epoch into global batches that differ by one sample at most."""
    return np.array_split(indices, math.ceil(len(indices) / batch_size))


def share_of(batch: Indices, *, rank: int, world: int) -> Indices:
    """The part of a global batch that one process computes."""
    return batch[rank::world]
