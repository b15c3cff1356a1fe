"""A training that is adapted reads no label of the target, and is the same however it is run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import make_job
from made_runs import kill_in_mid_epoch, same_result, weights
from made_sets import pixels, write_set
from made_shards import write_shards

from deeplense_batch.core.job import Job
from deeplense_batch.data.shards import data_digest
from deeplense_batch.inference.model_card import card
from deeplense_batch.inference.trained import open_trained
from deeplense_batch.runs.launch import execute
from deeplense_batch.runs.planning.plan import PlannedRun, plan
from deeplense_batch.runs.training_run import run
from deeplense_batch.training.trainer import BEST

CLASSES = ("no", "sphere", "vort")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return write_set(tmp_path_factory.mktemp("sets") / "source", train=40, val=12)


@pytest.fixture(scope="module")
def target(tmp_path_factory) -> Path:
    return write_set(tmp_path_factory.mktemp("sets") / "target", train=25, seed=1, level=2.0)


def adapted(source: Path, target: Path, by: str = "mmd", **fields) -> Job:
    adapt = {"to": {"root": str(target)}, "by": by}
    train = {"epochs": 2, "batch_size": 8, "lr": 5e-3}
    engine = {"checkpoint_minutes": 1e-6}  # after every step
    options = {"task": {"options": {"adapt": adapt}}, "train": train, "engine": engine}
    return make_job(source, **(options | fields))


def planned(job: Job, out: Path) -> PlannedRun:
    return plan([job], out)[0]


@pytest.fixture(scope="module")
def whole(source, target, tmp_path_factory) -> PlannedRun:
    item = planned(adapted(source, target), tmp_path_factory.mktemp("runs"))
    run(item, device="cpu")
    return item


def test_labels_of_the_target_change_nothing(source, tmp_path, whole):
    images = pixels(25, (1, 12, 12), 2, 2.0)  # those of the target
    for name, targets, classes in (
        ("shuffled", np.random.default_rng(0).permutation(np.arange(25) % 3), CLASSES),
        ("unlabelled", [-1] * 25, ()),
    ):
        write_shards(tmp_path / name, "train", images, targets, classes)
        item = planned(adapted(source, tmp_path / name), tmp_path / "runs")
        assert item.run.name != whole.run.name
        run(item, device="cpu")
        same_result(item, whole)


def test_the_images_of_the_target_do(source, tmp_path, whole):
    write_shards(tmp_path / "other", "train", pixels(25, (1, 12, 12), 9), [0] * 25)
    item = planned(adapted(source, tmp_path / "other"), tmp_path / "runs")
    run(item, device="cpu")
    a, b = weights(item), weights(whole)
    assert any(not a[name].equal(b[name]) for name in a)


def test_killed_in_mid_epoch_it_ends_as_if_nothing_had_happened(
    source, target, tmp_path, whole, gate
):
    item = planned(adapted(source, target), tmp_path)
    kill_in_mid_epoch(item, gate)
    run(item, device="cpu")
    same_result(item, whole)


def test_two_processes_make_the_weights_of_one(source, target, tmp_path):
    """By a discriminator, whose loss is a mean over images, and a network without batch norm."""
    train = {"epochs": 1, "batch_size": 15, "optimizer": "sgd", "lr": 0.01}
    fields = {"model": {"name": "test_vit"}, "data": {"size": 48}, "train": train, "engine": {}}
    job = adapted(source, target, "dann", **fields)
    one, two = planned(job, tmp_path / "one"), planned(job, tmp_path / "two")
    run(one, device="cpu")
    assert execute(two, device="cpu", processes=2) == 0
    a, b = weights(one), weights(two)
    assert any(name.startswith("discriminator.") for name in a)
    assert max(float((a[name] - b[name]).abs().max()) for name in a) < 1e-6


def test_a_finished_run_answers_and_says_what_it_was_adapted_to(whole, target):
    trained = open_trained(whole.run.path)
    kept = trained.model.state_dict()
    assert kept.keys() == weights(whole, BEST).keys()
    assert trained.job.task.adaptation.to.digest == data_digest(target)
    text = card(trained, {})
    digest = data_digest(target)
    assert f"adapted by mmd to `train` of target, digest `{digest}`, without labels" in text
    assert "root: target" in text and str(target) not in text  # no user's path
    (line, _) = whole.run.read_lines("history.jsonl")
    assert line["train"]["loss"] == pytest.approx(
        line["train"]["cross_entropy"] + line["train"]["mmd"]
    )
