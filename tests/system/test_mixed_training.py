"""A training on several sets is the same whatever cuts it off and however many share it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import make_job, write_split
from made_runs import kill_in_mid_epoch, same_result, weights

from deeplense_batch.core.job import Job, JobError
from deeplense_batch.data.shards import data_digest
from deeplense_batch.runs.launch import execute
from deeplense_batch.runs.planning.plan import PlannedRun, plan, reopen
from deeplense_batch.runs.training_run import run
from deeplense_batch.training.trainer import BEST


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Path:
    """A second set of shards, smaller than the first."""
    root = tmp_path_factory.mktemp("other") / "other"
    write_split(root, "train", 60, seed=11)
    write_split(root, "val", 30, seed=12)
    return root


def mixed(shards: Path, other: Path, **fields) -> Job:
    """A job that draws twice as many images of the smaller set as of the larger."""
    sets = [{"root": str(shards), "weight": 1.0}, {"root": str(other), "weight": 2.0}]
    data = {"roots": sets, "augment": {"dihedral": True, "translate": 0.1}}
    train = {"epochs": 3, "batch_size": 20, "balance": "sampler"}
    engine = {"checkpoint_minutes": 1e-6}  # after every step
    return make_job(shards, **({"data": data, "train": train, "engine": engine} | fields))


def planned(job: Job, out: Path) -> PlannedRun:
    return plan([job], out)[0]


@pytest.fixture(scope="module")
def whole(shards, other, tmp_path_factory) -> PlannedRun:
    item = planned(mixed(shards, other), tmp_path_factory.mktemp("runs"))
    run(item, device="cpu")
    return item


def test_the_result_names_the_sets(whole, shards, other):
    data = whole.run.read_json("metrics.json")["data"]
    assert data["samples"] == {"train": 180, "valid": 53, "test": 54}
    assert data["roots"] == [
        {"name": root.name, "train": "train", "weight": weight, "digest": data_digest(root),
         "samples": samples}
        for root, weight, samples in ((shards, 1.0, 120), (other, 2.0, 60))
    ]  # fmt: skip
    assert data["digest"] == data_digest(shards) and "train" not in data


def test_killed_in_mid_epoch_it_ends_as_if_nothing_had_happened(
    shards, other, tmp_path, whole, gate
):
    item = planned(mixed(shards, other), tmp_path)
    kill_in_mid_epoch(item, gate)
    run(item, device="cpu")
    same_result(item, whole)


def test_two_processes_make_the_weights_of_one(shards, other, tmp_path):
    train = {"epochs": 1, "batch_size": 15, "optimizer": "sgd", "lr": 0.01}
    job = mixed(shards, other, train=train, model={"name": "test_vit"}, engine={})
    job = job.model_copy(update={"data": job.data.model_copy(update={"size": 48})})
    one, two = planned(job, tmp_path / "one"), planned(job, tmp_path / "two")
    run(one, device="cpu")
    assert execute(two, device="cpu", processes=2) == 0
    a, b = weights(one), weights(two)
    assert max(float((a[name] - b[name]).abs().max()) for name in a) < 1e-6


def test_one_set_that_is_that_of_root_gives_the_same_as_root_alone(shards, tmp_path):
    train = {"epochs": 1, "batch_size": 20}
    listed = make_job(shards, data={"roots": [{"root": str(shards)}]}, train=train)
    plain = planned(make_job(shards, train=train), tmp_path / "plain")
    single = planned(listed, tmp_path / "single")
    assert plain.run.name != single.run.name
    for item in (plain, single):
        run(item, device="cpu")
    same_result(single, plain)


def test_a_run_is_named_by_what_the_sets_hold_and_goes_on_only_with_that(shards, other, tmp_path):
    """A set may lie elsewhere; where it was packed anew the run is refused."""
    (moved := tmp_path / "moved").mkdir()
    for path in other.iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    item, again = (planned(mixed(shards, root), tmp_path / "runs") for root in (other, moved))
    assert item.run.path == again.run.path
    assert [each.digest for each in item.training.data.roots] == [
        data_digest(shards), data_digest(other),
    ]  # fmt: skip
    directory = planned(mixed(shards, moved), tmp_path / "runs").create()
    assert reopen(directory.path).training == again.training
    for path in moved.iterdir():
        path.unlink()
    assert reopen(directory.path).digest == ""  # the run will say that they are gone
    write_split(moved, "train", 60, seed=13)
    with pytest.raises(JobError, match=r"moved holds other data, \w{16}, than when the run was"):
        reopen(directory.path)


def test_weights_of_the_best_epoch_know_the_images_of_root(whole):
    best = np.load(whole.run.path / "outputs.npz")
    assert len(best["ids"]) == 54 and set(weights(whole, BEST)) == set(weights(whole))
