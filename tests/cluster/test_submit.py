"""Many runs on one machine: what is missing is done, once, and nothing else is touched."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import PATIENCE, cli, heed_interrupts, typed, wait_for, write_split

from deeplense_batch.cluster.submit import _settings as settings
from deeplense_batch.core.job import Evaluation
from deeplense_batch.core.recipe import load_jobs
from deeplense_batch.core.rundir import Status, find_runs
from deeplense_batch.runs.planning.plan import plan


def files(folder: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def states(root: Path) -> dict[str, str]:
    return {run.path.name: run.status().state for run in find_runs(root)}


def start_submit(recipe: Path, *words: str, **environment: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "deeplense_batch", "submit", "--grid", str(recipe), *words]
    return subprocess.Popen(
        command,
        cwd=recipe.parent,
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )


def test_a_dry_run_shows_all_and_writes_nothing(recipe, capsys):
    code, shown, _ = typed(capsys, "submit", "--grid", recipe, "--dry_run")
    assert code == 0 and "2 runs, 2 to do; at most 2 CPU-hours asked for" in shown
    assert shown.count("planned") == 2
    assert not (recipe.parent / "runs").exists()


def test_sets_that_are_trained_on_together_are_shown_by_their_folders(recipe, shards, capsys):
    other = recipe.parent / "other"
    write_split(other, "train", 30, seed=5)
    sets = [{"root": str(shards)}, {"root": str(other)}]
    content = yaml.safe_load(recipe.read_text()) | {
        "grid": {"data.roots": [[], sets]},
        "seeds": [0],
    }
    recipe.write_text(yaml.safe_dump(content))
    code, shown, _ = typed(capsys, "submit", "--grid", recipe, "--dry_run")
    assert code == 0 and f"data.roots={shards.name}+other" in shown
    assert f"data.root={shards.parent.name}/{shards.name} " in shown and "none" not in shown


def test_sets_that_are_trained_on_first_are_shown_with_their_epochs(recipe, shards, capsys):
    first = [{"root": str(shards), "epochs": 1}]
    content = yaml.safe_load(recipe.read_text()) | {"grid": {"data.curriculum": [[], first]}}
    recipe.write_text(yaml.safe_dump(content | {"seeds": [0]}))
    code, shown, _ = typed(capsys, "submit", "--grid", recipe, "--dry_run")
    assert code == 0
    assert f"data.curriculum={shards.name} (1)" in shown and "data.curriculum=none" in shown


def test_each_of_several_sets_to_train_on_is_shown(recipe, shards, capsys):
    shutil.copytree(shards, recipe.parent / "other")
    roots = [str(shards), str(recipe.parent / "other")]
    content = yaml.safe_load(recipe.read_text()) | {"grid": {"data.root": roots}, "seeds": [0]}
    write_split(recipe.parent / "other", "more", 30, seed=5)
    recipe.write_text(yaml.safe_dump(content))
    code, shown, _ = typed(capsys, "submit", "--grid", recipe, "--dry_run")
    assert code == 0 and f"data.root={recipe.parent.name}/other " in shown
    assert f"data.root={shards.parent.name}/{shards.name} " in shown


def test_a_grid_is_carried_out_once(recipe):
    runs = recipe.parent / "runs"
    first = cli("submit", recipe, "--grid", cwd=recipe.parent)
    assert first.returncode == 0, first.stderr
    assert set(states(runs).values()) == {"done"} and len(states(runs)) == 2
    before = files(runs)
    second = cli("submit", recipe, "--grid", cwd=recipe.parent)
    assert second.returncode == 0 and "2 runs (2 done), nothing to do" in second.stdout
    assert files(runs) == before
    (submission,) = (runs / ".submit").iterdir()
    frozen = (submission / "runs.jsonl").read_text().splitlines()
    assert {json.loads(line)["run"] for line in frozen} == {str(r.path) for r in find_runs(runs)}
    assert "submit" in json.loads((submission / "submission.json").read_text())["command"]


def test_a_killed_run_is_finished_by_the_next_submit_and_no_other_is_touched(recipe, gate):
    runs = recipe.parent / "runs"
    process = start_submit(recipe, "--train.epochs=4", "--parallel=2", **gate.after(1))

    def pids() -> dict[Path, int]:
        found = {}
        for run in find_runs(runs):
            if run.status().state == "running" and run.read_lines("history.jsonl"):
                found[run.path] = run.status().pid
        return found

    wait_for(pids)
    victim, pid = next(iter(pids().items()))
    os.kill(pid, signal.SIGKILL)
    gate.open()
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 5, errors
    assert "lost small/" in errors
    assert {n: s for n, s in states(runs).items() if s != "done"} == {victim.name: "lost"}
    before = {path: time_ for path, time_ in files(runs).items() if victim not in path.parents}
    again = cli("submit", "--grid", recipe, "--train.epochs=4", cwd=recipe.parent)
    assert again.returncode == 0 and "2 runs, 1 to do" in again.stdout, again.stderr
    assert set(states(runs).values()) == {"done"}
    assert before.items() <= files(runs).items()


def test_ctrl_c_leaves_runs_stopped_or_planned_and_they_go_on(recipe, gate):
    runs = recipe.parent / "runs"
    process = start_submit(recipe, "--train.epochs=4", "--parallel=1", **gate.after(1))
    wait_for(lambda: any(run.read_lines("history.jsonl") for run in find_runs(runs)))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, errors
    assert sorted(states(runs).values()) == ["planned", "stopped"]
    again = cli("submit", "--grid", recipe, "--train.epochs=4", cwd=recipe.parent)
    assert again.returncode == 0 and set(states(runs).values()) == {"done"}


_TAKE = """
import sys
from deeplense_batch.runs.planning.plan import reopen
sys.stdin.readline()
print(sum(reopen(f).take() is not None for f in sys.argv[1:]), flush=True)
sys.stdin.read()  # what it has taken is its own while it lives
"""


def test_what_two_submits_take_at_once_is_one_s(recipe):
    items = plan(load_jobs(recipe, {"seeds": list(range(20))}), recipe.parent / "runs")
    paths = [str(item.create().path) for item in items]
    command = [sys.executable, "-c", _TAKE]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen([*command, *some], **pipes) for some in (paths, paths[::-1])]
    for one in both:
        one.stdin.write("\n")
        one.stdin.flush()
    counts = [int(one.stdout.readline()) for one in both]
    assert sum(counts) == 20
    for one in both:
        one.communicate()


def test_a_failed_run_is_skipped_until_retry_and_stops_no_other(recipe, capsys):
    runs = recipe.parent / "runs"
    words = ["submit", "--grid", recipe, "--cluster=debug", "--train.optimizer=sgd"]
    words += ["--grid.train.lr=[0.01,1e30]", "--seeds=[0]", "--train.epochs=1"]
    assert typed(capsys, *words)[0] == 5
    assert sorted(states(runs).values()) == ["done", "failed"]
    code, shown, _ = typed(capsys, *words)
    assert code == 5 and "2 runs (1 done, 1 failed), nothing to do" in shown
    assert "diverged" in shown and "--retry tries it again" in shown
    assert "train.lr=0.01" in shown and "train.lr=1e+30" in shown
    code, shown, _ = typed(capsys, *words, "--retry")
    assert code == 5 and "2 runs, 1 to do" in shown


def test_force_refuses_what_is_at_work_and_keeps_what_was(recipe, capsys):
    words = ["submit", recipe, "--cluster=debug", "--grid", "--seeds=[0]", "--train.epochs=1"]
    assert typed(capsys, *words)[0] == 0
    (run,) = find_runs(recipe.parent / "runs")
    code, shown, _ = typed(capsys, *words, "--force")
    assert code == 0 and "start over" in shown
    assert len(list((run.path.parent / ".old").iterdir())) == 1
    run.write_status(Status(state="running"))
    code, _, error = typed(capsys, *words, "--force")
    assert (
        code == 3 and "--force starts over only runs that are neither queued nor running" in error
    )


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--cluster=slum"], 3, "--cluster: unknown 'slum'"),
        (["--model.name=resnet19"], 3, "there is no model 'resnet19'"),
        (["--data.root=nowhere"], 3, "nowhere: no such folder of shards"),
        (["--task.name=clasification"], 3, "did you mean 'classification'?"),
        (["--train.epoch=3"], 2, "--train.epoch: unknown; did you mean 'epochs'?"),
        (["--epochs=3"], 2, "--epochs: no such flag of submit"),
        (["--seeds=5"], 2, "--seeds: expected a list of values, got 5"),
        (["--task.options={foo: 1}"], 3, "task.options.foo: unknown to classification"),
        (["--model.options={drop_raet: 0.1}"], 3, "'test_resnet' cannot be built"),
        (["--data.augment.scale=[2, 1]"], 2, "scale should rise from above 0"),
        (["--dryrun"], 2, "did you mean '--dry_run'?"),
        (["--dry_run=maybe"], 2, "--dry_run: expected true or false, got 'maybe'"),
        (["--parallel=-1"], 2, "--parallel: expected a whole number"),
        (["missing.yaml"], 3, "missing.yaml: cannot be read"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_made(recipe, words, code, sentence, capsys):
    answer = typed(capsys, "submit", "--grid", recipe, *words)
    assert answer[:2] == (code, "")
    assert sentence in answer[2] and len(answer[2].splitlines()) == 1
    assert not (recipe.parent / "runs").exists()


def test_damaged_runs_are_told_skipped_and_started_over_only_by_force(recipe, capsys):
    words = ["submit", recipe, "--cluster=debug", "--grid", "--seeds=[0]", "--train.epochs=1"]
    assert typed(capsys, *words)[0] == 0
    (run,) = find_runs(recipe.parent / "runs")
    for name in ("metrics.json", "status.json"):
        (run.path / name).write_text("{")
        code, shown, _ = typed(capsys, *words)
        assert code == 5 and "unreadable" in shown and "--force starts it over" in shown
    code, shown, _ = typed(capsys, *words, "--force")
    assert code == 0 and "start over" in shown


def test_force_leaves_a_damaged_run_to_the_process_at_work_on_it(recipe, capsys):
    (item,) = plan(load_jobs(recipe, {"seeds": [0]}), "runs")
    run = item.create()
    (run.path / "status.json").write_text("{")
    words = ["submit", recipe, "--cluster=debug", "--grid", "--seeds=[0]", "--force"]
    with run.claim():
        before = files(Path("runs"))
        code, shown, error = typed(capsys, *words)
        assert code == 3 and "unreadable" in shown and "is at work on it" in error
        assert len(error.splitlines()) == 1
        assert before.items() <= files(Path("runs")).items()


def test_a_bare_flag_leaves_the_next_word_alone(recipe, capsys):
    code, shown, _ = typed(capsys, "submit", "--dry_run", recipe, "--grid")
    assert code == 0 and "2 runs, 2 to do" in shown


def test_a_process_that_cannot_start_says_why_in_its_run(recipe, tmp_path):
    """Such as one that finds no memory for its libraries: nothing of ours has run in it."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'submitit.core._submit' in ' '.join(sys.orig_argv):\n"
        "    os.write(2, b'libtorch.so: no memory left\\n')\n"
        "    os._exit(7)\n"
    )
    words = ("submit", "--grid", recipe, "--out", tmp_path / "runs", "--parallel=2")
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    ended = cli(*words, cwd=tmp_path, PYTHONPATH=path)
    assert ended.returncode == 5
    said = "its process ended before it began the run: libtorch.so: no memory left"
    assert said in ended.stderr
    found = sorted((tmp_path / "runs").glob("*/*/status.json"))
    assert found
    for path in found:
        status = json.loads(path.read_text())
        assert (status["state"], status["reason"]) == ("failed", "environment")
        assert status["message"] == said
        assert "no memory left" in (path.parent / "log.txt").read_text()


def test_the_table_of_evaluations_says_which_runs_and_data_each_scores():
    """Short: hashes of runs, and the end of the path of data."""
    runs = ["/r/j/resnet18-s0-0123456789", "/r/j/resnet18-s1-9876543210", "/r/j/my_best"]
    jobs = [
        Evaluation.model_validate(
            {"name": "e", "evaluate": {"run": run, "ensemble": len(run) == 3, "data": data}}
        )
        for run in (runs[0], runs)
        for data in (
            {"root": "/data/real", "slice": "val"},
            {"root": "/data/made", "slice": "val"},
        )
    ]
    shown = settings(jobs)
    assert shown[0].startswith("evaluate.run=0123456789, ")
    assert shown[0].endswith("evaluate.data.root=data/real")
    assert shown[3].startswith("evaluate.run=0123456789+9876543210+my_best, ")
    assert shown[3].endswith("evaluate.data.root=data/made")
