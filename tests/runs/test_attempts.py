"""What attempts that were killed have cost: the time to their last sign of life, and no more."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from conftest import make_job

from deeplense_batch.core.rundir import RunDir
from deeplense_batch.runs.attempts import close_lost_attempt, device_hours, put_aside
from deeplense_batch.runs.launch import report_not_begun
from deeplense_batch.runs.planning.plan import PlannedRun, plan


def hours_ago(hours: float) -> str:
    return (datetime.now(UTC) - timedelta(hours=hours)).isoformat(timespec="seconds")


@pytest.fixture
def lost(shards, tmp_path) -> PlannedRun:
    """Killed after an hour, 99 hours ago; it had two devices."""
    (item,) = plan([make_job(shards)], tmp_path)
    run = item.create()
    start = {"event": "start", "time": hours_ago(100), "attempt": 1, "devices": 2}
    run.append("attempts.jsonl", start)
    killed = {"state": "running", "attempt": 1, "pid": 2**22 + 1, "updated": hours_ago(99)}
    run.write_json("status.json", run.read_json("status.json") | killed)
    return item


def taken(item: PlannedRun) -> None:
    assert item.take() is not None


def not_begun(item: PlannedRun) -> None:
    report_not_begun(item.run, "no memory left", "")
    assert item.run.status().state == "failed"


@pytest.mark.parametrize("next_step", [lambda item: None, taken, not_begun])
def test_a_killed_attempt_lasted_to_its_last_sign_of_life(lost, next_step):
    next_step(lost)
    close_lost_attempt(lost.run)
    _, end = lost.run.read_lines("attempts.jsonl")
    assert (end["state"], end["attempt"], end["devices"]) == ("lost", 1, 2)
    assert end["seconds"] == pytest.approx(3600, abs=2)
    assert device_hours(lost.run, time.perf_counter(), 1) == pytest.approx(2, abs=0.01)


def test_put_aside_loses_nothing(tmp_path):
    directory = RunDir.create(tmp_path / "job" / "run", "x")
    aside = put_aside(directory)
    assert (aside / "job.yaml").read_text() == "x" and not directory.path.exists()
    again = [put_aside(RunDir.create(tmp_path / "job" / "run", "x")) for _ in range(3)]
    assert len({aside, *again}) == 4 and all((path / "job.yaml").exists() for path in again)
