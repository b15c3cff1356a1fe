"""What is known of an adaptation before anything runs."""

from __future__ import annotations

import pytest
from conftest import make_job
from made_sets import write_set

from deeplense_batch.core.job import JobError
from deeplense_batch.data.shards import ShardError, data_digest
from deeplense_batch.runs.planning.plan import plan, reopen


@pytest.fixture
def sets(tmp_path):
    return [write_set(tmp_path / name, seed=seed) for seed, name in enumerate("ab")]


def adapted(a, b, by="coral", **fields):
    adapt = {"to": {"root": str(b)}, "by": by}
    return make_job(a, **({"task": {"options": {"adapt": adapt}}} | fields))


def planned(tmp_path, *arguments, **fields):
    return plan([adapted(*arguments, **fields)], tmp_path / "runs")[0]


def test_a_run_is_named_by_what_the_target_holds_and_goes_on_only_with_that(
    tmp_path, sets, monkeypatch
):
    a, b = sets
    monkeypatch.chdir(tmp_path)
    item = planned(tmp_path, a, "b")
    to = item.training.task.adaptation.to
    assert (to.root, to.digest) == (str(b), data_digest(b))
    moved = write_set(tmp_path / "moved", seed=1)
    assert data_digest(moved) == to.digest
    assert planned(tmp_path, a, moved).run.path == item.run.path
    directory = item.create()
    assert reopen(directory.path).training == item.training
    for path in b.iterdir():
        path.unlink()
    assert reopen(directory.path).digest == ""  # the run will say that they are gone
    write_set(b, seed=2)
    with pytest.raises(JobError, match=r"adapt.to: .*b holds other data, \w{16}, than when the"):
        reopen(directory.path)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"train": {"mixup": 0.2}}, "train.mixup: got 0.2, and task.options.adapt would compare"),
        ({"train": {"micro_batch": 1}}, "coral compares .*, here 1 of each set; expected 2"),
        ({"train": {"batch_size": 3}, "resources": {"gpus": 0, "processes": 2}}, "here 1 of each"),
        ({"model": {"name": "deit_tiny_distilled_patch16_224"}, "data": {"size": 224}},
         "model.name: deit_tiny_distilled_patch16_224: .* does not tell one layer"),
    ],
)  # fmt: skip
def test_a_training_that_does_not_go_with_it_is_refused(tmp_path, sets, fields, sentence):
    with pytest.raises(JobError, match=sentence) as told:
        planned(tmp_path, *sets, **fields)
    assert str(told.value).startswith("small: ") and not (tmp_path / "runs").exists()


@pytest.mark.parametrize("by", ["coral", "mmd", "dann"])
def test_one_image_is_no_target(tmp_path, sets, by):
    a, b = sets
    for slice_, count in (("train[:1]", 1), ("train[:2]", 2)):
        adapt = {"to": {"root": str(b), "slice": slice_}, "by": by}
        job = make_job(a, task={"options": {"adapt": adapt}})
        if count > 1:
            assert plan([job], tmp_path / "runs")
            continue
        with pytest.raises(
            JobError, match=rf"adapt.to: train\[:1\] of {b} has 1 image, .* {by} .*; expected 2 or"
        ):
            plan([job], tmp_path / "runs")


def test_a_discriminator_takes_images_one_by_one(tmp_path, sets):
    assert planned(tmp_path, *sets, by="dann", train={"micro_batch": 1}).training


def test_other_faults_of_the_target_are_told_too(tmp_path, sets):
    a, b = sets
    with pytest.raises(ShardError, match=r"^small: .*nowhere"):
        planned(tmp_path, a, tmp_path / "nowhere")
    with pytest.raises(JobError, match=r"'a' train and data\.train 'train' share samples"):
        planned(tmp_path, a, a)
    with pytest.raises(JobError, match=r"small: task\.options\.adapt\.by: got 'no'; allowed: "):
        planned(tmp_path, a, b, by="no")
    with pytest.raises(JobError, match=r"adapt: unknown to regression"):
        planned(tmp_path, a, b, task={"name": "regression", "options": {"adapt": {}}})
