"""What every kind of batches shares: a sample does not depend on how batches are cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made_sets import write_set

from deeplense_batch.core.job import Augment
from deeplense_batch.core.sections.data import DataSection
from deeplense_batch.data.batches.making import Batches
from deeplense_batch.data.pixels.transform import Transform
from deeplense_batch.data.shards import read_splits

N = 12


class InMemory(Batches):
    """Images that are held as they are."""

    def __init__(self, root, images: torch.Tensor, **data) -> None:
        info = read_splits(root)["train"]
        transform = Transform.of(DataSection(root=str(root), **data))
        super().__init__(info, transform, images.device, torch.arange(len(images)) % 3, {})
        self._images, self._truth = images, {"mass": torch.arange(float(len(images)))}
        self.epochs: list[int] = []

    def _gathered(self, batches, epoch=0):
        self.epochs.append(epoch)
        for batch in batches:
            index = torch.from_numpy(batch)
            yield self._images[index], index


@pytest.fixture
def images():
    return torch.from_numpy(np.random.default_rng(0).normal(0, 1, (N, 1, 12, 12))).float()


@pytest.fixture
def root(tmp_path):
    return write_set(tmp_path / "set")


def joined(batches, cut, **options):
    parts = [*batches.batches([np.array(each) for each in cut], **options)]
    return [torch.cat(values) for values in zip(*parts, strict=True)]


def test_batches_have_images_labels_and_numbers(root, images):
    batches = InMemory(root, images)
    got, targets, index = joined(batches, [[3, 1], [5]], epoch=7)
    assert torch.equal(got, images[[3, 1, 5]]) and targets.tolist() == [0, 1, 2]
    assert index.tolist() == [3, 1, 5] and batches.epochs == [7]
    assert batches.truth_of(index)["mass"].tolist() == [3, 1, 5]
    assert len(batches) == N and batches.name == "set"


def test_random_changes_are_of_the_sample_not_of_its_batch(root, images):
    batches = InMemory(root, images)
    changes = {"augment": Augment(dihedral=True, translate=0.2, noise=0.1), "seed": 1, "epoch": 2}
    whole = joined(batches, [range(N)], **changes)
    cut = joined(batches, [range(5), range(5, 6), range(6, N)], **changes)
    assert torch.equal(whole[0], cut[0])
    other = joined(batches, [range(N)], **(changes | {"epoch": 3}))
    assert not torch.equal(whole[0], other[0])


def test_keys_stand_for_the_samples(root, images):
    same = images[:1].repeat(2, 1, 1, 1)
    changes = {"augment": Augment(noise=0.1)}
    first, second = joined(InMemory(root, same), [[0, 0]], keys=[np.array([0, 1])], **changes)[0]
    assert not torch.equal(first, second)


def test_nothing_is_asked_for_nothing(root, images):
    assert not [*InMemory(root, images).batches([])]
