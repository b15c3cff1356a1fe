"""What a process is started in: caches, compilers, and file systems that lack something."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import make_job, typed

from deeplense_batch.core import files, machine
from deeplense_batch.runs import preflight
from deeplense_batch.runs.planning.plan import plan
from deeplense_batch.runs.training_run import run

HERE = torch.device("cpu")


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A home in which nothing is named by the environment."""
    for name in (*machine._CACHES, "XDG_CACHE_HOME", "MPLBACKEND"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_caches_lie_in_a_folder_of_the_user_alone(home):
    root = machine.private_caches()
    assert root == home / ".cache" / "deeplense_batch"
    assert root.stat().st_mode & 0o777 == 0o700
    root.chmod(0o777)  # somebody opened it: it is closed again
    assert machine.private_caches().stat().st_mode & 0o777 == 0o700


def test_settling_leaves_what_the_user_has_named(home, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", "/named")
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    for name in machine._CACHES:  # what is set here is taken back
        monkeypatch.setenv(name, os.environ.get(name, ""))
    machine.prepare_environment()
    assert os.environ["MPLBACKEND"] == "agg" and os.environ["TRITON_CACHE_DIR"] == "/named"
    assert os.environ["MPLCONFIGDIR"] == str(home / ".cache/deeplense_batch/matplotlib")


@pytest.mark.parametrize("fault", ["a file", "of another", "without modes"])
def test_without_a_home_of_its_own_a_process_has_a_folder_while_it_lives(home, monkeypatch, fault):
    if fault == "a file":
        (home / ".cache").touch()
    elif fault == "of another":
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    else:
        chmod = Path.chmod
        monkeypatch.setattr(Path, "chmod", lambda path, mode: chmod(path, 0o755))
    code = "from deeplense_batch.core.machine import private_caches as p; print(p(), flush=True)"
    root = machine.private_caches()
    assert home not in root.parents and root.name.startswith("deeplense_batch-")
    assert root.stat().st_mode & 0o777 == 0o700
    if fault == "a file":
        shown = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        assert Path(shown).name.startswith("deeplense_batch-") and not Path(shown).exists()


def unsupported(*_: object, **__: object) -> None:
    raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))


@pytest.mark.parametrize(
    ("module", "name", "lacks"),
    [
        (os, "link", "hard links"),
        (fcntl, "flock", "locks"),
        (os, "fsync", "syncing of folders"),
        (os, "utime", "times of files"),
    ],
)
def test_the_doctor_tells_what_a_disk_lacks_and_that_runs_work_all_the_same(
    tmp_path, monkeypatch, module, name, lacks
):
    monkeypatch.setattr(preflight, "_LEAST_FREE_GB", 0.0)
    whole = preflight._disk(tmp_path)
    assert whole.fit and "it has no" not in whole.state
    monkeypatch.setattr(module, name, unsupported)
    found = preflight._disk(tmp_path / "runs")
    assert found.fit and not list(tmp_path.iterdir())
    assert found.state.endswith(f"; it has no {lacks}: runs work, claims are made without")


def test_the_doctor_names_all_that_a_disk_lacks(tmp_path, monkeypatch):
    for module, name in ((os, "link"), (fcntl, "flock"), (os, "fsync"), (os, "utime")):
        monkeypatch.setattr(module, name, unsupported)
    lacks = "hard links, no times of files, no syncing of folders, no locks"
    assert f"it has no {lacks}" in preflight._disk(tmp_path).state


def test_a_disk_on_which_two_could_claim_one_run_is_unfit(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "create", lambda path, text: True)
    finding = preflight._disk(tmp_path)
    assert not finding.fit and str(finding).startswith("UNFIT disk: ")
    assert "two processes could claim one run there" in finding.state


@pytest.fixture
def no_compiler(monkeypatch):
    """As where neither g++ nor clang is in PATH: torch's own words."""

    def compiled(model, **_):
        def call(*_):
            raise RuntimeError("backend='inductor' raised:\nNo working C++ compiler found\n")

        return call

    monkeypatch.setattr(torch, "compile", compiled)


def test_without_a_compiler_the_doctor_says_so_and_finds_the_machine_fit(no_compiler):
    finding = preflight._compiling()
    assert finding.fit and finding.what == "compiling"
    assert finding.state == (
        f"engine.compile: torch.compile does not work on {HERE} here (backend='inductor' raised: "
        "No working C++ compiler found); a C++ compiler has to be in PATH, or leave "
        "engine.compile out"
    )


def test_without_a_compiler_a_run_that_asks_for_one_ends_in_a_sentence(
    shards, tmp_path, no_compiler, capsys
):
    (item,) = plan([make_job(shards, engine={"compile": True})], tmp_path)
    item.create()
    code, _, errors = typed(capsys, "run", item.run.path)
    assert code == 4 and errors.count("\n") == 1
    assert "engine.compile: torch.compile does not work on cpu here" in errors
    assert (item.run.status().state, item.run.status().reason) == ("failed", "environment")


def test_a_network_that_alone_cannot_be_compiled_trains_uncompiled_and_says_so(
    shards, tmp_path, monkeypatch, caplog
):
    """The compiler works, as a try of three operations shows, and fails on this graph."""

    def fails(graph, inputs):
        raise NotImplementedError("no lowering of aten::odd")

    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model: compiled(model, backend=fails))
    monkeypatch.setattr(preflight, "cannot_compile", lambda device: "")
    model, train = {"name": "simple_cnn"}, {"epochs": 1, "batch_size": 40}
    both = [make_job(shards, model=model, train=train, engine=e) for e in ({"compile": True}, {})]
    asked, plain = (plan([job], tmp_path / str(i))[0] for i, job in enumerate(both))
    with caplog.at_level("WARNING", logger="deeplense_batch"):
        run(asked, device="cpu")
    run(plain, device="cpu")
    (line,) = [r.getMessage() for r in caplog.records if "engine.compile" in r.getMessage()]
    assert line.endswith("; it trains uncompiled") and "no lowering of aten::odd" in line
    metrics, other = (item.run.read_json("metrics.json") for item in (asked, plain))
    assert metrics["resolved"]["compile"] is False
    assert metrics["test"]["scores"] == other["test"]["scores"]
