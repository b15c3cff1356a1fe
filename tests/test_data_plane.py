"""Order, augmentation and batches are functions of (seed, epoch, sample), whatever the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplense_batch.data.augment import apply, uniforms
from deeplense_batch.data.loader import Loader, Transform, order, share_of
from deeplense_batch.data.shards import ShardError, open_split
from deeplense_batch.job import Augment

CPU = torch.device("cpu")


@given(samples=st.integers(1, 500), batch=st.integers(1, 64), seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=50)
def test_an_epoch_is_every_sample_once_in_batches_of_nearly_one_size(samples, batch, seed):
    batches = order(samples, batch, seed=seed, epoch=3)
    assert sorted(np.concatenate(batches)) == list(range(samples))
    sizes = {len(b) for b in batches}
    assert max(sizes) <= batch and max(sizes) - min(sizes) <= 1
    again = order(samples, batch, seed=seed, epoch=3)
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


def test_another_epoch_or_seed_is_another_order():
    first = np.concatenate(order(100, 10, seed=0, epoch=0))
    for seed, epoch in ((0, 1), (1, 0)):
        assert not np.array_equal(first, np.concatenate(order(100, 10, seed=seed, epoch=epoch)))


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_the_ranks_share_a_batch_without_loss(world):
    batch = np.arange(17)
    shares = [share_of(batch, rank=r, world=world) for r in range(world)]
    assert sorted(np.concatenate(shares)) == list(range(17))


def test_random_numbers_are_uniform_independent_and_the_samples_own():
    index = torch.arange(50_000)
    u = uniforms(7, 2, index, 4)
    assert float(u.min()) >= 0 and float(u.max()) < 1
    for column in u.T:  # mean 1/2, variance 1/12, within 5 standard errors
        assert abs(float(column.mean()) - 0.5) < 5 * (1 / 12 / 50_000) ** 0.5
        assert abs(float(column.var()) - 1 / 12) < 5 * (1 / 180 / 50_000) ** 0.5
    correlation = np.corrcoef(u.T.numpy()) - np.eye(4)
    assert np.abs(correlation).max() < 5 / 50_000**0.5
    lagged = np.corrcoef(u[1:, 0].numpy(), u[:-1, 0].numpy())[0, 1]
    assert abs(lagged) < 5 / 50_000**0.5
    some = torch.tensor([40_000, 3, 17])
    assert torch.equal(uniforms(7, 2, some, 4), u[some])
    for seed, epoch in ((8, 2), (7, 3)):
        assert not torch.equal(uniforms(seed, epoch, some, 4), u[some])


@pytest.mark.parametrize(
    "augment",
    [Augment(dihedral=True), Augment(degrees=15, translate=0.05, scale=(0.95, 1.05))],
    ids=["dihedral", "affine"],
)
def test_what_happens_to_a_sample_does_not_depend_on_its_batch(augment):
    images, index = torch.rand(9, 2, 16, 16), torch.arange(9)
    whole = apply(images, augment, seed=1, epoch=2, index=index)
    for part in (slice(0, 1), slice(3, 8)):
        alone = apply(images[part], augment, seed=1, epoch=2, index=index[part])
        assert torch.equal(alone, whole[part])
    assert not torch.equal(whole, apply(images, augment, seed=1, epoch=3, index=index))


def test_dihedral_gives_the_eight_symmetries_and_changes_no_pixel():
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    index = torch.arange(400)
    many = apply(
        image.expand(400, -1, -1, -1), Augment(dihedral=True), seed=0, epoch=0, index=index
    )
    counts: dict[tuple[float, ...], int] = {}
    for one in many:
        key = tuple(one.flatten().tolist())
        counts[key] = counts.get(key, 0) + 1
    turns = [torch.rot90(image[0, 0], k) for k in range(4)]
    symmetries = {tuple(t.flatten().tolist()) for t in [*turns, *(t.flip(0) for t in turns)]}
    assert set(counts) == symmetries and min(counts.values()) > 25


def test_flips_are_four_of_them():
    image, index = torch.arange(16.0).reshape(1, 1, 4, 4), torch.arange(100)
    same = image.expand(100, -1, -1, -1)
    many = apply(same, Augment(flips=True), seed=0, epoch=0, index=index)
    expected = {tuple(image.flip(axes).flatten().tolist()) for axes in ([], [2], [3], [2, 3])}
    assert {tuple(one.flatten().tolist()) for one in many} == expected


def test_an_affine_change_of_nothing_is_nothing_and_a_quarter_turn_is_one():
    images, index = torch.rand(4, 1, 15, 15), torch.arange(4)
    still = Augment(scale=(1.0, 1.0 + 1e-9))
    assert torch.allclose(apply(images, still, seed=0, epoch=0, index=index), images, atol=1e-5)
    zoomed = apply(images, Augment(scale=(2.0, 2.0)), seed=0, epoch=0, index=index)
    assert torch.allclose(zoomed[:, :, 7, 7], images[:, :, 7, 7], atol=1e-5)
    assert torch.allclose(zoomed[:, :, 7, 9], images[:, :, 7, 8], atol=1e-5)


def test_a_batch_is_the_packed_images_decoded_cropped_stretched_and_normalised(shards):
    split = open_split(shards, "train")
    loader = Loader(split, transform=Transform(16, None, "asinh"), device=CPU)
    transform = loader.measured()
    loader.transform = transform
    images, targets, place = loader.batch(np.array([5, 2]))
    values = split.images()[[5, 2], :, 4:20, 4:20]
    stretched = np.arcsinh(values / 0.05) / np.arcsinh(20)
    expected = (stretched - transform.mean[0]) / transform.sd[0]
    assert np.allclose(images.numpy(), expected, atol=1e-5)
    assert targets.tolist() == split.targets()[[5, 2]].tolist() and place.tolist() == [5, 2]
    everything = torch.cat([loader.batch(i)[0] for i in loader.in_order(rank=0, world=1)])
    assert float(everything.mean()) == pytest.approx(0, abs=1e-4)
    assert float(everything.std()) == pytest.approx(1, abs=1e-3)


def test_counts_above_the_signed_range_survive(tmp_path):
    from deeplense_batch.data.writer import ShardWriter

    counts = np.array([0, 32767, 32768, 65535], np.uint16).reshape(1, 1, 2, 2)
    with ShardWriter(
        tmp_path, split="train", shape=(1, 2, 2), stored=np.dtype(np.uint16), seed=0,
        dtype=np.dtype(np.float64), classes=("a", "b"), source="tests",
    ) as writer:  # fmt: skip
        writer.append(counts, targets=[0], ids=["0"], scale=np.array([[65535.0]]))
        writer.publish()
    loader = Loader(
        open_split(tmp_path, "train"), transform=Transform(None, None, "linear"), device=CPU
    )
    images = loader.batch(np.array([0]))[0]
    assert np.allclose(images.numpy(), counts / 65535, atol=1e-7)


def test_a_crop_larger_than_the_images_is_a_sentence(shards):
    with pytest.raises(ShardError, match="25 pixels asked, the images have 24 x 24"):
        Loader(open_split(shards, "train"), transform=Transform(25, None, "linear"), device=CPU)


def test_resizing_keeps_the_mean():
    images = torch.rand(2, 1, 96, 96)
    small = Transform(None, 48, "linear")(images)
    assert small.shape == (2, 1, 48, 48)
    assert float(small.mean()) == pytest.approx(float(images.mean()), abs=1e-3)
