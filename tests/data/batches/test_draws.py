"""What an epoch draws, and how much each image counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made_sets import write_set

from deeplense_batch.data.batches.draws import Draws
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.batches.mixture import Mixture
from deeplense_batch.data.batches.sampling import (
    balanced,
    balancing_weights,
    drawn,
    numbered,
    shuffled,
)
from deeplense_batch.data.pixels.transform import Transform
from deeplense_batch.data.shards import ShardError, open_split

ASKED = {"seed": 3, "epoch": 5}


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    roots = [write_set(folder / f"{n}", train=n, seed=n) for n in (12, 20)]
    transform, device = Transform(None, None, "linear"), torch.device("cpu")
    return [Loader(open_split(r, "train"), transform=transform, device=device) for r in roots]


def draws(members, weights=(), balance="none", left_out=()):
    images = Mixture(members, weights, members[0].info)
    trainable = ~np.isin(np.arange(len(images)), left_out)
    return Draws(images, trainable, balance), images.targets.numpy()


def test_without_weights_every_image_is_drawn_once_as_of_one_set(members):
    of_all, _ = draws(members)
    assert np.array_equal(of_all.order(**ASKED), shuffled(32, **ASKED)) and len(of_all) == 32


def test_one_set_is_drawn_as_without_a_mixture(members):
    for balance in ("none", "sampler"):
        mixed, targets = draws(members[:1], (2.0,), balance, left_out=[3])
        plain = Draws(members[0], np.arange(12) != 3, balance)
        assert np.array_equal(mixed.order(**ASKED), plain.order(**ASKED))
        of_all = balanced(targets, **ASKED) if balance == "sampler" else shuffled(12, **ASKED)
        assert np.array_equal(plain.order(**ASKED), of_all[of_all != 3])


def test_images_without_what_is_learnt_are_never_drawn_and_shares_are_of_the_others(members):
    mixed, _ = draws(members, (1, 3), left_out=[0, 1, 31])
    sets = [np.arange(2, 12), np.arange(12, 31)]
    order = mixed.order(**ASKED)
    assert np.array_equal(order, numbered(drawn(sets, (1, 3), **ASKED), 32))
    counts = np.bincount(order % 32, minlength=32)
    assert len(mixed) == 29 and counts[2:12].sum() == 7 and counts[12:31].sum() == 22


def test_a_sampler_balances_classes_within_each_set(members):
    mixed, targets = draws(members, (1, 1), "sampler")
    order = mixed.order(**ASKED)
    assert len(set(order)) == 32 and order.max() >= 32  # an image that comes again is told
    order %= 32
    for first, stop, counts in ((0, 12, (6, 5, 5)), (12, 32, (6, 5, 5))):
        of_set = order[(order >= first) & (order < stop)]
        assert np.bincount(targets[of_set]).tolist() == list(counts)


def test_class_weights_are_of_the_images_as_they_are_drawn(members):
    plain, targets = draws(members)
    assert np.array_equal(plain.class_weights(), balancing_weights(targets))
    mixed, _ = draws(members, (1, 3))
    often = np.repeat([8 / 12, 24 / 20], [12, 20])
    sums = np.bincount(targets, mixed.class_weights() * often)
    np.testing.assert_allclose(sums, [32 / 3] * 3, rtol=1e-6)


def test_a_set_of_which_nothing_can_be_learnt_is_refused(members):
    with pytest.raises(ShardError, match=r"12: none of its images has what is learnt; leave it"):
        draws(members, (1, 1), left_out=range(12))
