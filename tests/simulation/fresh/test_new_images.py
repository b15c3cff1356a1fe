"""Batches of new images are those of the same images in shards."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deeplense_batch.core.job import Augment
from deeplense_batch.core.sections.data import DataSection
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.batches.paired import beside, paired_loader
from deeplense_batch.data.pixels.transform import Transform
from deeplense_batch.data.shards import ShardError, open_split
from deeplense_batch.data.writer import ShardWriter
from deeplense_batch.simulation.fresh.new_images import NewImages
from deeplense_batch.simulation.fresh.source import Source
from deeplense_batch.simulation.pairs.super_resolution import SuperResolution
from deeplense_batch.simulation.substructure import Diffusion, Substructure

CPU = torch.device("cpu")
N, SIZE = 9, 32


def stored(maker, root, *, epoch: int):
    """The images of an epoch of a source as shards, numbered as there."""
    made = Source(maker, images=N, seed=5).made(epoch, [np.arange(N)], 0)
    paired = {} if made.pairs is None else {"inputs_dtype": maker.inputs_dtype}
    with ShardWriter(
        root, split="train", shape=maker.shape, stored=maker.stored, dtype=maker.dtype,
        classes=maker.classes, source="tests", seed=0, pixel_scale=maker.pixel_scale,
        sky=maker.sky, **paired,
    ) as writer:  # fmt: skip
        classes = len(maker.classes)
        writer.append(
            made.images, scale=made.scale, truth=made.truth, pairs=made.pairs,
            targets=np.arange(N) % classes if classes else [-1] * N,
            ids=[f"{i}" for i in range(N)],
        )  # fmt: skip
        writer.publish()
    return open_split(root, "train")


def loader_of(split, *, truths=(), paired=False, classes=None, **data):
    info = split.info.renamed(classes or {})
    split = type(split)(info, split.start, split.stop)
    make = paired_loader if paired else Loader
    loader = make(
        split, transform=Transform.of(DataSection(root="-", **data)), device=CPU, truths=truths
    )
    loader.transform = loader.measured()
    return loader


def same(new, old, *, epoch, augment=Augment()):  # noqa: B008
    batches = [np.array([4, 0, 7]), np.array([1]), np.array([8, 2, 3, 5, 6])]
    options = {"augment": augment, "seed": 3, "epoch": epoch}
    both = [each.batches(batches, **options) for each in (new, old)]
    more = [beside(each, batches, **options) for each in (new, old)]
    for own, other, companions, others in zip(*both, *more, strict=True):
        assert all(map(torch.equal, own, other))
        for name, values in others.items():
            assert torch.equal(companions[name], values)
        assert companions.keys() == others.keys()
        truth = new.truth_of(own[2])
        assert truth.keys() == old.truth_of(own[2]).keys()
        for name, values in old.truth_of(own[2]).items():
            assert torch.equal(truth[name].nan_to_num(-1), values.nan_to_num(-1)), name


@pytest.mark.parametrize(
    ("maker", "options"),
    [
        (Substructure("varied", size=SIZE), {"crop": 24, "truths": ("theta_e", "vortex")}),
        (Substructure("varied", size=SIZE), {"classes": {"vort": "no"}, "size": 40}),
        (
            Substructure("common_test_1", size=SIZE, keep="clean"),
            {"augment": {"photon_noise": True}},
        ),
        (Substructure("common_test_1", size=SIZE, keep="clean"), {"stretch": "asinh"}),
        (Diffusion("varied", size=SIZE), {}),
        (SuperResolution("iii_a_substructure", size=SIZE), {"paired": True, "crop": 24}),
        (SuperResolution("hsc_hst", size=SIZE), {"paired": True}),
    ],
    ids=str,
)
def test_they_are_what_shards_of_the_same_images_give(maker, options, tmp_path):
    like = loader_of(stored(maker, tmp_path / "like", epoch=-1), **options)
    augment = Augment(dihedral=True, **options.get("augment", {}))
    new = NewImages(like, Source(maker, images=N, seed=5))
    for epoch in (0, 1):
        old = loader_of(stored(maker, tmp_path / str(epoch), epoch=epoch), **options)
        old.transform = like.transform
        same(new, old, epoch=epoch, augment=augment)
    new.close()


def test_truth_that_is_not_simulated_is_named(tmp_path):
    maker = Substructure("varied", size=SIZE)
    like = loader_of(stored(maker, tmp_path / "like", epoch=0))
    like.truth["colour"] = np.zeros(N)
    new = NewImages(like, Source(maker, images=N, seed=5))
    with pytest.raises(
        ShardError, match=r"knows no truth/colour, which the images of .*like have"
    ):
        next(new.batches([np.arange(3)]))


def test_what_it_is_called(tmp_path):
    maker = Substructure("varied", size=SIZE)
    new = NewImages(
        loader_of(stored(maker, tmp_path / "like", epoch=0)), Source(maker, images=7, seed=5)
    )
    assert new.name.startswith("new images: substructure, preset varied") and len(new) == 7
    assert new.targets.tolist() == [0, 1, 2, 0, 1, 2, 0] and new.is_new
