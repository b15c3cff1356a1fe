"""The runs below a folder, for their user: state, progress, time left, cause and log."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_runs import lose, make_run
from slurm_programs import program

from deeplense_batch.cluster.status import cancel, incomplete, status
from deeplense_batch.core.rundir import ELEMENT
from deeplense_batch.report.collect import CollectError, collect
from deeplense_batch.report.run_table import run_row


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", b'{"schema": 1, "data": {"dig'),
        ("metrics.json", b"[]"),
        ("metrics.json", b'{"schema": 2}'),
        ("metrics.json", b'{"schema": 1, "data": 3, "device": 4, "cost": 5}'),
        ("metrics.json", None),
        ("status.json", b"\xff\xfe"),
        ("status.json", b'{"state": 7}'),
        ("status.json", b'{"state": "running", "pid": "x", "host": "elsewhere", "updated": "y"}'),
        ("history.jsonl", b'{"epoch": 1}\n{"epoch": \n'),
        ("job.yaml", b"name: [unclosed"),
        ("job.yaml", b"\x00\x01"),
        ("job.yaml", b""),
    ],
)
def test_a_damaged_file_costs_its_own_row_only(tmp_path, name, content):
    bad = make_run(tmp_path)
    make_run(tmp_path, seed=1)
    (bad.path / name).unlink()
    if content is not None:
        (bad.path / name).write_bytes(content)
    row = run_row(bad)
    assert row["state"] == "unreadable" and name in row["reason"]
    assert incomplete(tmp_path)
    assert status(tmp_path).endswith("2 runs: 1 done, 1 unreadable")


def test_a_reason_ends_with_how_to_go_on(tmp_path):
    message = "many words " * 40
    make_run(tmp_path, state="failed", reason="oom", message=message)
    make_run(tmp_path, seed=1, state="failed")
    make_run(tmp_path, seed=2, state="stopped", reason="signal", message="SIGTERM")
    make_run(tmp_path, seed=3, state="planned")
    lose(make_run(tmp_path, seed=4, state="running"))
    (make_run(tmp_path, seed=5).path / "metrics.json").unlink()
    lines = status(tmp_path).splitlines()
    ends = [line.split("  ")[-1] for line in lines[1:-1]]
    assert sum(end.endswith("...; submit --retry tries it again") for end in ends) == 1
    assert "submit --retry tries it again" in ends and "-" in ends
    assert "signal: SIGTERM; submit goes on with it" in ends
    assert "its process ended without a word; submit goes on with it" in ends
    assert any(end.endswith("to be done; submit --force starts it over") for end in ends)


def test_status_is_an_aligned_table_and_counts(tmp_path):
    make_run(tmp_path)
    make_run(tmp_path, "a_longer_name", state="stopped", reason="signal", message="SIGUSR2\n came")
    for seed in (1, 2):
        make_run(tmp_path, seed=seed, state="planned")
    lines = status(tmp_path).splitlines()
    assert lines[-1] == "4 runs: 1 done, 2 planned, 1 stopped"
    starts = {line.index("3/15") for line in lines[1:-1]}
    assert len(starts) == 1 and lines[0].index("epoch") in starts
    assert any("signal: SIGUSR2 came" in line and "0.9100" in line for line in lines)


def test_runs_put_aside_are_not_counted(tmp_path):
    run = make_run(tmp_path)
    aside = tmp_path / "demo" / ".old" / run.path.name
    aside.parent.mkdir()
    run.path.rename(aside)
    make_run(tmp_path, seed=1)
    assert status(tmp_path / "demo").endswith("1 run: 1 done")


def test_nothing_to_collect_is_one_sentence(tmp_path):
    for act in (status, incomplete, collect):
        with pytest.raises(CollectError, match="no runs here"):
            act(tmp_path)
        with pytest.raises(CollectError, match="no such folder"):
            act(tmp_path / "absent")
    make_run(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(CollectError, match="not a folder"):
        collect(tmp_path, tmp_path / "file")


def test_of_a_chain_all_jobs_are_cancelled_those_that_wait_first(recipe, monkeypatch):
    """Else the next would go on with the run."""
    monkeypatch.setenv(ELEMENT, "t-0-demo_0")
    run = make_run(Path("runs"), state="running")
    lines = ["100_0|RUNNING|None", "101_0|PENDING|Dependency", "102_0|PENDING|Dependency"]
    program("squeue", "\n".join(f"echo 't-0-demo|0|{line}'" for line in lines))
    program("scancel", 'echo "$@" >> asked')
    shown = [f"100_0, 101_0, 102_0 {run.path}"]
    assert cancel("runs", ["running"], dry_run=True) == shown and not Path("asked").exists()
    assert cancel("runs", ["running"]) == shown
    assert Path("asked").read_text() == "101_0 102_0 100_0\n"
