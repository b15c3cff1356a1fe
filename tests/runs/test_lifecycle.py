"""What goes wrong around a run: disks, folders, files, clocks, and two who start it at once."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import torch
import yaml
from conftest import PATIENCE, make_job, wait_for

from deeplense_batch.cluster import submit
from deeplense_batch.cluster.executor import Options, make_executor
from deeplense_batch.core import processes, provenance, rundir
from deeplense_batch.core.result import write_metrics
from deeplense_batch.core.rundir import RunDir, Status, find_runs
from deeplense_batch.data.header import read_head
from deeplense_batch.data.shards import ShardError, open_shard
from deeplense_batch.models import checkpoint
from deeplense_batch.runs import lifecycle
from deeplense_batch.runs import training_run as run_module
from deeplense_batch.runs.planning.plan import PlannedRun, plan
from deeplense_batch.runs.training_run import run


def planned(job, out: Path) -> PlannedRun:
    return plan([job], out)[0]


def start(*words: str | Path, cwd: Path | None = None, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "deeplense_batch", *map(str, words)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=os.environ | environment,
    )


def ends(run: RunDir) -> list[tuple[str, str | None]]:
    lines = run.read_lines("attempts.jsonl")
    return [(line["state"], line["reason"]) for line in lines if line["event"] == "end"]


@pytest.fixture
def small_disk(tmp_path: Path):
    """A disk of 40 MB."""
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("the gate needs root, to mount a small disk")
        pytest.skip("not root: a small disk cannot be mounted")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def fill(disk: Path, *, but: int) -> Path:
    """Fill a disk, but for some bytes; gives the file that does."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 20))
        file.truncate(file.tell() - but)
    return ballast


def test_a_full_disk_fails_the_run_and_costs_an_interval(shards, small_disk, tmp_path, gate):
    train = {"epochs": 8, "batch_size": 8}
    item, whole = (planned(make_job(shards, train=train), d) for d in (small_disk, tmp_path))
    item.create()

    def run_into_a_full_disk(*, epochs: int, but: int) -> str:
        process = start("run", item.run.path, **gate.after(epochs))
        gate.wait_until_held()
        ballast = fill(small_disk, but=but)
        gate.open()
        _, errors = process.communicate(timeout=PATIENCE)
        ballast.unlink()
        assert process.returncode == 4 and "No space left on device" in errors, errors
        saved = checkpoint.load_checkpoint(item.run.path)
        assert saved is not None and epochs - 1 <= saved["epoch"] < 8
        return errors

    errors = run_into_a_full_disk(epochs=2, but=100_000)
    assert "Traceback" not in errors
    status = item.run.status()
    assert (status.state, status.reason) == ("failed", "environment")
    assert status.message.startswith(f"{platform.node()}: {item.run.path}/")
    assert status.message.endswith(": No space left on device")
    assert not list(item.run.path.glob(".*"))
    run_into_a_full_disk(epochs=len(item.run.read_lines("history.jsonl")) + 2, but=0)
    assert item.run.status().state in ("failed", "lost")  # where not even that can be written
    run(item, device="cpu")
    run(whole, device="cpu")
    a, b = (checkpoint.load(i.run.path / checkpoint.CHECKPOINT)["model"] for i in (item, whole))
    assert all(torch.equal(a[name], b[name]) for name in b)
    assert ends(item.run)[0] == ("failed", "environment") and item.run.status().state == "done"
    assert [line["epoch"] for line in item.run.read_lines("history.jsonl")] == [*range(1, 9)]


def test_a_line_cut_short_is_no_part_of_the_next(tmp_path):
    directory = RunDir.create(tmp_path / "job" / "run", "")
    directory.append("history.jsonl", {"epoch": 1})
    with (directory.path / "history.jsonl").open("a") as file:
        file.write('{"epo')
    directory.append("history.jsonl", {"epoch": 2})
    assert directory.read_lines("history.jsonl") == [{"epoch": 1}, {"epoch": 2}]


def test_a_run_whose_directory_is_removed_ends_and_makes_nothing(shards, tmp_path):
    item = planned(make_job(shards, train={"epochs": 2000}), tmp_path)
    item.create()
    process = start("run", item.run.path)
    wait_for(lambda: item.run.read_lines("history.jsonl"))
    item.run.path.rename(tmp_path / "gone")
    shutil.rmtree(tmp_path / "gone")
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 3 and "Traceback" not in errors, errors
    assert "No such file or directory" in errors.splitlines()[-1]
    assert not item.run.path.exists()


@pytest.mark.parametrize("files", [["status.json"], ["status.json", "attempts.jsonl"]])
def test_a_state_that_was_removed_meanwhile_is_written_again(tmp_path, files):
    directory = RunDir.create(tmp_path / "job" / "run", "")
    with lifecycle.attempt(directory, epochs=3):
        beat = lifecycle.heart(directory)
        beat(1)
        for name in files:
            (directory.path / name).unlink()
        beat(2)
        status = directory.status()
        assert (status.state, status.attempt, status.epoch, status.epochs) == ("running", 1, 2, 3)
        directory.write_status(replace(status, state="failed", message="of another process"))
        beat(3)
        assert directory.status().message == "of another process"


