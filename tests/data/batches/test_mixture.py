"""Batches of several sets: the images of each, in one order, whatever they are stored as."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_sets import write_set
from made_shards import write_shards

from deeplense_batch.core.job import Augment
from deeplense_batch.data.batches.draws import Draws
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.batches.mixture import Mixture
from deeplense_batch.data.batches.sampling import order, share_of, shuffled
from deeplense_batch.data.pixels.transform import Transform
from deeplense_batch.data.shards import open_split

CPU = torch.device("cpu")
ALL = Augment(dihedral=True, degrees=20, translate=0.1, noise=0.1)
PLAIN = Transform(None, None, "linear")


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Floats, bytes and floats of another size."""
    folder = tmp_path_factory.mktemp("sets")
    write_set(folder / "a", train=20, seed=1)
    write_set(folder / "b", train=30, seed=2, dtype=np.uint8)
    write_set(folder / "c", train=10, seed=3, shape=(1, 16, 16), level=5)
    return [folder / name for name in "abc"]


def mixture(roots, weights=(), transform=PLAIN, resident="auto", truths=()):
    members = [
        Loader(open_split(root, "train"), transform=transform, device=CPU, resident=resident,
               truths=truths)
        for root in roots
    ]  # fmt: skip
    return Mixture(members, weights, members[0].info)


def images_of(mixed, batches, **options):
    made = [
        (images.numpy(), t.tolist(), i.tolist())
        for images, t, i in mixed.batches(batches, **options)
    ]
    return [list(column) for column in zip(*made, strict=True)]


@pytest.mark.parametrize("resident", ["device", "off"])
def test_a_batch_holds_the_images_at_its_places(roots, resident):
    mixed = mixture(roots[:2], resident=resident)
    whole = np.concatenate([open_split(root, "train").images() for root in roots[:2]])
    targets = np.concatenate([open_split(root, "train").targets() for root in roots[:2]])
    batches = order(shuffled(50, seed=0, epoch=0), 7)
    images, labels, places = images_of(mixed, batches)
    for batch, made, label, place in zip(batches, images, labels, places, strict=True):
        np.testing.assert_array_equal(made, whole[batch].astype(np.float32))
        assert label == targets[batch].tolist() and place == batch.tolist()
    assert mixed.targets.tolist() == targets.tolist() and len(mixed) == 50
    ids = [name for root in roots[:2] for name in open_split(root, "train").ids()]
    assert mixed.ids.tolist() == ids


def test_batches_of_one_set_and_none_are_made(roots):
    mixed = mixture(roots[:2])
    images, *_ = images_of(mixed, [np.arange(20, 24), np.arange(3)])
    assert [len(batch) for batch in images] == [4, 3]
    assert list(mixed.batches([])) == []


def test_random_changes_are_a_function_of_the_place_in_the_mixture(roots):
    """Two copies of one set are changed in two ways, each the same in any batch."""
    mixed = mixture([roots[0], roots[0]])
    both = np.array([3, 23, 5, 25])
    (images,), *_ = images_of(mixed, [both], augment=ALL, seed=1, epoch=2)
    assert not np.allclose(images[0], images[1]) and not np.allclose(images[2], images[3])
    alone, *_ = images_of(mixed, [both[3:], both[:3]], augment=ALL, seed=1, epoch=2)
    np.testing.assert_array_equal(images, np.concatenate([alone[1], alone[0]]))
    single = Loader(open_split(roots[0], "train"), transform=PLAIN, device=CPU)
    ((first, *_),) = single.batches([np.array([3, 5])], ALL, seed=1, epoch=2)
    np.testing.assert_array_equal(first.numpy(), images[[0, 2]])


def test_an_image_that_is_drawn_again_is_changed_in_another_way(roots):
    """The first time as ever, and each time the same in any batch."""
    mixed = mixture(roots[:2])
    draws = np.array([3, 24, 3 + 50, 24 + 50, 3 + 100, 24 + 100])
    options = {"augment": ALL, "seed": 1, "epoch": 2}
    (images,), (labels,), (places,) = images_of(mixed, [draws], **options)
    assert places == [3, 24] * 3 and labels == mixed.targets[places].tolist()
    assert len({image.tobytes() for image in images}) == 6
    (first,), *_ = images_of(mixed, [draws[:2]], **options)
    np.testing.assert_array_equal(first, images[:2])
    alone, *_ = images_of(mixed, [draws[3:], draws[:3]], **options)
    np.testing.assert_array_equal(images, np.concatenate([alone[1], alone[0]]))
    (plain,), *_ = images_of(mixed, [draws])
    np.testing.assert_array_equal(plain[:2], plain[4:])


