"""The images that a job is adapted to: seen as the others are, or refused in one sentence."""

from __future__ import annotations

import pytest
from conftest import make_job
from made_sets import write_set

from deeplense_batch.core.job import JobError
from deeplense_batch.data.job_slices import open_slices
from deeplense_batch.data.mixed_sets import open_training_sets
from deeplense_batch.data.shards import ShardError
from deeplense_batch.data.slices.target_set import open_target


def opened(root, to, slice_="train", **data):
    adapt = {"to": {"root": str(to), "slice": slice_}, "by": "coral"}
    job = make_job(root, task={"options": {"adapt": adapt}}, data=data)
    slices = open_slices(job)
    sets = open_training_sets(job, slices)
    return open_target(job, job.task.adaptation, slices, sets)


def refused(error, *arguments, **data):
    with pytest.raises(error) as told:
        opened(*arguments, **data)
    return str(told.value)


@pytest.fixture
def a(tmp_path):
    return write_set(tmp_path / "a")


def test_classes_do_not_matter(tmp_path, a):
    others = (("ring",), (), ("x", "y", "z", "u"))
    for seed, classes in enumerate(others, start=1):
        b = write_set(tmp_path / f"b{seed}", classes=classes, seed=seed)
        assert len(opened(a, b)) == 24 and len(opened(a, b, "val")) == 18
        assert len(opened(a, b, classes={"no": "vort"})) == 24  # of the labelled images


def test_it_is_cropped_and_its_channels_are_chosen_as_those_of_the_source(tmp_path, a):
    b = write_set(tmp_path / "b", shape=(3, 20, 20), seed=1)
    split = opened(a, b, crop=10, channels=[0])
    assert split.info.shape == (1, 20, 20)
    assert refused(ShardError, a, b) == (
        f"task.options.adapt.to: {b} has 3 channels, {a} 1; data.channels chooses the same number "
        "of both: [0], or mean"
    )
    larger = write_set(tmp_path / "c", shape=(1, 20, 20), seed=2)
    assert refused(ShardError, a, larger) == (
        f"task.options.adapt.to: the images of {larger} have 20 x 20 pixels, those of {a} "
        "12 x 12; data.crop or data.size makes them one size"
    )
    assert len(opened(a, larger, size=16)) == 24
    sentence = refused(ShardError, larger, a, crop=14)
    assert sentence == f"{a}: data.crop asks for 14 pixels, the images have 12 x 12"


def test_other_bands_are_refused(tmp_path):
    a, b = (write_set(tmp_path / n, bands=(n,), seed=i) for i, n in enumerate(("g", "r")))
    sentence = refused(ShardError, a, b)
    assert f"the channels of {b} are the bands r, those of {a} g; choose the same" in sentence


def test_images_that_are_scored_or_learnt_from_are_refused(tmp_path, a):
    for slice_, use in (("val", "data.valid 'val[:50%]'"), ("val[50%:]", "data.test 'val[50%:]'"),
                        ("train[:3]", "data.train 'train'")):  # fmt: skip
        sentence = refused(JobError, a, a, slice_)
        assert sentence.startswith(f"small: task.options.adapt.to 'a' {slice_} and {use} share")
    b = write_set(tmp_path / "b", seed=1)
    sentence = refused(JobError, a, b, roots=[{"root": str(a)}, {"root": str(b)}])
    assert "'b' train and data.roots 'b' train share samples" in sentence
    assert len(opened(a, a, "train[50%:]", train="train[:50%]")) == 12
