"""A training on new images is the same whatever cuts it off and however many share it."""

from __future__ import annotations

import pytest
from conftest import make_job
from made_runs import kill_in_mid_epoch, same_result, weights

from deeplense_batch.inference.model_card import card
from deeplense_batch.inference.trained import open_trained
from deeplense_batch.report.run_table import read_rows
from deeplense_batch.runs.launch import execute
from deeplense_batch.runs.planning.plan import plan
from deeplense_batch.runs.training_run import run
from deeplense_batch.simulation.simulate import simulate


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets") / "varied"
    simulate("substructure", root, preset="varied", images=24, size=32)
    return root


def job_of(root, *, images=30, **fields):
    data = {"simulate": {"images": images}, "augment": {"dihedral": True}}
    train = {"epochs": 3, "batch_size": 10}
    engine = {"checkpoint_minutes": 1e-6}  # after every step
    return make_job(root, **({"data": data, "train": train, "engine": engine} | fields))


@pytest.fixture(scope="module")
def whole(root, tmp_path_factory):
    (item,) = plan([job_of(root)], tmp_path_factory.mktemp("runs"))
    run(item, device="cpu")
    return item


def test_the_run_and_the_report_say_what_it_was_trained_on(whole):
    data = whole.run.read_json("metrics.json")["data"]
    assert data["samples"]["train"] == 30 and data["simulate"]["preset"] == "varied"
    words = "30 new images of varied an epoch"
    text = card(open_trained(whole.run.path), {})
    assert f"trained on 30 images ({words}, normalised as `train`)" in text
    (row,) = read_rows(whole.run.path.parent.parent)
    assert row["training"]["name"] == words and "simulated:" in row["training"]["digest"]
    notes = whole.run.read_json("metrics.json")["test"]["notes"]
    assert not any("was trained on" in note for note in notes)


def test_killed_in_mid_epoch_it_ends_as_if_nothing_had_happened(root, tmp_path, whole, gate):
    (item,) = plan([job_of(root)], tmp_path)
    kill_in_mid_epoch(item, gate)
    run(item, device="cpu")
    same_result(item, whole)


def test_two_processes_make_the_weights_of_one(root, tmp_path):
    train = {"epochs": 2, "batch_size": 15, "optimizer": "sgd", "lr": 0.01}
    job = job_of(root, train=train, model={"name": "test_vit"}, engine={})
    job = job.model_copy(update={"data": job.data.model_copy(update={"size": 48})})
    (one,), (two,) = plan([job], tmp_path / "one"), plan([job], tmp_path / "two")
    run(one, device="cpu")
    assert execute(two, device="cpu", processes=2) == 0
    a, b = weights(one), weights(two)
    assert max(float((a[name] - b[name]).abs().max()) for name in a) < 1e-6


def test_after_a_curriculum(root, tmp_path):
    first = [{"root": str(root), "epochs": 1}]
    data = {"simulate": {"images": 12}, "curriculum": first}
    (item,) = plan([job_of(root, data=data, train={"epochs": 2, "batch_size": 6})], tmp_path)
    run(item, device="cpu")
    (row,) = read_rows(tmp_path)
    assert row["training"]["name"] == "varied (1 epoch), then 12 new images of varied an epoch"


def test_truth_is_learnt_of_new_images(root, tmp_path):
    task = {"name": "regression", "options": {"target": "theta_e"}}
    (item,) = plan([job_of(root, task=task, images=12)], tmp_path)
    run(item, device="cpu")
    assert item.run.read_json("metrics.json")["test"]["scores"]["r2"] is not None


def test_truth_that_only_some_new_images_would_have_is_refused(root, tmp_path):
    task = {"name": "regression", "options": {"target": "axion_mass_ev", "log10": True}}
    (item,) = plan([job_of(root, task=task, images=12)], tmp_path)
    with pytest.raises(
        ValueError, match=r"lack what is learnt in .*varied train, and so would new"
    ):
        run(item, device="cpu")
