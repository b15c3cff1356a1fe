"""Unlabelled images are made ready as the labelled ones are."""

from __future__ import annotations

import pytest
import torch
from conftest import make_job
from made_sets import pixels, write_set
from made_shards import write_shards

from deeplense_batch.core.distributed import World
from deeplense_batch.data.shards import ShardError
from deeplense_batch.training.setup import set_up
from deeplense_batch.training.target import about_target

ALONE = World(0, 1, torch.device("cpu"))


def ready(root, to, **data):
    adapt = {"to": {"root": str(to)}, "by": "coral"}
    job = make_job(root, task={"options": {"adapt": adapt}}, data={"augment": {}} | data)
    return set_up(job, ALONE)


def test_they_are_normalised_by_the_mean_and_sd_of_the_labelled_ones(tmp_path):
    a = write_set(tmp_path / "a", train=60)
    b = write_set(tmp_path / "b", train=60, seed=1, level=3.0)
    setup = ready(a, b, size=16)
    (batch,) = setup.unlabelled.batches(60, 60, setup.job.data.augment, seed=0, epoch=0)
    mean, sd = pixels(60, (1, 12, 12), 0).mean(), pixels(60, (1, 12, 12), 0).std()
    own = (pixels(60, (1, 12, 12), 2, 3.0) - mean) / sd
    assert batch.shape == (60, 1, 16, 16)
    assert float(batch.mean()) == pytest.approx(own.mean(), rel=1e-3)
    assert len(setup.unlabelled) == 60 and not setup.notes
    assert ready(a, b, per="image").unlabelled is not None


def test_another_unit_is_said(tmp_path):
    a, b = write_set(tmp_path / "a"), write_set(tmp_path / "b", seed=1, level=500.0)
    (note,) = ready(a, b).notes
    assert note.startswith(f"task.options.adapt.to: {b}: stretched (linear) and normalised like")
    assert note.endswith("are they in the same unit?")
    assert [*about_target(ready(a, b, per="image").unlabelled)] == []


def test_constant_images_are_named_where_each_is_normalised_by_itself(tmp_path):
    a = write_set(tmp_path / "a")
    images = pixels(6, (1, 12, 12), 5)
    images[2] = 1.0
    b = tmp_path / "b"
    write_shards(b, "train", images, [0, 1, 2] * 2)
    with pytest.raises(ShardError, match=r"b: train: 1 of 6 images is constant once stretched"):
        ready(a, b, per="image")
    assert ready(a, b).unlabelled is not None
