"""File systems that lack hard links or syncing, and what a kill leaves behind."""

from __future__ import annotations

import errno
import multiprocessing
import os
import socket
from pathlib import Path

import pytest

from deeplense_batch.core import files
from deeplense_batch.core.rundir import RunBusyError, RunDir


def refused(number: int):
    def refuse(*args: object, **named: object) -> None:
        raise OSError(number, os.strerror(number), str(args[0]))

    return refuse


@pytest.fixture(params=[errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM], ids=errno.errorcode.get)
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without hard links, syncing or times of one's own."""
    for name in ("link", "fsync", "utime"):
        monkeypatch.setattr(os, name, refused(request.param))


def test_without_hard_links_one_makes_a_file_and_it_is_whole(bucket, tmp_path):
    assert files.create(tmp_path / "a", "first")
    assert not files.create(tmp_path / "a", "second")
    assert (tmp_path / "a").read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_full_disk_is_no_missing_feature(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", refused(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left"):
        files.create(tmp_path / "a", "x")
    assert not list(tmp_path.iterdir())


def _claim(path: str, together, wins, tried) -> None:
    together.wait()
    try:
        with RunDir(path).claim():
            with wins.get_lock():
                wins.value += 1
            tried.wait()
    except RunBusyError:
        tried.wait()


@pytest.mark.parametrize("stale", [False, True])
def test_without_hard_links_of_many_one_gets_the_claim(bucket, tmp_path, stale):
    run = RunDir.create(tmp_path / "job" / "run", "name: job\n")
    if stale:
        (run.path / "claim").write_text("")  # of a node that lost power
    context = multiprocessing.get_context("fork")
    wins, together, tried = (
        context.Value("i", 0),
        context.Barrier(6),
        context.Barrier(6, timeout=60),
    )
    shared = (str(run.path), together, wins, tried)
    tries = [context.Process(target=_claim, args=shared) for _ in range(6)]
    for process in tries:
        process.start()
    for process in tries:
        process.join()
    assert wins.value == 1
    assert sorted(p.name for p in run.path.iterdir()) == ["job.yaml", "status.json"]


def test_a_lock_of_a_killed_process_is_broken(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_STALE_SECONDS", 0.05)
    (tmp_path / "lock").write_text("of nobody")
    with files.exclusively(tmp_path / "lock"):
        assert (tmp_path / "lock").read_text() != "of nobody"
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_renamed_is_copied(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_text("c")
    monkeypatch.setattr(Path, "rename", refused(errno.ENOTSUP))
    files.move_folder(tmp_path / "a", tmp_path / "new")
    assert (tmp_path / "new" / "b" / "c").read_text() == "c" and not (tmp_path / "a").exists()


def test_what_killed_writers_left_is_swept_wherever_it_lies(tmp_path):
    left = [
        ".best.pt.tmp",
        "figures/.roc.png.1.tmp",
        "samples/.train-00000.tmp.h5",
        "a/b/.c.tmp.x/d",
    ]
    kept = ["best.pt", "figures/roc.png", "figures/tmp.png", ".hidden"]
    for name in left + kept:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    RunDir(tmp_path).sweep()
    assert sorted(
        str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()
    ) == sorted(kept)


def dead() -> int:
    """The number of a process that has ended."""
    process = multiprocessing.get_context("fork").Process(target=os.getpid)
    process.start()
    process.join()
    assert process.pid is not None
    return process.pid


def test_what_a_killed_writer_left_goes_when_the_file_is_written_again(tmp_path):
    """Also where nobody sweeps: in a report, beside a table."""
    path, host = tmp_path / "results[1].csv", socket.gethostname()
    left = tmp_path / f".{path.name}.{host}.{dead()}.tmp"
    others = [
        tmp_path / f".{path.name}.{host}.{os.getppid()}.tmp",  # it lives
        tmp_path / f".{path.name}.elsewhere.{dead()}.tmp",  # nobody here knows
        tmp_path / f".other.csv.{host}.{dead()}.tmp",
        tmp_path / f".{path.name}.{host}.old.tmp",
    ]
    for one in (left, *others):
        one.touch()
    files.replace(path, "new")
    assert path.read_text() == "new"
    assert sorted(tmp_path.iterdir()) == sorted([path, *others])


def test_what_stands_where_a_file_should(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("file", "pipe", "nothing"):
        (tmp_path / f"to {name}").symlink_to(name)
    (tmp_path / "to itself").symlink_to("to itself")
    said = {path.name: files.no_file(path) for path in tmp_path.iterdir()}
    assert said == {
        "file": "", "to file": "",
        "folder": "is no file", "pipe": "is no file", "to pipe": "is no file",
        "to nothing": "is a link to nothing", "to itself": "is a link to nothing",
    }  # fmt: skip
    assert files.no_file(tmp_path / "nothing") == ""
