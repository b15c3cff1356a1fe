"""The verbs of many runs, as they are typed."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import typed
from slurm_programs import program

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


@pytest.mark.parametrize(("answer", "made"), [("", 0), ("n", 0), ("Yes ", 2)])
def test_all_of_jobs_is_submitted_from_a_terminal_only_after_a_question(
    recipe, capsys, monkeypatch, answer, made
):
    Path("jobs").mkdir()
    recipe.rename("jobs/small.yaml")
    program("sbatch", "echo Submitted batch job 7")
    asked = []
    monkeypatch.setattr(cluster_verbs.sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or answer)
    code, shown, _ = typed(capsys, "submit", "--grid", "--cluster=slurm")
    assert (code, asked) == (0, ["Go on? [y/N] "]) and "2 runs, 2 to do" in shown
    assert len(find_runs(Path("runs")) if made else list(Path().glob("runs"))) == made
    typed(capsys, "submit", "--grid", "--cluster=slurm", "--dry_run")
    typed(capsys, "submit", "--grid", "jobs/small.yaml", "--cluster=slurm")
    assert len(asked) == 1  # neither asks


def test_runs_are_in_the_folder_that_the_environment_names(recipe, capsys, monkeypatch):
    monkeypatch.setenv("DEEPLENSE_RUNS", "elsewhere")
    assert typed(capsys, "sbatch", "--grid", recipe)[0] == 0
    assert len(find_runs(Path("elsewhere"))) == 2
    assert typed(capsys, "status")[1].splitlines()[-1] == "2 runs: 2 planned"
    assert typed(capsys, "status", "--check")[0] == 5
    assert typed(capsys, "cancel")[1] == "0 cancelled\n"
    assert typed(capsys, "clean", "--dry_run")[1] == "0 files to remove\n"
