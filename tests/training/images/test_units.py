"""Images in another unit are told from those that they are normalised as."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from made_sets import write_set

from deeplense_batch.core.sections.data import DataSection
from deeplense_batch.data.batches.loader import Loader
from deeplense_batch.data.pixels.transform import Transform
from deeplense_batch.data.shards import open_split
from deeplense_batch.training.images.units import about_unit


def loader_of(root, **data):
    transform = Transform.of(DataSection(root=str(root), **data))
    return Loader(open_split(root, "train"), transform=transform, device=torch.device("cpu"))


@pytest.mark.parametrize(("level", "said"), [(0.0, False), (500.0, True)])
def test_that_of_other_images_is_said(tmp_path, level, said):
    measured = loader_of(write_set(tmp_path / "a")).measured()
    other = loader_of(write_set(tmp_path / "b", seed=1, level=level))
    other.transform = measured
    about = about_unit(other)
    assert (about is not None) == said
    assert not said or "in the same unit" in str(about)


def test_nothing_is_said_of_images_that_are_normalised_each_by_itself(tmp_path):
    loader = loader_of(write_set(tmp_path / "a", level=500.0), per="image")
    loader.transform = replace(loader.measured(), mean=(0.0,), sd=(1.0,))
    assert about_unit(loader) is None
