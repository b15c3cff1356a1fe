"""Whether the numbers that a task learns are known, of images it learns from or is scored on."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import make_images, make_job
from made_runs import untrained
from made_shards import write_shards

from deeplense_batch.core.job import JobError
from deeplense_batch.core.recipe import evaluation_of
from deeplense_batch.data.shards import ShardError
from deeplense_batch.runs.planning.plan import plan

COUNT = 24


def write_numbers(root, **of_val):
    """Splits ``train`` and ``val`` with numbers behind the images; `of_val` has others."""
    images, targets = make_images(COUNT, 3)
    some = np.arange(COUNT) + 1.0
    truth = {"mass": some, "same": np.ones(COUNT), "place": some - 10, "other": some}
    truth["other"] = np.where(np.arange(COUNT) < 12, some, np.nan)
    for split, own in (("train", truth), ("val", truth | of_val)):
        write_shards(root, split, images, targets, truth=own)
    return root


def learning(*targets, **options):
    return {"name": "regression", "options": {"targets": [*targets], **options}}


def test_a_number_that_nothing_can_be_scored_by_is_refused_with_its_slice(tmp_path):
    root = write_numbers(tmp_path / "a")
    halves = {"valid": "val[:50%]", "test": "val[50%:]"}
    sentence = r"a: val\[50%:\]: task.options.targets: other is unknown in all images"
    for options in ({}, {"posterior": "gaussian"}):
        with pytest.raises(ShardError, match=sentence):
            plan([make_job(root, data=halves, task=learning("mass", "other", **options))], "runs")
    assert plan([make_job(root, data=halves, task=learning("mass"))], "runs")
    known = {"valid": "val[:4]", "test": "val[4:14]"}
    assert plan([make_job(root, data=known, task=learning("mass", "other"))], "runs")


def test_one_number_that_is_unknown_is_refused_too(tmp_path):
    root = write_numbers(tmp_path / "a", mass=np.zeros(COUNT))
    one = {"name": "regression", "options": {"target": "mass"}}
    with pytest.raises(ShardError, match=r"\]: task.options.target: log10 mass is unknown in all"):
        plan([make_job(root, task=one)], "runs")


def test_a_number_that_is_one_and_the_same_is_refused(tmp_path):
    root = write_numbers(tmp_path / "a")
    with pytest.raises(JobError, match=r"^small: task.options.targets: same is one and the same"):
        plan([make_job(root, task=learning("mass", "same"))], "runs")
    first = {"train": "train[:1]"}
    with pytest.raises(JobError, match="mass is one and the same, or unknown, in all images"):
        plan([make_job(root, data=first, task=learning("mass"))], "runs")


def test_numbers_below_0_have_no_logarithm(tmp_path):
    root = write_numbers(tmp_path / "a")
    with pytest.raises(
        ShardError, match=r"a: train: task.options.log10: 9 of 24 images have a place below 0"
    ):
        plan([make_job(root, task=learning("mass", "place", log10=["place"]))], "runs")
    assert plan([make_job(root, task=learning("mass", "place", log10=["mass"]))], "runs")


def test_a_mixture_is_looked_at_as_one_set_and_a_curriculum_apart(tmp_path):
    """A number may be the same in each of two sets, and another in the other."""
    a, b = write_numbers(tmp_path / "a"), tmp_path / "b"
    images, targets = make_images(COUNT, 3)
    truth = {"same": np.full(COUNT, 2.0), "mass": -np.ones(COUNT)}
    write_shards(b, "train", images + 1, targets, truth=truth)
    sets = {"roots": [{"root": str(each)} for each in (a, b)], "augment": {}}
    assert plan([make_job(a, data=sets, task=learning("same"))], "runs")
    first = {"curriculum": [{"root": str(b), "epochs": 1}]}
    with pytest.raises(JobError, match="same is one and the same"):
        plan([make_job(a, data=first, task=learning("same"))], "runs")
    with pytest.raises(ShardError, match=r"b: train: task.options.log10: 24 of 24 images have"):
        plan([make_job(a, data=first, task=learning("mass", log10=["mass"]))], "runs")


def test_an_evaluation_is_of_images_of_which_the_number_is_known(tmp_path):
    root = write_numbers(tmp_path / "a")
    known = {"valid": "val[:4]", "test": "val[4:14]"}
    job = make_job(root, data=known, task=learning("mass", "other"))
    trained = untrained(job, tmp_path / "runs")
    jobs = [
        evaluation_of([trained.run.path], root, slice_, seed=0)
        for slice_ in ("val[:50%]", "val[50%:]")
    ]
    assert plan(jobs[:1], tmp_path / "runs")
    with pytest.raises(JobError, match=r"a: val\[50%:\]: .* other is unknown in all images"):
        plan(jobs[1:], tmp_path / "runs")
