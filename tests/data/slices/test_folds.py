"""Folds: each sample in one, every class in all alike, however the images are packed."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from conftest import CLASSES
from made_groups import write_groups
from made_shards import images_of

from deeplense_batch.data.encoding import COUNTS
from deeplense_batch.data.shards import ShardError, open_split
from deeplense_batch.data.slices.folds import deal, deal_groups
from deeplense_batch.data.writer import ShardWriter

IDS = [f"image {i}" for i in range(103)]
TARGETS = np.array([0] * 60 + [1] * 23 + [2] * 13 + [-1] * 7)


def write_in(order, root, shard_size):
    """A split of all samples in an order; the image of sample i is always the same."""
    with ShardWriter(
        root, split="train", shape=(1, 4, 5), stored=COUNTS, dtype=np.dtype(np.float64),
        classes=CLASSES, source="tests", seed=0, shard_size=shard_size,
    ) as writer:  # fmt: skip
        writer.append(
            images_of(len(IDS))[order],
            targets=TARGETS[order].tolist(),
            ids=[IDS[i] for i in order],
            scale=np.full((len(IDS), 1), 899.0),
        )
        writer.publish()
    return root


def held(root, folds=5):
    """The ids that each fold of a set holds."""
    return [set(open_split(root, f"train[fold {k}/{folds}]").ids()) for k in range(1, folds + 1)]


def test_folds_are_the_same_in_any_order_and_any_files_and_part_the_split(tmp_path):
    forward = held(write_in(np.arange(103), tmp_path / "a", 103))
    shuffled = held(write_in(np.random.default_rng(1).permutation(103), tmp_path / "b", 10))
    assert forward == shuffled
    assert Counter(id_ for fold in forward for id_ in fold) == Counter(IDS)
    assert sorted(map(len, forward)) == [20, 20, 21, 21, 21]


def test_arrays_of_a_fold_are_those_of_its_samples(tmp_path):
    root = write_in(np.random.default_rng(2).permutation(103), tmp_path, 10)
    split, images = open_split(root, "train[folds 1,3/5]"), images_of(103)
    numbers = [IDS.index(id_) for id_ in split.ids()]
    assert (split.stored()[0] == images[numbers]).all()
    assert split.targets().tolist() == TARGETS[numbers].tolist()
    both = held(root)[0] | held(root)[2]
    assert set(split.ids()) == both and len(split) == len(both)


@pytest.mark.parametrize("folds", [3, 5, 10])
def test_classes_and_samples_differ_by_one_at_most_over_folds(folds):
    numbers = deal(IDS, TARGETS, folds)
    for chosen in (TARGETS >= -1, *(k == TARGETS for k in (-1, 0, 1, 2))):
        counts = np.bincount(numbers[chosen], minlength=folds + 1)[1:]
        assert np.ptp(counts) <= 1 and counts.sum() == chosen.sum()


def test_folds_never_change():
    """The name of a run stands for them: another rule would be another fold under one name."""
    numbers = deal([f"{i}.npy" for i in range(12)], np.arange(12) % 2, 3)
    assert numbers.tolist() == [2, 2, 3, 3, 3, 1, 2, 3, 1, 2, 1, 1]
    groups = [f"t{i // 2}" for i in range(12)]  # by hash: t0, t1, t4, t2, t3, t5
    numbers = deal_groups(groups, np.arange(12) % 2, 3)
    assert numbers.tolist() == [1, 1, 2, 2, 1, 1, 2, 2, 3, 3, 3, 3]


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_never_cut_and_classes_are_shared_out(seed):
    random = np.random.default_rng(seed)
    groups = [f"tile {g}" for g in random.integers(0, 60, 900)]
    targets = random.choice(3, 900, p=[0.7, 0.2, 0.1])
    order = random.permutation(900)
    numbers = deal_groups(groups, targets, 5)
    again = deal_groups([groups[i] for i in order], targets[order], 5)
    assert (again == numbers[order]).all()
    assert all(len({n for n, own in zip(numbers, groups, strict=True) if own == g}) == 1
               for g in set(groups))  # fmt: skip
    for k in range(3):
        counts = np.bincount(numbers[targets == k], minlength=6)[1:]
        assert counts.min() > 0.7 * counts.mean() and counts.max() < 1.3 * counts.mean()


def test_groups_of_one_class_each_are_dealt_class_by_class():
    groups = [f"{'lens' if i < 20 else 'other'} {i // 2}" for i in range(220)]
    targets = np.array([0] * 20 + [1] * 200)
    numbers = deal_groups(groups, targets, 5)
    for k in (0, 1):
        assert np.ptp(np.bincount(numbers[targets == k])[1:]) == 0


def test_groups_are_exchanged_where_a_fold_would_lack_a_class():
    """Where there is a deal in which no fold does, as trying all of them tells."""
    outcomes = []
    for seed in range(300):
        random = np.random.default_rng(seed)
        counts = random.integers(0, 3, (random.integers(5, 9), 3))
        counts[:, 0] += 1
        groups, targets = np.array([(g, k) for (g, k), n in np.ndenumerate(counts)
                                    for _ in range(n)]).T  # fmt: skip
        numbers = deal_groups([f"tile {g}" for g in groups], targets, 3)
        fold_of = [set(numbers[groups == g].tolist()) for g in range(len(counts))]
        assert all(len(own) == 1 for own in fold_of)
        complete = all(len(set(numbers[targets == k])) == 3 for k in range(3))
        deals = itertools.product(range(3), repeat=len(counts))
        there_is = any(all(len(set(np.array(deal)[own])) == 3 for own in counts.T > 0)
                       for deal in deals)  # fmt: skip
        outcomes.append((there_is, complete))
    assert {*outcomes} == {(True, True), (False, False)}


def test_a_fold_may_lack_samples_without_a_label():
    """So that folds that were dealt before groups were exchanged stay as they were."""
    targets = [[0, 0, -1], [-1, -1, -1], [-1, -1, 1], [0, 1, 0], [0, 1, 1]]
    numbers = deal_groups(np.repeat([f"t{i}" for i in range(5)], 3), np.ravel(targets), 3)
    assert numbers[::3].tolist() == [3, 1, 3, 1, 2]


def test_a_split_with_groups_keeps_them_whole_and_images_without_one_are_their_own(tmp_path):
    values = np.array(["a"] * 6 + ["b"] * 6 + ["c"] * 6 + ["d"] * 6 + [""] * 6, object)
    root = write_groups(tmp_path, values)
    for fold in held(root, folds=4):
        kept = [values[int(id_)] for id_ in fold]
        assert all(kept.count(group) == 6 for group in set(kept) - {""})
        assert 1 <= kept.count("") <= 2


def test_too_few_samples_or_groups_of_a_class_are_refused(tmp_path):
    root = write_in(np.arange(103), tmp_path / "a", 50)
    with pytest.raises(ShardError, match=r"a: 14 folds of split train would leave some without a "
                       r"sample of class 'vort', which has 13 samples$"):  # fmt: skip
        open_split(root, "train[fold 1/14]")
    assert len(open_split(root, "train[fold 1/13]")) > 0
    root = write_groups(tmp_path / "b", np.repeat(np.array([*"abcd"], object), 6))
    with pytest.raises(ShardError, match=r"class 'no', which has 8 samples in 4 groups \(column "):
        open_split(root, "train[fold 1/5]")
    with pytest.raises(ShardError, match=r"b: 'train\[fold 7/5\]': expected numbers of folds"):
        open_split(root, "train[fold 7/5]")
    root = write_groups(tmp_path / "c", np.array([*"aabbccddd"], object))  # only d has all
    with pytest.raises(ShardError, match=r"which has 3 samples in 3 groups \(column tile\); no "
                       r"better deal of whole groups was found$"):  # fmt: skip
        open_split(root, "train[fold 1/3]")
