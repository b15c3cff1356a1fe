"""Order, augmentation and batches are functions of (seed, epoch, sample), whatever the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deeplense_batch.core.job import Augment
from deeplense_batch.data.augment import apply, central_crop, resize, uniforms
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.pixels.transform import Transform
from deeplense_batch.data.shards import ShardError, open_split

CPU = torch.device("cpu")
AFFINE = Augment(degrees=15, translate=0.05, scale=(0.95, 1.05))


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


@pytest.mark.parametrize("size", [None, 12, 24])
@pytest.mark.parametrize(
    "augment",
    [Augment(dihedral=True), AFFINE, Augment(blur=1.5), Augment(noise=0.1)],
    ids=["dihedral", "affine", "blur", "noise"],
)
def test_what_happens_to_a_sample_does_not_depend_on_its_batch(augment, size):
    images, index = torch.rand(9, 2, 16, 16), torch.arange(9)
    whole = apply(images, augment, seed=1, epoch=2, index=index, size=size)
    for part in ([0], [3, 4, 5, 6], [8, 2, 5]):
        alone = apply(images[part], augment, seed=1, epoch=2, index=index[part], size=size)
        assert torch.equal(alone, whole[part])
    for seed, epoch in ((1, 3), (2, 2)):
        other = apply(images, augment, seed=seed, epoch=epoch, index=index, size=size)
        assert not torch.equal(whole, other)


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


def test_one_resampling_does_what_its_parts_do():
    """Reflections and the affine change take other draws, so that both can be had one by one."""
    images, index = torch.rand(32, 2, 20, 20), torch.arange(32)
    options = {"seed": 3, "epoch": 1, "index": index}
    parts = apply(apply(images, Augment(dihedral=True), **options), AFFINE, **options)
    both = Augment(dihedral=True, **AFFINE.model_dump(include={"degrees", "translate", "scale"}))
    assert torch.allclose(apply(images, both, **options), parts, atol=1e-4)


def test_an_affine_change_of_nothing_resizes_as_resizing_does():
    images, index = torch.rand(4, 1, 15, 15), torch.arange(4)
    still = Augment(scale=(1.0, 1.0 + 1e-9))
    for size in (8, 24):
        warped = apply(images, still, seed=0, epoch=0, index=index, size=size)
        assert torch.allclose(warped, resize(images, size), atol=1e-4)


@pytest.mark.parametrize("shape", [(64, 64), (48, 80)])
def test_turning_leaves_what_is_round_as_it_is(shape):
    y, x = (torch.arange(n) - (n - 1) / 2 for n in shape)
    radius = torch.hypot(y[:, None], x)
    disc, seen = torch.exp(-(radius**2) / 72).expand(16, 1, *shape), radius < 22
    turned = apply(disc, Augment(degrees=180), seed=0, epoch=0, index=torch.arange(16))
    assert torch.allclose(turned[..., seen], disc[..., seen], atol=0.01)


def test_outside_the_image_is_the_sky_and_no_black():
    images = torch.full((8, 1, 30, 30), 2.0)
    wild = Augment(degrees=180, translate=0.9, scale=(0.2, 0.4))
    moved = apply(images, wild, seed=0, epoch=0, index=torch.arange(8))
    assert torch.allclose(moved, images, atol=1e-5)


def test_blur_is_a_gaussian_of_the_drawn_width_that_conserves_flux():
    images, index = torch.zeros(40, 2, 41, 41), torch.arange(40)
    images[:, :, 20, 20] = 1.0
    blurred = apply(images, Augment(blur=3.0), seed=5, epoch=1, index=index)
    assert torch.allclose(blurred.sum((2, 3)), torch.ones(40, 2), atol=1e-5)
    square = (torch.arange(41) - 20.0) ** 2
    widths = [(blurred.sum(axis) * square).sum(-1).sqrt() for axis in (2, 3)]
    sigma = 3.0 * uniforms(5, 1, index, 8)[:, 7:]
    drawn = (sigma > 0.6).flatten()  # a narrower one is hardly wider than its pixel
    assert 20 < int(drawn.sum()) < 40 and float(sigma.max()) > 2.5
    for width in widths:  # sums end at three times the largest sigma
        assert torch.allclose(width[drawn], sigma[drawn].expand(-1, 2), rtol=0.02)
    flat = torch.full((4, 1, 9, 9), 7.0)
    same = apply(flat, Augment(blur=30.0), seed=5, epoch=1, index=index[:4])
    assert torch.allclose(same, flat, atol=1e-4)


def test_noise_is_white_normal_and_as_strong_as_asked():
    images, index = torch.ones(200, 1, 31, 33), torch.arange(200)
    noise = (apply(images, Augment(noise=0.2), seed=4, epoch=9, index=index) - 1)[:, 0] / 0.2
    n = noise.numel()
    assert abs(float(noise.mean())) < 5 / n**0.5
    assert abs(float(noise.var()) - 1) < 5 * (2 / n) ** 0.5
    assert abs(float((noise**4).mean()) - 3) < 5 * (96 / n) ** 0.5
    assert 4 < float(noise.abs().max()) < 6
    pixels = noise.flatten(1)
    half = (31 * 33 + 1) // 2  # two pixels share a number; they too are independent
    for a, b in (
        (noise[:, 1:], noise[:, :-1]),
        (noise[..., 1:], noise[..., :-1]),
        (noise[1:], noise[:-1]),
        (pixels[:, half:], pixels[:, : half - 1]),
    ):
        assert abs(float((a * b).mean())) < 5 / a.numel() ** 0.5
        assert abs(float((a**2 * b**2).mean()) - 1) < 5 * (8 / a.numel()) ** 0.5


def test_a_batch_is_the_packed_images_decoded_cropped_stretched_and_normalised(shards):
    split = open_split(shards, "train")
    loader = Loader(split, transform=Transform(16, None, "asinh"), device=CPU)
    transform = loader.measured()
    loader.transform = transform
    images, targets, place = next(loader.batches([np.array([5, 2])]))
    values = split.images()[[5, 2], :, 4:20, 4:20]
    stretched = np.arcsinh(values / 0.05) / np.arcsinh(20)
    expected = (stretched - transform.mean[0]) / transform.sd[0]
    assert np.allclose(images.numpy(), expected, atol=1e-5)
    assert targets.tolist() == split.targets()[[5, 2]].tolist() and place.tolist() == [5, 2]
    everything = torch.cat([b[0] for b in loader.batches(loader.in_order(rank=0, world=1))])
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
    images, *_ = next(loader.batches([np.array([0])]))
    assert np.allclose(images.numpy(), counts / 65535, atol=1e-7)


def test_a_crop_larger_than_the_images_is_a_sentence(shards):
    with pytest.raises(ShardError, match="25 pixels asked, the images have 24 x 24"):
        Loader(open_split(shards, "train"), transform=Transform(25, None, "linear"), device=CPU)


@pytest.mark.parametrize(("edge", "first"), [(6, 1), (7, 1), (8, 2), (4, 0)])
def test_the_central_crop_leaves_out_the_smaller_half_of_an_odd_margin_first(edge, first):
    images = np.arange(2 * edge * 9).reshape(2, 1, edge, 9)
    cropped = central_crop(images, 4)
    assert np.array_equal(cropped, images[:, :, first : first + 4, 2:6])
    assert np.shares_memory(cropped, images) and central_crop(images, None) is images
    assert np.array_equal(central_crop(torch.from_numpy(images), 4).numpy(), cropped)


def test_resizing_keeps_the_mean():
    images = torch.rand(2, 1, 96, 96)
    small = Transform(None, 48, "linear")(images)
    assert small.shape == (2, 1, 48, 48)
    assert float(small.mean()) == pytest.approx(float(images.mean()), abs=1e-3)
