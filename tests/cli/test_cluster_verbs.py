"""The verbs of many runs, as they are typed."""

from __future__ import annotations

from pathlib import Path

from conftest import typed

from deeplense_batch.cli import cluster_verbs
from deeplense_batch.core.rundir import Status, find_runs


def test_watch_looks_until_no_run_is_at_work(recipe, capsys, monkeypatch):
    assert typed(capsys, "submit", "--grid", recipe, "--cluster=debug", "--seeds=[0]")[0] == 0
    (run,) = find_runs(Path("runs"))
    run.write_lines("history.jsonl", run.read_lines("history.jsonl")[:1])
    line = run.read_lines("history.jsonl")[0] | {"seconds": {"train": 5000.0, "evaluate": 400.0}}
    run.write_lines("history.jsonl", [line])
    run.write_status(Status(state="running", epoch=1, epochs=2))
    looks = []

    def wait(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            run.write_status(Status(state="failed", epoch=1, reason="oom", message="too large"))

    monkeypatch.setattr(cluster_verbs.time, "sleep", wait)
    code, shown, _ = typed(capsys, "status", "--watch", "--check")
    assert code == 5 and looks == [30, 30]
    assert shown.count("1 run: 1 running") == 2 and shown.count("1:30 h") == 2
    last = shown.splitlines()[-3:]
    assert "oom: too large; submit --retry tries it again" in last[0]
    assert last[1] == f"log of {run.path.name}: {run.path / 'log.txt'}"
    assert last[2] == "1 run: 1 failed"
