"""Unlabelled images beside the labelled ones: which are drawn, and how they are changed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from made_sets import write_set

from deeplense_batch.core.job import Augment
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.batches.sampling import order, shuffled
from deeplense_batch.data.batches.unlabelled import Unlabelled
from deeplense_batch.data.pixels.transform import Transform
from deeplense_batch.data.shards import open_split

PLAIN, NOTHING = Transform(None, None, "linear"), Augment()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """24 images."""
    root = write_set(tmp_path_factory.mktemp("target") / "target")
    return Loader(open_split(root, "train"), transform=PLAIN, device=torch.device("cpu"))


def epoch_of(images, count=30, size=8, augment=NOTHING, **options):
    options = {"seed": 0, "epoch": 0} | options
    return [*Unlabelled(images).batches(count, size, augment, **options)]


def test_there_are_as_many_as_labelled_images_in_each_step(images):
    for count, size in ((30, 8), (7, 3), (100, 24)):
        steps = order(shuffled(count, seed=0, epoch=0), size)
        assert [*map(len, epoch_of(images, count, size))] == [*map(len, steps)]


def test_they_come_in_full_permutations(images):
    draws = Unlabelled(images).draws(60, seed=0, epoch=0)
    assert Counter(Counter((draws % 24).tolist()).values()) == {3: 12, 2: 12}
    assert len(set(draws.tolist())) == 60  # an image that is drawn again has another number
    assert sorted(draws[:24]) == [*range(24)]


def test_they_are_a_function_of_seed_and_epoch_apart_from_that_of_labelled_images(images):
    drawn = [Unlabelled(images).draws(24, seed=s, epoch=e).tolist()
             for s, e in ((0, 0), (0, 0), (1, 0), (0, 1))]  # fmt: skip
    assert drawn[0] == drawn[1] and drawn[0] != drawn[2] != drawn[3] != drawn[0]
    for seed, epoch in ((0, 0), (1, 2)):
        labelled = shuffled(24, seed=seed, epoch=epoch)
        own = Unlabelled(images).draws(24, seed=seed, epoch=epoch)
        assert (own == labelled).mean() < 0.3  # else a class would meet itself


def test_an_epoch_goes_on_where_it_was_cut_off(images):
    augment = Augment(dihedral=True, noise=0.1)
    whole = epoch_of(images, augment=augment)
    rest = epoch_of(images, augment=augment, first=2)
    assert all(torch.equal(a, b) for a, b in zip(whole[2:], rest, strict=True))


def test_processes_share_the_images_of_one(images):
    augment = Augment(dihedral=True, noise=0.1)
    whole = epoch_of(images, augment=augment)
    parts = [epoch_of(images, augment=augment, rank=rank, world=3) for rank in range(3)]
    for batch, *shares in zip(whole, *parts, strict=True):
        for rank, share in enumerate(shares):
            torch.testing.assert_close(share, batch[rank::3])


def test_an_image_is_changed_otherwise_whenever_it_is_drawn_and_than_a_labelled_one(images):
    noisy = Augment(noise=1.0)
    made = torch.cat(epoch_of(images, 48, 48, noisy))
    draws = Unlabelled(images).draws(48, seed=0, epoch=0) % 24
    first, again = np.flatnonzero(draws == 5)
    assert not torch.allclose(made[first], made[again])
    ((labelled, *_),) = images.batches([np.array([5])], noisy, seed=0, epoch=0)
    assert not torch.allclose(made[first], labelled[0])
    ((plain, *_),) = images.batches([np.array([5])])
    torch.testing.assert_close(torch.cat(epoch_of(images, 48, 48))[first], plain[0])
