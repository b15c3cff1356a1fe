"""Processes of this machine: a queue of them, with its GPUs, and its bar on a terminal."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections import Counter
from pathlib import Path

import pytest
from conftest import typed

from deeplense_batch.cluster import local
from deeplense_batch.cluster.executor import Options
from deeplense_batch.core.recipe import load_jobs
from deeplense_batch.core.rundir import Status, find_runs
from deeplense_batch.runs.planning.plan import plan


def test_what_waited_is_as_it_was_when_the_queue_ends(recipe, monkeypatch):
    items = plan(load_jobs(recipe), recipe.parent / "runs")
    for item in items:
        item.create()
    items[1].run.write_status(Status(state="failed", reason="oom", message="too large", epoch=1))

    def start(item, gpus, folder, device, shared):
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "_start", start)
    with pytest.raises(KeyboardInterrupt):
        options = Options(device="cpu", parallel=1)
        local.run_queue([items[1], items[0]], recipe.parent / "logs", options)
    told = items[1].run.status()
    assert (told.state, told.reason, told.message, told.epoch) == ("failed", "oom", "too large", 1)
    assert items[0].run.status().state == "planned"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_the_epochs_of_all_runs_and_lines_above_them(recipe, monkeypatch):
    items = plan(load_jobs(recipe, {"train.epochs": 5}), recipe.parent / "runs")
    for item in items:
        item.create()
    screen = _Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    assert all(item.take() for item in items)
    items[0].run.write_status(Status(state="running", epoch=3, epochs=5))
    with local._Progress() as progress:
        progress.begin(items)
        progress.show()
        logging.getLogger("deeplense_batch.cluster.local").warning("a line")
    shown = screen.getvalue()
    assert "3/10" in shown and "1 running, 1 queued" in shown
    assert "a line" in shown
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    with local._Progress() as progress:
        progress.begin(items)
        progress.show()
    assert log.getvalue() == ""


class _Fake:
    """A run that ends when it has been asked for the third time."""

    def __init__(self) -> None:
        self.asked = 0

    def done(self) -> bool:
        self.asked += 1
        return self.asked > 2

    def stdout(self) -> str:
        return ""


@pytest.mark.parametrize(
    ("gpus", "shared", "parallel", "most", "each"),
    [(1, 1, None, 2, 1), (1, 2, None, 4, 1), (1, 2, 3, 3, 1), (2, 1, None, 1, 2)],
)
def test_gpus_are_leased_by_the_names_of_those_that_are_visible(
    recipe, monkeypatch, gpus, shared, parallel, most, each
):
    jobs = load_jobs(recipe, {"resources.gpus": gpus, "seeds": list(range(6))})
    items = plan(jobs, recipe.parent / "runs")
    at_work, seen = [], []

    def start(item, names, folder, device, together):
        assert together == (shared > 1)
        assert len(set(names)) == len(names) == each
        at_work[:] = [(job, n) for job, n in at_work if job.asked < 3] + [(_Fake(), names)]
        used = Counter(name for _, n in at_work for name in n)
        assert set(used) <= {"GPU-a", "3"} and max(used.values()) <= shared
        seen.append(len(at_work))
        return at_work[-1][0]

    monkeypatch.setattr(local, "_visible_gpus", lambda: ["GPU-a", "3"])
    monkeypatch.setattr(local, "_start", start)
    monkeypatch.setattr(local, "_POLL_SECONDS", 0.0)
    monkeypatch.setattr(local, "_log_end", lambda *_: None)
    for item in items:
        item.create()
    options = Options(parallel=parallel, jobs_per_gpu=shared)
    local.run_queue(items, recipe.parent / "logs", options)
    assert len(seen) == 6 and max(seen) == most


def test_a_worker_shows_its_run_the_gpus_that_it_leased(recipe, monkeypatch):
    (item, *_) = plan(load_jobs(recipe), recipe.parent / "runs")
    item.create()
    shown = []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # submitit's word for none
    monkeypatch.setattr(
        "deeplense_batch.cluster.local.execute",
        lambda *_, **__: shown.append(os.environ["CUDA_VISIBLE_DEVICES"]) or 0,
    )
    local.Worker(str(item.run.path), gpus=("GPU-a", "3"))()
    assert shown == ["GPU-a,3"]


def test_more_gpus_than_there_are_is_refused(recipe, capsys, monkeypatch):
    monkeypatch.setattr(local, "_visible_gpus", lambda: ["0"])
    code, _, errors = typed(capsys, "submit", "--grid", recipe, "--resources.gpus=2")
    assert code == 3 and "small: resources.gpus: asks for 2, this machine shows 1" in errors
    assert not find_runs(recipe.parent / "runs")


def test_a_run_that_this_process_cannot_begin_is_told_and_the_next_is_begun(recipe, caplog):
    items = plan(load_jobs(recipe), Path("runs"))
    for item in items:
        item.create()
    logger = logging.getLogger("deeplense_batch.cluster.local")
    (items[0].run.path / "job.yaml").write_text("name: [")
    began = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            local, "execute", lambda item, **how: began.append((item.run.name, how)) or 0
        )
        patch.setattr(logger.parent, "propagate", True)
        local.Debug(Path("runs"), Options(device="cpu")).submit(items)
    assert began == [(items[1].run.name, {"device": "cpu"})]
    assert f"did not begin {items[0].run.name}" in caplog.text


@pytest.mark.parametrize(("code", "most"), [(6, 2), (85, 1)])
def test_a_run_of_several_processes_that_fails_does_not_stop_the_next(recipe, code, most):
    """But one that a signal stopped does: the signal was for all."""
    items = plan(load_jobs(recipe), Path("runs"))
    for item in items:
        item.create()
    began = []
    ended = pytest.raises(SystemExit) if code == 85 else contextlib.nullcontext()
    with pytest.MonkeyPatch.context() as patch, ended:
        patch.setattr(local, "execute", lambda item, **how: began.append(item.run.name) or code)
        local.Debug(Path("runs"), Options()).submit(items)
    assert began == [item.run.name for item in items][:most]
