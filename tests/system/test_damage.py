"""Damaged files of a run directory: each file, each damage, each verb that reads it.

One run is told to be damaged, in a sentence that names the file; the others go on; and nothing
that was made is written over.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
from pathlib import Path

import pytest
import yaml
from conftest import reachable_folder, typed, write_split
from damage import DAMAGES, damage, without_rights
from made_runs import same_result

from deeplense_batch.core.processes import StoppedError
from deeplense_batch.core.recipe import load_jobs
from deeplense_batch.core.rundir import RunDir, RunDirError
from deeplense_batch.runs import scoring
from deeplense_batch.runs.planning.plan import PlannedRun, plan, reopen
from deeplense_batch.runs.training_run import run
from deeplense_batch.training import trainer

pytestmark = pytest.mark.timeout(300)  # to open a pipe would take for ever

FILES = (
    *("job.yaml", "status.json", "claim", "attempts.jsonl", "history.jsonl", "checkpoint.pt"),
    *("checkpoint.prev.pt", "best.pt", "metrics.json", "outputs.npz", "figures", "log.txt"),
)
KEPT = ("checkpoint.pt", "checkpoint.prev.pt", "best.pt", "outputs.npz", "metrics.json")


@pytest.fixture(scope="module")
def place():
    """Recipes of two jobs; runs that are done, stopped after two epochs of three, and lost."""
    with reachable_folder() as root:
        make_runs(root)
        yield root


def make_runs(root: Path) -> None:
    write_split(root / "shards", "train", 60, seed=1, shard_size=60)
    write_split(root / "shards", "val", 40, seed=2, shard_size=40)
    recipe = {
        "model": {"name": "simple_cnn"},
        "data": {"root": str(root / "shards")},
        "train": {"epochs": 3, "batch_size": 20, "lr": 5e-3},
        "resources": {"gpus": 0},
    }
    for name in ("one", "other"):
        (root / f"{name}.yaml").write_text(yaml.safe_dump(recipe | {"name": name}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "save_figure", lambda figure, path: None)  # slow, and no matter
        run(made(root, "one", "done"), device="cpu")
        run(made(root, "other", "done"), device="cpu")
        stop(made(root, "one", "stopped"), patch)
    lost = made(root, "one", "lost").run
    shutil.copytree(made(root, "one", "stopped").run.path, lost.path)
    gone = {"state": "running", "pid": 2**22 + 1, "reason": None, "message": None}
    status = lost.read_json("status.json") | gone
    lost.write_json("status.json", status)
    lost.write_lines("attempts.jsonl", lost.read_lines("attempts.jsonl")[:-1])
    claim = {name: status[name] for name in ("host", "pid", "started", "element")}
    lost.write_text("claim", json.dumps(claim))


@pytest.fixture(autouse=True)
def own_log():
    """The program logs to the standard error of each test anew."""
    logger = logging.getLogger("deeplense_batch")
    handlers, propagate, level = logger.handlers[:], logger.propagate, logger.level
    logger.handlers.clear()
    logger.propagate = True  # else pytest puts handlers of its own in their place
    yield
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)


def made(root: Path, job: str, state: str) -> PlannedRun:
    (item,) = plan(load_jobs(root / f"{job}.yaml"), root / state)
    return item


def stop(item: PlannedRun, patch: pytest.MonkeyPatch) -> None:
    """Carry out two epochs."""
    end = trainer.Trainer._end_epoch

    def interrupted(self: trainer.Trainer) -> None:
        end(self)
        if self.epoch == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    patch.setattr(trainer.Trainer, "_end_epoch", interrupted)
    with pytest.raises(StoppedError):
        run(item, device="cpu")
    patch.undo()


def bare(monkeypatch) -> None:
    monkeypatch.setattr(scoring, "save_figure", lambda figure, path: None)


def copy(root: Path, state: str, to: Path) -> Path:
    """The run of a state, and beside it one that is done."""
    shutil.copytree(made(root, "other", "done").run.path.parent, to / "runs" / "other")
    source = made(root, "one", state).run.path
    at = to / "runs" / "one" / source.name
    shutil.copytree(source, at)
    return at


def contents(run_path: Path, but: str) -> dict[str, bytes]:
    return {n: (run_path / n).read_bytes() for n in KEPT if n != but and (run_path / n).is_file()}


def told(capsys, name: str, *words: str | Path) -> tuple[int, str]:
    """A verb either works, or says in one line which file is wrong."""
    code, shown, errors = typed(capsys, *words)
    assert "Traceback" not in shown + errors and code in (0, 3, 5), errors
    if code == 3:
        assert name in errors.splitlines()[-1], errors
    return code, shown + errors


def try_all(place, capsys, state: str, name: str, how: str) -> str:
    """Damage a file, and try the verbs; gives what became of `run`."""
    with reachable_folder() as home:
        return try_in(home, place, capsys, state, name, how)


def try_in(home: Path, place, capsys, state: str, name: str, how: str) -> str:
    at = copy(place, state, home)
    if how in ("cut", "overwritten", "removed", "unreadable") and not (at / name).exists():
        return "nothing to damage"
    damage(at / name, how)
    before = contents(at, name)
    with without_rights(home) if how == "unreadable" else contextlib.nullcontext():
        code, shown = told(capsys, name, "status", home / "runs")
        assert code == 0 and "2 runs:" in shown and "2 unreadable" not in shown
        if "1 unreadable" in shown:
            assert f"{name}: " in shown
        if state == "done":
            words = ("predict", at, place / "shards", "--slice=val[:3]", "--device=cpu")
            told(capsys, name, *words, f"--out={home / 'p.csv'}")
            told(capsys, name, "export", at, home / "exported", "--format=safetensors")
        words = ("submit", place / "one.yaml", "--cluster=debug", f"--out={home / 'runs'}")
        _, shown = told(capsys, name, *words, "--retry", "--dry_run")
        if "unreadable" in shown:
            assert f"{name}: " in shown
        code, shown = told(capsys, name, "run", at, "--device=cpu")
        if code:
            assert contents(at, name) == before
            return "refused"
    if state != "done":
        same_result(reopen(at), made(place, "one", "done"))
    return "the same"


QUICK = [
    ("done", "best.pt", "pipe", "the same"),  # nothing is to be done
    ("done", "status.json", "dangling link", "refused"),
    ("done", "status.json", "removed", "the same"),
    ("done", "metrics.json", "dangling link", "refused"),
    ("done", "job.yaml", "pipe", "refused"),
    ("done", "job.yaml", "dangling link", "refused"),
    ("stopped", "checkpoint.pt", "pipe", "refused"),
    ("stopped", "checkpoint.pt", "dangling link", "refused"),
    ("stopped", "checkpoint.pt", "noise", "the same"),
    ("stopped", "checkpoint.pt", "unreadable", "refused"),
    ("stopped", "checkpoint.prev.pt", "pipe", "refused"),
    ("stopped", "best.pt", "pipe", "refused"),
    ("stopped", "best.pt", "removed", "refused"),
    ("stopped", "best.pt", "overwritten", "refused"),
    ("stopped", "best.pt", "dangling link", "refused"),
    ("stopped", "log.txt", "pipe", "refused"),
    ("stopped", "log.txt", "unreadable", "refused"),
    ("stopped", "figures", "empty", "refused"),
    ("stopped", "figures", "dangling link", "refused"),
    ("stopped", "outputs.npz", "pipe", "refused"),
    ("stopped", "attempts.jsonl", "noise", "refused"),
    ("stopped", "history.jsonl", "removed", "refused"),
    ("lost", "claim", "noise", "the same"),
    ("lost", "claim", "empty", "the same"),
    ("lost", "claim", "folder", "refused"),
    ("lost", "claim", "pipe", "refused"),
    ("lost", "claim", "unreadable", "refused"),
    ("lost", "status.json", "removed", "the same"),
]


@pytest.mark.parametrize(("state", "name", "how", "becomes"), QUICK)
def test_a_damaged_file_is_named_or_costs_nothing(
    place, capsys, monkeypatch, state, name, how, becomes
):
    bare(monkeypatch)
    assert try_all(place, capsys, state, name, how) == becomes


@pytest.mark.slow
@pytest.mark.parametrize("state", ["done", "stopped", "lost"])
@pytest.mark.parametrize("name", FILES)
def test_every_damage_of_every_file(place, capsys, monkeypatch, state, name):
    bare(monkeypatch)
    for how in DAMAGES:
        try_all(place, capsys, state, name, how)


def test_a_run_without_its_state_is_lost_if_it_was_begun(tmp_path):
    directory = RunDir.create(tmp_path / "job" / "run", "name: job\n")
    (directory.path / "status.json").unlink()
    assert directory.status().state == "planned"
    directory.append("attempts.jsonl", {"event": "start"})
    status = directory.status()
    assert (status.state, status.message) == ("lost", "its status.json is missing")
    (directory.path / "status.json").symlink_to("nowhere")
    with pytest.raises(RunDirError, match=r"status\.json: is a link to nothing"):
        directory.status()


def test_a_training_without_any_checkpoint_says_that_it_starts_again(
    place, tmp_path, monkeypatch, caplog
):
    bare(monkeypatch)
    at = copy(place, "stopped", tmp_path)
    for name in ("checkpoint.pt", "checkpoint.prev.pt"):
        (at / name).unlink()
    with caplog.at_level("WARNING", logger="deeplense_batch"):
        run(reopen(at), device="cpu")
    (line,) = [r.getMessage() for r in caplog.records if "no checkpoint can be read" in r.message]
    assert line.startswith(f"{at}: ")
    same_result(reopen(at), made(place, "one", "done"))


def test_answers_that_are_a_pipe_are_told_and_two_copies_are_one(place, capsys, tmp_path):
    at = copy(place, "done", tmp_path)
    shutil.copytree(at, at.with_name(f"{at.name}_copy"))
    damage(at / "outputs.npz", "pipe")
    words = ("collect", tmp_path / "runs", f"--out={tmp_path / 'report'}")
    code, shown, _ = typed(capsys, *words)
    assert code == 0 and f"{at} is a copy of {at}_copy, the same run, which counts once" in shown


@pytest.mark.parametrize(("name", "how"), [("outputs.npz", "cut"), ("outputs.npz", "pipe")])
def test_a_report_says_whose_answers_are_damaged(place, capsys, tmp_path, name, how):
    at = copy(place, "done", tmp_path)
    damage(at / name, how)
    code, _, _ = typed(capsys, "collect", tmp_path / "runs", f"--out={tmp_path / 'report'}")
    assert code == 0 and name in (tmp_path / "report" / "report.md").read_text()


def test_submit_in_one_process_says_why_a_run_was_left(place, capsys, tmp_path):
    """Its state tells of the attempt before, and nothing of a claim that cannot be read."""
    at = copy(place, "stopped", tmp_path)
    damage(at / "log.txt", "pipe")
    words = ("submit", place / "one.yaml", "--cluster=debug", f"--out={tmp_path / 'runs'}")
    code, _, errors = typed(capsys, *words, "--device=cpu")
    assert code == 5 and RunDir(at).status().state == "stopped"
    assert f"did not begin one/{at.name}: {at}/log.txt: is no file" in errors


def test_a_folder_that_a_killed_process_had_only_made_is_no_run(place, capsys, tmp_path):
    made_only = plan(load_jobs(place / "one.yaml"), tmp_path / "runs")[0].run.path
    made_only.mkdir(parents=True)
    words = ("submit", place / "one.yaml", f"--out={tmp_path / 'runs'}", "--dry_run")
    code, shown, _ = typed(capsys, *words)
    assert code == 0 and "1 run, 1 to do" in shown
