"""A curriculum: other images in the first epochs, in the one loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import make_images, make_job
from made_runs import same_result, weights
from made_sets import write_set
from made_shards import write_shards

from deeplense_batch.core.distributed import World
from deeplense_batch.core.job import JobError
from deeplense_batch.data.job_slices import open_slices
from deeplense_batch.data.shards import ShardError
from deeplense_batch.inference.model_card import card
from deeplense_batch.inference.trained import open_trained
from deeplense_batch.runs import scoring
from deeplense_batch.runs.planning.plan import plan, reopen
from deeplense_batch.runs.training_run import run
from deeplense_batch.training.images.loaders import open_loaders
from deeplense_batch.training.lessons import lessons
from deeplense_batch.training.setup import set_up
from deeplense_batch.training.trainer import Trainer

ALONE, ONE_OF_TWO = (World(0, size, torch.device("cpu")) for size in (1, 2))
NOISE = {"augment": {"dihedral": True, "photon_noise": True}}


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr(scoring, "save_figure", lambda figure, path: None)  # slow


@pytest.fixture
def sets(tmp_path):
    """Three sets of expected counts."""
    sizes = {"last": 24, "heavy": 18, "heavier": 30}
    return {
        name: write_set(
            tmp_path / name, train=size, seed=seed, level=60, sky=10.0, shape=(1, 16, 16)
        )
        for seed, (name, size) in enumerate(sizes.items())
    }


def job_of(sets, *curriculum, epochs=4, data=NOISE, **train):
    first = [{"root": str(sets[name]), "epochs": count} for name, count in curriculum]
    train = {"epochs": epochs, "batch_size": 8} | train
    model = {"name": "simple_cnn"}
    return make_job(sets["last"], model=model, data={"curriculum": first} | data, train=train)


def done(job, out):
    (item,) = plan([job], out)
    run(item, device="cpu")
    return item


def test_each_epoch_is_of_the_set_that_the_recipe_names(sets):
    job = job_of(sets, ("heavier", 2), ("heavy", 1), epochs=5, balance="weights")
    setup = set_up(job, ALONE)
    made = lessons(job, ALONE, setup.task, setup.train, setup.curriculum)
    assert [(one.name, one.last, len(one.images)) for one in made] == [
        ("heavier", 2, 30), ("heavy", 3, 18), ("last", 5, 24),
    ]  # fmt: skip
    assert [len(one.weights) for one in made] == [30, 18, 24]
    assert {one.images.transform for one in made} == {setup.train.transform}
    assert setup.samples["train"] == 24


def test_a_curriculum_of_the_same_images_changes_nothing(sets, tmp_path):
    """A draw is a function of seed, epoch and sample, whatever the folder of the set."""
    plain, same, other = (
        done(job_of(sets, *curriculum), tmp_path / name)
        for name, curriculum in (
            ("plain", []), ("same", [("last", 1), ("last", 2)]), ("other", [("heavy", 1)])
        )
    )  # fmt: skip
    assert same.run.name != plain.run.name
    alike = [
        all(torch.equal(value, weights(one)[name]) for name, value in weights(plain).items())
        for one in (same, other)
    ]
    assert alike == [True, False]


def test_a_run_says_what_it_was_trained_on_first(sets, tmp_path):
    item = done(job_of(sets, ("heavier", 2), patience=1), tmp_path)
    metrics = item.run.read_json("metrics.json")
    (first,) = metrics["data"]["curriculum"]
    assert (first["name"], first["epochs"], first["samples"]) == ("heavier", 2, 30)
    assert first["digest"] == item.training.data.curriculum[0].digest != metrics["data"]["digest"]
    assert (
        "trained on 24 images (`train`; before that 2 epochs on 30 of `train` of heavier, digest "
        f"`{first['digest']}`)"
    ) in card(open_trained(item.run.path), {})
    assert len(item.run.read_lines("history.jsonl")) >= 3  # patience counts from its end
    assert reopen(item.run.path).run.name == item.run.name


def test_another_set_in_a_folder_of_the_curriculum_is_found(sets, tmp_path):
    (item,) = plan([job_of(sets, ("heavy", 1), epochs=2)], tmp_path / "runs")
    item.create()
    assert reopen(item.run.path).run.name == item.run.name
    for path in sets["heavy"].iterdir():
        path.unlink()
    write_set(sets["heavy"], seed=7, level=60, sky=10.0, shape=(1, 16, 16))
    with pytest.raises(JobError, match=r"data.curriculum: .*heavy holds other data, "):
        reopen(item.run.path)


@pytest.mark.parametrize("epochs", [1, 2])
def test_cut_off_in_any_lesson_it_ends_as_if_nothing_had_happened(
    sets, tmp_path, monkeypatch, epochs
):
    job = job_of(sets, ("heavier", 2), ("heavy", 1), epochs=5, schedule="onecycle")
    whole = done(job, tmp_path / "whole")
    (cut,) = plan([job], tmp_path / "cut")
    whole_epoch = Trainer._train_epoch

    def cut_off(trainer):
        if trainer.epoch == epochs:
            raise OSError("the machine is gone")
        whole_epoch(trainer)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="is gone"):
        patch.setattr(Trainer, "_train_epoch", cut_off)
        run(cut, device="cpu")
    assert len(cut.run.read_lines("history.jsonl")) == epochs
    run(cut, device="cpu")
    assert cut.run.status().attempt == 2
    same_result(cut, whole)


def test_images_without_noise_are_told_with_the_scores(sets, tmp_path, caplog):
    item = done(job_of(sets, epochs=1, data={"augment": {}}), tmp_path)
    (note,) = [n for n in item.run.read_json("metrics.json")["test"]["notes"] if "noise" in n]
    assert note.startswith("images of last are expected counts") and note in caplog.text


def test_the_last_set_can_be_had_without_those_before_it(sets):
    """As to measure how fast it is."""
    job = job_of(sets, ("heavy", 1))
    _, loaders = open_loaders(job, ALONE, {"train": open_slices(job)["train"]})
    assert loaders["curriculum"] == () and len(loaders["train"]) == 24


def test_a_step_has_an_image_for_each_process_in_every_lesson(sets):
    job = job_of(sets, ("heavy", 1), batch_size=1)
    setup = set_up(job, ALONE)
    with pytest.raises(JobError, match="a step of the 18 samples has 1, less than one for each"):
        lessons(job, ONE_OF_TWO, setup.task, setup.train, setup.curriculum)


def test_a_set_of_which_nothing_learnt_is_known_is_refused(tmp_path):
    roots = [tmp_path / name for name in ("last", "first")]
    for seed, root in enumerate(roots):
        images, targets = make_images(24, 3 + seed)
        for split in ("train", "val"):
            mass = np.arange(24) + 1.0 if not seed else np.full(24, np.nan)
            write_shards(root, split, images, targets, truth={"mass": mass})
    first = {"root": str(roots[1]), "epochs": 1}
    job = make_job(roots[0], data={"curriculum": [first]},
                   task={"name": "regression", "options": {"target": "mass"}})  # fmt: skip
    setup = set_up(job, ALONE)
    with pytest.raises(ShardError, match=r"first: train: what is learnt is known of no image"):
        lessons(job, ALONE, setup.task, setup.train, setup.curriculum)
