from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import PATIENCE, wait_for

from deeplense_batch.core import files, rundir
from deeplense_batch.core.rundir import RunBusyError, RunDir, RunDirError, Status, find_runs


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path / "job" / "run", "name: job\n")


def in_another_process(run: RunDir, code: str) -> None:
    subprocess.run(
        [
            sys.executable,
            "-c",
            "from deeplense_batch.core.rundir import *; import os\n"
            f"run = RunDir({str(run.path)!r})\n" + code,
        ],
        check=False,
    )


def test_a_new_run_is_planned_and_keeps_its_job(run):
    assert run.status().state == "planned"
    RunDir.create(run.path, "name: other\n")
    assert (run.path / "job.yaml").read_text() == "name: job\n"


def test_who_makes_a_directory_leaves_the_state_of_one_who_made_it_too(tmp_path, monkeypatch):
    create_text = RunDir.create_text

    def overtaken(run: RunDir, name: str, text: str) -> bool:
        if name == "status.json":
            run.write_status(Status(state="running"))
        return create_text(run, name, text)

    monkeypatch.setattr(RunDir, "create_text", overtaken)
    assert RunDir.create(tmp_path / "job" / "run", "").status().state == "running"


def test_running_is_lost_when_its_process_is_gone(run):
    in_another_process(run, "run.write_status(Status(state='running', epoch=3)); os._exit(9)")
    status = run.status()
    assert (status.state, status.epoch) == ("lost", 3)
    run.write_status(Status(state="running"))
    assert run.status().state == "running"


def test_queued_is_planned_again_when_the_submit_is_gone(run):
    in_another_process(run, "run.write_status(Status(state='queued')); os._exit(9)")
    status = run.status()
    assert status.state == "planned" and "submit that queued it has ended" in status.message


def test_a_reused_process_number_is_no_life(run):
    run.write_status(Status(state="running"))
    content = run.read_json("status.json") | {"started": 1.0}
    run.write_json("status.json", content)
    assert run.status().state == "lost"


def test_of_another_host_the_heartbeat_decides(run):
    run.write_status(Status(state="running"))
    content = run.read_json("status.json") | {"host": "elsewhere"}
    run.write_json("status.json", content)
    assert run.status().state == "running"
    run.write_json("status.json", content | {"updated": "2020-01-01T00:00:00+00:00"})
    assert run.status().state == "lost"


def test_a_claim_keeps_others_out_and_ends_with_its_holder(run):
    busy = pytest.raises(RunBusyError, match=f"process {os.getpid()} on")
    with run.claim(), busy, run.claim():
        pass
    with run.claim():
        pass
    in_another_process(run, "claim = run.claim(); claim.__enter__(); os._exit(9)")
    assert (run.path / "claim").exists()
    with run.claim():
        assert json.loads((run.path / "claim").read_text())["pid"] == os.getpid()
    assert not (run.path / "claim").exists()


def test_a_dead_claim_is_taken_over_though_the_state_is_empty(run):
    """As when the power fails: only where the claim is torn, too, does nothing name an owner."""
    in_another_process(run, "claim = run.claim(); claim.__enter__(); os._exit(9)")
    (run.path / "status.json").write_text("")
    with run.claim(), pytest.raises(RunBusyError), run.claim():
        pass
    (run.path / "claim").write_text("")
    with pytest.raises(RunDirError, match="is empty"), run.claim():
        pass


def test_a_claim_released_while_another_reads_it_is_free(run, monkeypatch):
    """Two submits at one moment: the first lets go between the look of the second and its read."""
    in_another_process(run, "claim = run.claim(); claim.__enter__(); os._exit(9)")
    read = rundir._text

    def too_late(path: Path, **_: str) -> str:
        path.unlink()
        return read(path)

    monkeypatch.setattr(rundir, "_text", too_late)
    with run.claim():
        assert json.loads((run.path / "claim").read_text())["pid"] == os.getpid()


def test_a_claim_that_is_a_link_to_nothing_is_damage(run):
    (run.path / "claim").symlink_to("nowhere")
    with pytest.raises(RunDirError, match="claim: is a link to nothing"), run.claim():
        pass


def test_a_file_is_replaced_though_another_sweeps_meanwhile(run, monkeypatch):
    written, swept = files._written, []

    def sweeping(path: Path, text: str) -> Path:
        temporary = written(path, text)
        if not swept:
            run.sweep()
            swept.append(temporary)
        return temporary

    monkeypatch.setattr(files, "_written", sweeping)
    run.write_text("log.txt", "whole")
    assert swept and (run.path / "log.txt").read_text() == "whole"


def test_a_claim_is_kept_young_while_it_is_held(run, monkeypatch):
    monkeypatch.setattr(rundir, "_BEAT_SECONDS", 0.01)
    run.write_status(Status(state="running"))
    long_ago = {"host": "elsewhere", "updated": "2020-01-01T00:00:00+00:00"}
    run.write_json("status.json", run.read_json("status.json") | long_ago)
    with run.claim():
        os.utime(run.path / "claim", (0, 0))
        wait_for(lambda: run.status().state == "running")
    assert run.status().state == "lost"


def test_who_was_taken_for_dead_leaves_the_claim_of_the_next(run, monkeypatch):
    monkeypatch.setattr(rundir, "_BEAT_SECONDS", 0.01)
    before = threading.enumerate()
    with run.claim():
        (thread,) = (t for t in threading.enumerate() if t not in before)
        run.write_text("claim", "of another")
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert (run.path / "claim").read_text() == "of another"


def _try(path: str, together, wins, tried) -> None:
    together.wait()
    try:
        with RunDir(path).claim():
            with wins.get_lock():
                wins.value += 1
            tried.wait()  # held until every other has tried
    except RunBusyError:
        tried.wait()


@pytest.mark.parametrize("stale", [False, True])
def test_of_many_at_once_one_gets_the_claim(run, stale):
    for _ in range(3):
        if stale:
            in_another_process(run, "claim = run.claim(); claim.__enter__(); os._exit(9)")
        context = multiprocessing.get_context("fork")
        wins, together, tried = (
            context.Value("i", 0),
            context.Barrier(8),
            context.Barrier(8, timeout=PATIENCE),
        )
        shared = (str(run.path), together, wins, tried)
        tries = [context.Process(target=_try, args=shared) for _ in range(8)]
        for process in tries:
            process.start()
        for process in tries:
            process.join()
        assert wins.value == 1


def test_json_never_holds_what_json_does_not_know(run):
    run.write_json("x.json", {"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": None}})
    text = (run.path / "x.json").read_text()
    assert json.loads(text) == {"a": None, "b": [None, 1.5], "c": {"d": None}}
    assert "NaN" not in text


def test_a_line_cut_short_is_left_out(run):
    run.append("history.jsonl", {"epoch": 1})
    with (run.path / "history.jsonl").open("a") as file:
        file.write('{"epoch": 2')
    assert run.read_lines("history.jsonl") == [{"epoch": 1}]
    assert run.read_lines("nothing.jsonl") == []


def test_sweep_removes_what_killed_writers_left(run):
    (run.path / ".best.pt.tmp").write_text("half")
    run.sweep()
    assert sorted(p.name for p in run.path.iterdir()) == ["job.yaml", "status.json"]


def test_runs_are_found_from_any_level_and_what_was_put_aside_is_not(run, tmp_path):
    RunDir.create(tmp_path / "job" / ".old" / "run-1", "")
    RunDir.create(tmp_path / ".submit" / "x", "")
    for root in (tmp_path, tmp_path / "job", tmp_path / "job" / "run"):
        assert [r.path for r in find_runs(root)] == [run.path]
