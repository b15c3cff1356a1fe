"""Runs that go on from the weights of others (`train.init`)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import make_job

from deeplense_batch.core.job import Job, JobError
from deeplense_batch.models import WeightsError, checkpoint
from deeplense_batch.runs.planning.plan import plan, reopen
from deeplense_batch.runs.training_run import run


def short(shards: Path, **train: object) -> Job:
    return make_job(shards, model={"name": "test_resnet"}, train={"epochs": 1, "lr": 1e-3} | train)


def best(path: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(path / "best.pt")["model"]


@pytest.fixture(scope="module")
def first(shards, tmp_path_factory):
    (item,) = plan([short(shards)], tmp_path_factory.mktemp("runs"))
    run(item)
    return item.run.path


@pytest.mark.parametrize("named", ["run", "folder", "file"])
def test_a_run_starts_from_another(first, shards, tmp_path, named):
    """With a rate of almost nothing it ends where the other did."""
    place = {"run": first, "folder": first.parent, "file": first / "best.pt"}[named]
    job = short(shards, init=str(place), lr=1e-12, weight_decay=0.0)
    (item,) = plan([job], tmp_path)
    assert item.run.path.name != first.name
    run(item)
    before, after = best(first), best(item.run.path)
    weights = [n for n, v in before.items() if v.is_floating_point() and "running" not in n]
    assert all(torch.allclose(before[n], after[n], atol=1e-6) for n in weights)
    assert reopen(item.run.path).job.train.init.startswith("/")


def test_other_weights_are_another_run(first, shards, tmp_path):
    """By their content, wherever they lie."""
    names = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / folder).mkdir()
        torch.manual_seed(seed)
        torch.save({"w": torch.randn(3)}, tmp_path / folder / "w.pt")
        (item,) = plan([short(shards, init=str(tmp_path / folder / "w.pt"))], tmp_path / "runs")
        names.append(item.run.path.name)
    assert names[0] == names[1] != names[2]


def test_what_is_not_there_is_refused_before_anything_runs(first, shards, tmp_path):
    with pytest.raises(JobError, match=r"train.init: .*nowhere: no weights there; expected a run"):
        plan([short(shards, init=str(tmp_path / "nowhere"))], tmp_path)
    job = short(shards, init=str(first.parent)).model_copy(update={"seed": 7})
    with pytest.raises(JobError, match=r"train.init: .*test_resnet-s7-\.\.\.: no weights there"):
        plan([job], tmp_path)
    pretrained = make_job(shards, model={"name": "test_resnet", "pretrained": True})
    with pytest.raises(WeightsError, match="no weights of 'test_resnet' in"):
        plan([pretrained], tmp_path)
