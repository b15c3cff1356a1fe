"""Runs that start over, and recipes that are one run."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_job
from made_shards import write_shards

from deeplense_batch.core.job import Job
from deeplense_batch.core.rundir import RunBusyError
from deeplense_batch.models import checkpoint
from deeplense_batch.runs.planning.plan import plan

SEARCHED = ("nonlens", "lens")
ALTERNATE = np.arange(8) % 2  # classes of eight images


def short(shards: Path, **train: object) -> Job:
    return make_job(shards, model={"name": "test_resnet"}, train={"epochs": 1, "lr": 1e-3} | train)


def best(path: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(path / "best.pt")["model"]


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
