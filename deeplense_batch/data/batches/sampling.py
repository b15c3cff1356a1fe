"""The order of the samples in an epoch: a function of (seed, epoch) and nothing else.

Of several sets that are trained on together, an epoch has as many draws as they have samples. The
share of a set is its weight among the weights; its samples come in full permutations and a part of
one, so that the numbers of draws of any two of them differ by one at most.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "balanced",
    "balancing_weights",
    "drawn",
    "each_once",
    "expected_draws",
    "numbered",
    "order",
    "share_of",
    "shared_out",
    "shuffled",
]

_EVALUATION_BATCH = 256

Indices = NDArray[np.int64]


def shuffled(samples: int, *, seed: int, epoch: int) -> Indices:
    """Every sample once, in random order: (N,) int64."""
    return np.random.default_rng((seed, epoch)).permutation(samples)


def balanced(targets: NDArray[np.int64], *, seed: int, epoch: int) -> Indices:
    """As many draws as there are samples, every class equally often: (N,) int64.

    Rare classes repeat, and some samples of common ones are left out of the epoch.
    """
    whole = np.arange(len(targets))
    return _in_rounds(*_by_class(whole, targets, len(targets)), seed=seed, epoch=epoch)


def drawn(
    sets: Sequence[Indices],
    weights: Sequence[float],
    *,
    seed: int,
    epoch: int,
    targets: NDArray[np.int64] | None = None,
) -> Indices:
    """As many draws as several sets have samples, of each set by its weight.

    Arguments:
        sets: Places of the samples of each set, (n,) int64, none of them empty.
        weights: Of the sets, above 0; their ratios count.
        seed, epoch: Decide the order.
        targets: Class numbers of all samples, by place: draw every class of a set equally often.

    Returns:
        Places, (N,) int64 with N the sum of all n.
    """
    counts = shared_out(sum(map(len, sets)), weights)
    members, draws = [*sets], counts
    if targets is not None:
        of_sets = [_by_class(own, targets, n) for own, n in zip(sets, counts, strict=True)]
        members = [group for groups, _ in of_sets for group in groups]
        draws = [count for _, of_classes in of_sets for count in of_classes]
    return _in_rounds(members, draws, seed=seed, epoch=epoch)


def numbered(samples: Indices, count: int) -> Indices:
    """Numbers of the draws of an epoch, no two of which are equal.

    Arguments:
        samples: That are drawn, in order, (N,) int64.
        count: Samples that there are.

    Returns:
        (N,) int64: each sample, and `count` more for each time that it was drawn before.
    """
    by_sample = np.argsort(samples, kind="stable")
    in_order = samples[by_sample]
    before = np.arange(len(samples)) - np.searchsorted(in_order, in_order)
    numbers = np.empty_like(samples)
    numbers[by_sample] = in_order + count * before
    return numbers


def shared_out(draws: int, weights: Sequence[float]) -> list[int]:
    """Whole numbers that add up to `draws`, in proportion to weights above 0.

    What is left after rounding down goes to the largest remainders, of equal ones to the first.
    """
    exact = draws * np.asarray(weights, np.float64) / math.fsum(weights)
    counts = np.floor(exact).astype(np.int64)
    left = draws - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:left]] += 1
    return [int(count) for count in counts]


def expected_draws(
    sets: Sequence[Indices], weights: Sequence[float], samples: int
) -> NDArray[np.float64]:
    """How often `drawn` draws each of all samples on average, (samples,); 0 of no set."""
    often = np.zeros(samples)
    for own, count in zip(sets, shared_out(sum(map(len, sets)), weights), strict=True):
        often[own] = count / len(own)
    return often


def balancing_weights(
    targets: NDArray[np.int64], draws: NDArray[np.float64] | None = None
) -> NDArray[np.float32]:
    """Weights of the samples that give every class present the same sum over an epoch.

    Arguments:
        targets: Class numbers, (N,).
        draws: How often each sample is drawn, (N,); None for each once.

    Returns:
        (N,) float32, of mean 1 over the draws; 0 of a class that is never drawn.
    """
    classes, class_index, counts = np.unique(targets, return_inverse=True, return_counts=True)
    often = counts if draws is None else np.bincount(class_index, draws, len(classes))
    is_drawn = often > 0
    weights = np.zeros(len(classes))
    weights[is_drawn] = often.sum() / (is_drawn.sum() * often[is_drawn])
    return weights[class_index].astype(np.float32)


def order(indices: Indices, batch_size: int) -> list[Indices]:
    """Cut an epoch into global batches that differ by one sample at most."""
    return np.array_split(indices, math.ceil(len(indices) / batch_size))


def each_once(samples: int, *, rank: int, world: int) -> Iterator[Indices]:
    """Every world-th sample from `rank` on, once, in batches; nothing is padded."""
    mine = np.arange(rank, samples, world)
    for first in range(0, len(mine), _EVALUATION_BATCH):
        yield mine[first : first + _EVALUATION_BATCH]


def share_of(batch: Indices, *, rank: int, world: int) -> Indices:
    """The part of a global batch that one process computes."""
    return batch[rank::world]


def _by_class(
    members: Indices, targets: NDArray[np.int64], draws: int
) -> tuple[list[Indices], list[int]]:
    """The members of each class, and how many draws each class has of so many."""
    own = targets[members]
    classes = np.unique(own)
    counts = np.full(len(classes), draws // len(classes))
    counts[: draws % len(classes)] += 1
    return [members[own == c] for c in classes], counts.tolist()


def _in_rounds(
    groups: Sequence[Indices], counts: Sequence[int], *, seed: int, epoch: int
) -> Indices:
    """So many draws of each group, in full permutations and a part of one; all in random order."""
    random = np.random.default_rng((seed, epoch))
    draws = []
    for members, count in zip(groups, counts, strict=True):
        rounds = [random.permutation(members) for _ in range(math.ceil(count / len(members)))]
        draws.append(np.concatenate([members[:0], *rounds])[:count])
    return random.permutation(np.concatenate(draws))