@pytest.mark.parametrize("place", ["images", "targets"])
def test_one_flipped_byte_in_a_shard_is_named_by_digest(shards, tmp_path, place):
    root = tmp_path / "shards"
    shutil.copytree(shards, root)
    path = root / "train-00001-of-00003.h5"
    item = planned(make_job(root), tmp_path / "runs")
    item.create()
    with open_shard(path) as file:
        offset, packed = file[place].id.get_offset(), read_head(path).bytes
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)
    with pytest.raises(ShardError, match=rf"{path}: is damaged .* packed as {packed[:12]}\)"):
        run(item, device="cpu")
    assert ends(item.run) == [("failed", "data")]


def test_a_recipe_edited_after_submit_changes_nothing(shards, tmp_path):
    recipe = {
        "model": {"name": "test_resnet"},
        "data": {"root": str(shards)},
        "train": {"epochs": 3, "batch_size": 8},
        "resources": {"gpus": 0},
    }
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(recipe))
    process = start("submit", path, cwd=tmp_path)
    taken = {"queued", "running", "done"}
    wait_for(lambda: taken & {r.status().state for r in find_runs(tmp_path / "runs")})
    path.write_text(yaml.safe_dump(recipe | {"train": {"epochs": 1, "batch_size": 64}}))
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    (run,) = find_runs(tmp_path / "runs")
    assert len(run.read_lines("history.jsonl")) == 3
    assert yaml.safe_load((run.path / "job.yaml").read_text())["train"]["batch_size"] == 8


@pytest.fixture
def clock(monkeypatch):
    """The wall clock; a list of one number, the hours it is wrong by."""
    wrong = [0.0]

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(hours=wrong[0])

    for module in (rundir, processes):
        monkeypatch.setattr(module, "datetime", Clock)
    return wrong


def test_a_clock_moved_back_an_hour_loses_no_run(tmp_path, clock):
    directory = RunDir.create(tmp_path / "job" / "run", "")
    directory.write_status(Status(state="running"))
    content = directory.read_json("status.json")
    for host in (content["host"], "elsewhere"):
        directory.write_json("status.json", content | {"host": host})
        for hours in (0, -1):
            clock[0] = hours
            assert directory.status().state == "running"
    # And one that is dead is found out, once the clock has come by.
    clock[0] = 1
    assert directory.status().state == "lost"


def test_a_clock_moved_back_during_a_run_leaves_its_costs_right(
    shards, tmp_path, clock, monkeypatch
):
    def epoch_ends(self, *words):
        clock[0] = -1.0
        return report(self, *words)

    report = run_module.Trainer._report
    monkeypatch.setattr(run_module.Trainer, "_report", epoch_ends)
    item = planned(make_job(shards, train={"epochs": 2}), tmp_path)
    run(item, device="cpu")
    assert item.run.status().state == "done"
    assert 0 < item.run.read_json("metrics.json")["cost"]["device_hours"] < 0.9
    (end,) = [e for e in item.run.read_lines("attempts.jsonl") if e["event"] == "end"]
    assert 0 < end["seconds"] < 3500
    before = (item.run.path / "metrics.json").read_bytes()
    run(item, device="cpu")
    assert (item.run.path / "metrics.json").read_bytes() == before


def _submit(jobs, out: Path, together) -> None:
    """Submit the same jobs a hundred times, each time together with another process."""
    for i in range(100):
        items = plan(jobs, out / str(i))
        together.wait()
        submission = submit.Submission.of(items, retry=False, force=False)
        executor = make_executor("debug", out / str(i), Options(device="cpu"))
        submit.submit(submission, executor)


@pytest.mark.slow
def test_two_submits_at_the_same_moment_run_nothing_twice(shards, tmp_path, monkeypatch):
    def carried_out(training):
        """In place of an hour of training: a line for each time, and a result."""
        directory = training.directory
        with (directory.path / "carried_out").open("a") as file:
            file.write(f"{os.getpid()}\n")
        write_metrics(directory, {"summary": "", "test": {"scores": {}}})
        return {}

    monkeypatch.setattr(run_module._Training, "carry_out", carried_out)
    monkeypatch.setattr(provenance, "commit", lambda: None)  # asks git, a hundred times
    jobs = [make_job(shards, name=name) for name in ("one", "two")]
    context = multiprocessing.get_context("fork")
    together = context.Barrier(2, timeout=PATIENCE)
    both = [context.Process(target=_submit, args=(jobs, tmp_path, together)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    winners = []
    for i in range(100):
        runs = find_runs(tmp_path / str(i))
        assert [r.status().state for r in runs] == ["done", "done"]
        assert [ends(r) for r in runs] == [[("done", None)]] * 2
        lines = [(r.path / "carried_out").read_text().splitlines() for r in runs]
        assert [len(line) for line in lines] == [1, 1], (i, lines)
        winners += [line[0] for line in lines]
    assert set(winners) == {str(process.pid) for process in both}  # they did meet
