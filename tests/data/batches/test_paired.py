"""What goes with a batch of pairs is of the same samples, moved and normalised as these are."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_pairs import SHIFTS, coarse, sky, write_pairs, write_shifted

from deeplense_batch.core.job import Augment
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.batches.mixture import Mixture
from deeplense_batch.data.batches.paired import beside, companions_of, paired_loader
from deeplense_batch.data.pixels.transform import Transform
from deeplense_batch.data.shards import ShardError, open_split

CPU = torch.device("cpu")
MEAN, SD = 0.4, 0.3
PLAIN = Transform(None, None, "linear")


def loader_of(root, *, transform=PLAIN, resident="auto", slice_="train"):
    split = open_split(root, slice_)
    made = {"transform": transform, "device": CPU, "resident": resident}
    loader = Loader(split, companions=companions_of(split, **made), **made)
    loader.transform = replace(transform, mean=(MEAN,), sd=(SD,))
    return loader


def batches_of(images, asked, augment=None, **options):
    augment = augment or Augment()
    both = zip(
        images.batches(asked, augment, **options), beside(images, asked, augment, **options),
        strict=True,
    )  # fmt: skip
    return [(made[0], own, made[2]) for made, own in both]


@pytest.mark.parametrize("resident", ["device", "host", "off"])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_inputs_are_those_of_the_images_by_one_normalisation(tmp_path, resident, compression):
    images, inputs = write_pairs(tmp_path, 10, compression=compression)
    loader = loader_of(tmp_path, resident=resident)
    asked = [np.array([7, 0, 3]), np.array([9])]
    for (made, own, index), wanted in zip(batches_of(loader, asked), asked, strict=True):
        assert index.tolist() == wanted.tolist()
        np.testing.assert_allclose(made, (images[wanted] - MEAN) / SD, atol=1e-5)
        np.testing.assert_allclose(own["inputs"], (inputs[wanted] - MEAN) / SD, atol=1e-5)
        np.testing.assert_allclose(own["clean"], (images[wanted] + 1 - MEAN) / SD, atol=1e-5)
        assert own["inputs"].shape[2:] == (8, 8)


def test_random_reflections_move_both_alike(tmp_path):
    """Inputs are block sums, of which a reflection is that of the reflected image."""
    write_pairs(tmp_path, 10)
    loader = loader_of(tmp_path)
    asked = [np.arange(10), np.arange(10)[::-1].copy()]
    augment = Augment(dihedral=True)
    still = batches_of(loader, asked)
    for epoch in (0, 1):
        moved = batches_of(loader, asked, augment, seed=3, epoch=epoch)
        for (images, own, _), (before, _, _) in zip(moved, still, strict=True):
            sums = coarse((images.double() * SD + MEAN).numpy()) * 89 / 200
            np.testing.assert_allclose(own["inputs"] * SD + MEAN, sums, atol=1e-5)
            np.testing.assert_allclose(own["clean"] * SD, images * SD + 1, atol=1e-5)
            assert not torch.equal(images, before)


def test_a_crop_keeps_the_inputs_of_the_images_that_are_kept(tmp_path):
    write_pairs(tmp_path, 3)
    loader = loader_of(tmp_path, transform=replace(PLAIN, crop=8))
    ((images, own, _),) = batches_of(loader, [np.arange(3)])
    assert (images.shape[2:], own["inputs"].shape[2:]) == ((8, 8), (4, 4))
    sums = coarse((images.double() * SD + MEAN).numpy()) * 89 / 200
    np.testing.assert_allclose(own["inputs"] * SD + MEAN, sums, atol=1e-5)
    assert loader.companions["inputs"].transform.crop == 4


def test_several_sets_give_the_inputs_of_each_draw(tmp_path):
    members = []
    for name, count, seed in (("a", 4, 0), ("b", 7, 1)):
        write_pairs(tmp_path / name, count, seed=seed)
        members.append(loader_of(tmp_path / name))
    mixture = Mixture(members, [], members[0].info)
    mixture.transform = members[0].transform
    asked = [np.array([10, 0, 5, 3]), np.array([2, 4])]
    for images, own, _ in batches_of(mixture, asked, Augment(flips=True), seed=1, epoch=2):
        sums = coarse((images.double() * SD + MEAN).numpy()) * 89 / 200
        np.testing.assert_allclose(own["inputs"] * SD + MEAN, sums, atol=1e-5)


def test_images_alone_have_nothing_beside_them(tmp_path):
    write_pairs(tmp_path, 4, clean=False)
    split = open_split(tmp_path, "train")
    loader = Loader(split, transform=PLAIN, device=CPU)
    assert [*beside(loader, [np.arange(2)])] == [{}]
    assert set(companions_of(split, transform=PLAIN, device=CPU)) == {"inputs"}


def test_a_set_without_pairs_has_no_companions(tmp_path):
    from made_shards import write

    write(tmp_path, 4)
    with pytest.raises(ShardError, match="split train has no 'inputs'"):
        companions_of(open_split(tmp_path, "train"), transform=PLAIN, device=CPU)


@pytest.mark.parametrize("crop", [None, 24])
def test_registered_images_lie_where_their_inputs_do(tmp_path, crop):
    """Of pairs with known shifts the moved images are those of the shifted sky; inputs stay."""
    split = write_shifted(tmp_path)
    transform = replace(PLAIN, crop=crop)
    loader = paired_loader(split, transform=transform, device=CPU, registers=True)
    ((images, own, _),) = batches_of(loader, [np.arange(6)])
    inside = slice(12, -12) if crop is None else slice(4, -4)  # beyond, sky may have come in
    first = 0 if crop is None else 20
    for i, shift in enumerate(SHIFTS[:5]):
        wanted = sky(64, 1.0, shift, 2.5)[first : 64 - first, first : 64 - first][inside, inside]
        for made in (images[i, 0], own["clean"][i, 0]):
            error = made[inside, inside].numpy() - wanted
            assert np.sqrt((error**2).mean()) < 0.035  # noise of 0.02, and of the shift
    kept = slice(None) if crop is None else slice(10, 22)
    given = split.of("inputs").images()[..., kept, kept]
    np.testing.assert_allclose(own["inputs"], given, atol=1e-6)
    assert images.shape[-1] == (crop or 64)
