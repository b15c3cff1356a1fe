"""What a result says of an ensemble: what its members have in common, and what all cost."""

from __future__ import annotations

import pytest
from conftest import make_job
from made_runs import untrained

from deeplense_batch.inference.ensembles.ensemble import open_ensemble
from deeplense_batch.inference.ensembles.members import Member
from deeplense_batch.inference.trained import open_trained
from deeplense_batch.runs.evaluating.subject import ensemble_subject, run_subject


@pytest.fixture
def paths(shards, tmp_path):
    """Two runs of different rates and seeds, on different devices."""
    jobs = [make_job(shards, seed=3), make_job(shards, seed=2, train={"lr": 1e-4})]
    found = [untrained(job, tmp_path / "runs").run for job in jobs]
    for run, device in zip(found, ("a processor", "another"), strict=True):
        metrics = run.read_json("metrics.json")
        metrics["valid"]["monitor"] = "auc"
        metrics["device"]["name"] = device
        metrics["cost"] |= {"images_per_s": 100.0, "train_seconds": 60.0}
        run.write_json("metrics.json", metrics)
    return [run.path for run in found]


def test_an_ensemble_is_described_by_all_of_its_members(paths):
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
    assert subject.evaluated["data_digest"] == ensemble.members[0].digest
    assert subject.valid["scores"] == {} and subject.valid["epoch"] is None


def test_a_run_is_described_by_its_own_result(paths):
    trained = open_trained(paths[0])
    subject = run_subject(trained)
    assert (subject.model, subject.seed) == ("test_resnet", 3)
    assert subject.cost["images_per_s"] == 100 and subject.device["name"] == "a processor"
    assert subject.evaluated["identity"] == trained.metrics["identity"]
    assert subject.recipe == trained.job.model_copy(update={"seed": 0}).identity(trained.digest)
