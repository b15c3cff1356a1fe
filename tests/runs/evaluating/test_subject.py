"""What a result says of an ensemble: what its members have in common, and what all cost."""

from __future__ import annotations

import pytest
from conftest import make_job, write_split
from made_runs import untrained

from deeplense_batch.data.shards import data_digest
from deeplense_batch.inference.ensembles.ensemble import open_ensemble
from deeplense_batch.inference.ensembles.members import Member
from deeplense_batch.inference.trained import open_trained
from deeplense_batch.runs.evaluating.subject import ensemble_subject, run_subject


def runs_of(jobs, root):
    """Runs that are done, on different devices."""
    found = [untrained(job, root).run for job in jobs]
    for run, device in zip(found, ("a processor", "another"), strict=True):
        metrics = run.read_json("metrics.json")
        metrics["valid"]["monitor"] = "auc"
        metrics["device"]["name"] = device
        metrics["cost"] |= {"images_per_s": 100.0, "train_seconds": 60.0}
        run.write_json("metrics.json", metrics)
    return [run.path for run in found]


@pytest.fixture
def paths(shards, tmp_path):
    """Two runs of different rates and seeds."""
    jobs = [make_job(shards, seed=3), make_job(shards, seed=2, train={"lr": 1e-4})]
    return runs_of(jobs, tmp_path / "runs")


def test_an_ensemble_is_described_by_all_of_its_members(paths, shards):
    ensemble = open_ensemble([Member.at(path) for path in paths])
    subject = ensemble_subject(ensemble, "0123456789")
    assert (subject.model, subject.seed) == ("test_resnet x2", 2)
    assert subject.cost["train_seconds"] == 120 and subject.cost["images_per_s"] == 50
    one = sum(p.numel() for p in ensemble.members[0].model.parameters())
    assert subject.cost["parameters"] == 2 * one
    assert subject.device["name"] == "a processor + another"
    recipe = subject.evaluated["recipe"]
    assert "train.lr" not in recipe and recipe["train.epochs"] == 4
    assert recipe["model.name"] == "test_resnet" and recipe["data.root"]
    digest = ensemble.members[0].digest
    assert subject.evaluated["data_digest"] == digest
    training = {"name": shards.name, "digest": f"{digest}:train", "sets": 0}
    assert subject.evaluated["training"] == training
    assert subject.valid["scores"] == {} and subject.valid["epoch"] is None


def test_members_that_learnt_from_other_sets_keep_them(shards, tmp_path):
    other = tmp_path / "other"
    for split, samples in (("train", 30), ("val", 12)):
        write_split(other, split, samples, seed=77, shard_size=samples)
    one, two = data_digest(shards), data_digest(other)
    roots = [{"root": str(shards), "digest": one}, {"root": str(other), "digest": two}]
    jobs = [make_job(shards), make_job(shards, data={"roots": roots}, seed=1)]
    paths = runs_of(jobs, tmp_path / "runs")
    subject = ensemble_subject(open_ensemble([Member.at(path) for path in paths]), "0123456789")
    assert subject.evaluated["training"] == {
        "name": f"{shards.name} and {shards.name} + other",
        "digest": f"{one}:train & {one}:train + {two}:train",
        "sets": 3,
    }


def test_a_run_is_described_by_its_own_result(paths):
    trained = open_trained(paths[0])
    subject = run_subject(trained)
    assert (subject.model, subject.seed) == ("test_resnet", 3)
    assert subject.cost["images_per_s"] == 100 and subject.device["name"] == "a processor"
    assert subject.evaluated["identity"] == trained.metrics["identity"]
    assert subject.recipe == trained.job.model_copy(update={"seed": 0}).identity(trained.digest)
