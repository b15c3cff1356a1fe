"""Which samples of a split are in which of its folds: as many of each class in every one.

A fold is a function of ids, classes and groups alone: neither the seed nor the order or the files
in which images are packed change it, and an image keeps its fold. Within a class samples are
ordered by the sha256 of their ids and dealt out one by one, so that the counts of a class differ
by one at most. Samples without a label are dealt out like a class.

Where a split has groups, each is dealt as a whole, so that no object or tile is on both sides. The
groups that hold the largest share of a class go first, each to the fold that lacks its classes
most, as in the greedy number partitioning of Graham (1969). Where that leaves a fold without a
class, groups are moved and exchanged until none lacks one, or no step leads on: only trying all
deals would tell for certain whether there is one. scikit-learn's `StratifiedGroupKFold` does the
like; but the name of a run stands for its folds, which no other version may change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.core.sections.fold_names import FoldName
from deeplense_batch.data.header import ShardError
from deeplense_batch.data.slices.edges import without_group
from deeplense_batch.data.split import Split, SplitInfo

__all__ = ["deal", "deal_groups", "samples_of"]

_ROUNDING = 1e-9


def samples_of(info: SplitInfo, name: FoldName) -> NDArray[np.int64]:
    """Places in a split of the samples of some of its folds, (N,), rising.

    Raises:
        ShardError: A class has too few samples, or groups, for each fold to have one.
    """
    return np.flatnonzero(np.isin(_numbers(info, name.of), name.numbers))


def deal(ids: Sequence[str], targets: NDArray[np.int64], folds: int) -> NDArray[np.int64]:
    """Deal samples out to folds.

    Arguments:
        ids: Of the samples, N.
        targets: Class numbers, (N,); -1 where there is no label.
        folds: How many.

    Returns:
        Numbers of folds from 1, (N,).
    """
    order = np.lexsort((_by_hash(ids), targets))
    numbers = np.empty(len(ids), np.int64)
    numbers[order] = np.arange(len(ids)) % folds + 1  # on from class to class: even sums too
    return numbers


def deal_groups(
    groups: Sequence[str] | NDArray[np.str_], targets: NDArray[np.int64], folds: int
) -> NDArray[np.int64]:
    """Deal groups of samples out to folds.

    Arguments:
        groups: Names of the groups of the samples, N.
        targets: As of `deal`.
        folds: How many.

    Returns:
        Numbers of folds from 1, (N,), one and the same for all samples of a group.
    """
    names, group_of = np.unique(np.asarray(groups, str), return_inverse=True)
    classes, class_of = np.unique(targets, return_inverse=True)
    counts = np.zeros((len(names), len(classes)), np.int64)
    np.add.at(counts, (group_of, class_of), 1)
    shares = counts / counts.sum(axis=0)  # of all samples of a class
    held = np.zeros((folds, len(classes)))  # shares that each fold has got so far
    fold_of = np.empty(len(names), np.int64)
    for group in np.lexsort((_by_hash(names.tolist()), -shares.max(axis=1))):
        lacking = (held * shares[group]).sum(axis=1)
        # Of folds as full of its classes, that with the least of all; then the first.
        fold = np.lexsort((held.sum(axis=1).round(12), lacking.round(12)))[0]
        held[fold] += shares[group]
        fold_of[group] = fold
    labelled = counts[:, classes >= 0]  # a fold may lack samples without a label
    return _filled(fold_of, labelled, folds)[group_of] + 1


def _filled(
    fold_of: NDArray[np.int64], counts: NDArray[np.int64], folds: int
) -> NDArray[np.int64]:
    """The folds of groups, changed step by step where a fold lacks a class that it could have.

    Arguments:
        fold_of: As they were dealt, (G,) from 0.
        counts: Samples of each of the classes that the groups hold, (G, C).
        folds: How many.
    """
    if ((counts > 0).sum(axis=0) < folds).any():  # of that class there is none for some fold
        return fold_of
    fold_of = fold_of.copy()
    while (step := _step(fold_of, counts, folds)) is not None:
        group, fold, partner = step
        if partner is not None:
            fold_of[partner] = fold_of[group]
        fold_of[group] = fold
    return fold_of


def _step(
    fold_of: NDArray[np.int64], counts: NDArray[np.int64], folds: int
) -> tuple[int, int, int | None] | None:
    """The best group to give to a fold that lacks a class, and which to take for it, if any.

    The best leaves the fewest classes lacking in folds and, of such, deals classes most evenly.
    None where no fold lacks a class, or no step makes it better.
    """
    held = np.stack([counts[fold_of == k].sum(axis=0) for k in range(folds)])
    total, classes = counts.sum(axis=0), counts.shape[1]
    with_none = np.concatenate([counts, np.zeros((1, classes), np.int64)])  # its number is G

    def cost(held: NDArray[np.int64]) -> NDArray[np.float64]:
        """Of what folds hold, (..., C): the squares of shares are never as much as a class."""
        return (classes + 1) * (held == 0).sum(-1) + ((held / total) ** 2).sum(-1)

    best, least = None, -_ROUNDING
    for fold, class_ in np.argwhere(held == 0).tolist():
        partners = np.append(np.flatnonzero(fold_of == fold), len(counts))
        for group in np.flatnonzero(counts[:, class_]).tolist():
            change, other = counts[group] - with_none[partners], held[fold_of[group]]
            before = cost(held[fold]) + cost(other)
            costs = cost(held[fold] + change) + cost(other - change) - before
            place = int(costs.round(9).argmin())
            if costs[place] < least - _ROUNDING:
                partner, least = int(partners[place]), float(costs[place])
                best = group, fold, partner if partner < len(counts) else None
    return best


@lru_cache(maxsize=16)
def _numbers(info: SplitInfo, folds: int) -> NDArray[np.int64]:
    """The fold of every sample of a split, (N,)."""
    whole = Split(info, 0, len(info))
    ids, targets = whole.ids(), whole.targets()
    if not info.group:
        numbers = deal(ids, targets, folds)
        _check(info, targets, numbers, folds, None)
        return numbers
    values = whole.catalogue(info.group)
    alone, texts = without_group(values).tolist(), values.astype(str).tolist()
    named = zip(ids, alone, texts, strict=True)
    groups = np.array([f"id {id_}" if own else f"group {text}" for id_, own, text in named])
    numbers = deal_groups(groups, targets, folds)
    _check(info, targets, numbers, folds, groups)
    return numbers


def _check(
    info: SplitInfo,
    targets: NDArray[np.int64],
    numbers: NDArray[np.int64],
    folds: int,
    groups: NDArray[np.str_] | None,
) -> None:
    """Make sure that every fold has samples of every class."""
    place = f"{info.files[0].parent}: {folds} folds of split {info.name} would leave some"
    for k, class_ in enumerate(info.classes):
        own = np.flatnonzero(targets == k)
        if len(own) and len(np.unique(numbers[own])) < folds:
            known = f"{len(own)} samples"
            if groups is not None:
                count = len(np.unique(groups[own]))
                known += f" in {count} groups (column {info.group})"
                if count >= folds:
                    known += "; no better deal of whole groups was found"
            raise ShardError(f"{place} without a sample of class '{class_}', which has {known}")
    if len(np.unique(numbers)) < folds:
        raise ShardError(f"{place} without a sample; it has {len(info)}")


def _by_hash(names: Sequence[str]) -> NDArray[np.int64]:
    """The rank of each name in the order of the sha256 of all, (N,)."""
    order = sorted(range(len(names)), key=lambda i: hashlib.sha256(names[i].encode()).digest())
    ranks = np.empty(len(names), np.int64)
    ranks[order] = np.arange(len(names))
    return ranks