def test_what_an_epoch_draws_by_weight_is_the_same_for_ranks_and_after_a_stop(roots):
    mixed = mixture([roots[0], roots[2]], (1, 5), replace(PLAIN, size=12))
    drawn = Draws(mixed, np.ones(30, np.bool_), "none").order(seed=1, epoch=1)
    batches = order(drawn, 8)
    whole, _, places = images_of(mixed, batches, augment=ALL, seed=1, epoch=1)
    assert len({image.tobytes() for batch in whole for image in batch}) == 30
    assert len({place for batch in places for place in batch}) == 15  # of each set 5 and 10
    later, *_ = images_of(mixed, batches[2:], augment=ALL, seed=1, epoch=1)
    shares = [
        images_of(mixed, [share_of(b, rank=r, world=2) for b in batches], augment=ALL, seed=1,
                  epoch=1)[0]
        for r in range(2)
    ]  # fmt: skip
    for step, batch in enumerate(whole):
        if step >= 2:
            np.testing.assert_array_equal(later[step - 2], batch)
        for rank in range(2):
            np.testing.assert_array_equal(shares[rank][step], batch[rank::2])


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_the_images_of_one(roots, world):
    mixed = mixture(roots[:2])
    batches = order(shuffled(50, seed=0, epoch=1), 12)
    whole, *_ = images_of(mixed, batches, augment=ALL, seed=1, epoch=1)
    for rank in range(world):
        own = [share_of(batch, rank=rank, world=world) for batch in batches]
        shares, *_ = images_of(mixed, own, augment=ALL, seed=1, epoch=1)
        for batch, share in zip(whole, shares, strict=True):
            np.testing.assert_array_equal(share, batch[rank::world])


@pytest.mark.parametrize("transform", [replace(PLAIN, size=14), replace(PLAIN, crop=10)])
def test_sets_of_two_sizes_become_one_by_crop_or_size(roots, transform):
    mixed = mixture([roots[0], roots[2]], transform=transform)
    edge = transform.size or transform.crop
    (images,), *_ = images_of(mixed, [np.array([0, 25, 1])])
    assert images.shape == (3, 1, edge, edge)
    (measured,) = mixed.decoded([np.array([21, 22])])
    stored = open_split(roots[2], "train").images()[1:3]
    cropped = stored[..., 3:13, 3:13] if transform.crop else stored
    np.testing.assert_array_equal(measured.numpy(), cropped)


@pytest.mark.parametrize(
    ("weights", "shares"), [((), (20, 10)), ((1, 1), (15, 15)), ((1, 5), (5, 25))]
)
def test_statistics_are_those_of_the_images_in_the_shares_in_which_they_are_drawn(
    roots, weights, shares
):
    """The first images of each set stand for it, and all of it is repeated where it is small."""
    mixed = mixture([roots[0], roots[2]], weights, replace(PLAIN, crop=12))
    a = open_split(roots[0], "train").images().astype(np.float64)
    c = open_split(roots[2], "train").images().astype(np.float64)[..., 2:14, 2:14]
    measured = [a[np.arange(shares[0])], c[np.arange(shares[1]) % 10]]
    values = np.concatenate(measured)
    found = mixed.measured()
    np.testing.assert_allclose(
        [found.mean[0], found.sd[0]], [values.mean(), values.std()], rtol=1e-6
    )


def test_one_set_alone_is_measured_as_by_its_loader(roots):
    single = Loader(open_split(roots[0], "train"), transform=PLAIN, device=CPU)
    assert mixture(roots[:1]).measured() == single.measured()


def test_all_members_take_the_transform(roots):
    mixed = mixture(roots[:2])
    mixed.transform = replace(PLAIN, mean=(1.0,), sd=(2.0,))
    (images,), *_ = images_of(mixed, [np.array([0, 20])])
    firsts = [open_split(root, "train").images()[0].astype(np.float32) for root in roots[:2]]
    np.testing.assert_allclose(images, (np.stack(firsts) - 1) / 2, rtol=1e-6)


def test_flat_images_are_named_by_their_places(tmp_path):
    for name, flat in (("a", 4), ("b", 1)):
        images = np.random.default_rng(0).normal(size=(6, 1, 8, 8)).astype(np.float32)
        images[flat] = 0
        write_shards(tmp_path / name, "train", images, np.arange(6) % 3)
    mixed = mixture([tmp_path / "a", tmp_path / "b"], transform=replace(PLAIN, per="image"))
    assert mixed.flat().tolist() == [4, 7]


def test_truth_is_that_of_all_sets(tmp_path):
    for seed, name in enumerate("ab"):
        write_set(tmp_path / name, train=6 + seed, seed=seed, truth=("theta_e",))
    mixed = mixture([tmp_path / "a", tmp_path / "b"], truths=("theta_e", "centre"))
    expected = np.concatenate([np.linspace(0.5, 1.5, n) for n in (6, 7)])
    assert list(mixed.truth) == ["theta_e"]
    np.testing.assert_allclose(mixed.truth["theta_e"], expected)
    places = torch.tensor([7, 0])
    np.testing.assert_allclose(mixed.truth_of(places)["theta_e"].numpy(), expected[[7, 0]])


def test_every_image_is_evaluated_once(roots):
    mixed = mixture(roots[:2])
    parts = [np.concatenate([*mixed.in_order(rank=r, world=3)]) for r in range(3)]
    assert sorted(np.concatenate(parts)) == list(range(50))
