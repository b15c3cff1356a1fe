"""Runs that go on from the weights of others (`train.init`), and runs that start over."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_job
from made_shards import write_shards

from deeplense_batch.core.job import Job, JobError
from deeplense_batch.core.rundir import RunBusyError
from deeplense_batch.models import WeightsError, checkpoint
from deeplense_batch.runs.plan import plan, reopen
from deeplense_batch.runs.training_run import run

SEARCHED = ("nonlens", "lens")
ALTERNATE = np.arange(8) % 2  # classes of eight images


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


def test_a_damaged_run_is_put_aside_unless_a_process_is_at_work_on_it(shards, tmp_path):
    (item,) = plan([short(shards)], tmp_path)
    (item.create().path / "status.json").write_text("")
    claim = item.run.path / "claim"
    with item.run.claim():
        owned = claim.read_text()
        with pytest.raises(RunBusyError, match="is at work on it"):
            item.create(force=True)
        assert claim.read_text() == owned
    claim.write_text('{"host": "gone", "pid": 1, "started": 1.0, "element": null}')
    os.utime(claim, (1e9, 1e9))
    item.create(force=True)
    assert item.run.status().state == "planned" and not claim.exists()
    (aside,) = (item.run.path.parent / ".old").iterdir()
    assert (aside / "status.json").read_text() == ""


class TestAnotherThreshold:
    """Purity and prevalence of a detection make no other run: who asks for them is told so."""

    @pytest.fixture
    def search(self, tmp_path):
        write_shards(tmp_path, "train", np.ones((8, 1, 8, 8), np.uint16), ALTERNATE, SEARCHED)
        write_shards(tmp_path, "val", np.ones((8, 1, 8, 8), np.uint16), ALTERNATE, SEARCHED)

        def job(seed: int = 0, **options: float) -> Job:
            task = {"name": "detection", "options": options}
            return make_job(tmp_path, name="demo", task=task, seed=seed)

        return job

    def test_than_a_run_that_is_there(self, search, tmp_path, caplog):
        (item,) = plan([search(purity=0.3)], tmp_path / "runs")
        item.create()
        plan([search(purity=0.3)], tmp_path / "runs")
        assert not caplog.messages
        plan([search(purity=0.4)], tmp_path / "runs")
        plan([search(purity=0.3, prevalence=0.001)], tmp_path / "runs")
        plan([search()], tmp_path / "runs")
        again = f"it needs no training again: 'predict {item.run.path} DATA"
        assert caplog.messages == [
            "demo: task.options.purity: the run that is kept has 0.3, this recipe 0.4; "
            f"{again} --purity=0.4'",
            "demo: task.options.prevalence: the run that is kept has 0.01, this recipe 0.001; "
            f"{again} --prevalence=0.001'",
            "demo: task.options.purity: the run that is kept has 0.3, this recipe 0.5; "
            f"{again} --purity=0.5'",
        ]

    def test_than_other_runs_of_a_grid(self, search, tmp_path, caplog):
        """In one sentence, whatever the number of runs."""
        jobs = [search(seed, purity=p) for p in (0.3, 0.5, 0.9) for seed in (0, 1)]
        assert len(plan(jobs, tmp_path / "runs")) == 2
        assert caplog.messages == [
            "demo: task.options.purity: the 2 runs that are kept have 0.3, this recipe 0.5 and "
            "0.9; it needs no training again: 'predict RUN DATA --purity=0.5'"
        ]

    def test_than_a_damaged_run_is_not_known(self, search, tmp_path, caplog):
        (item,) = plan([search(purity=0.3)], tmp_path / "runs")
        recipe = item.create().path / "job.yaml"
        for text in ("{", recipe.read_text().replace("0.3", "3")):
            recipe.write_text(text)
            plan([search(purity=0.4)], tmp_path / "runs")
        assert not caplog.messages
