"""The round for a GPU, rehearsed without one: every part in small, and what goes wrong in one."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import REPOSITORY
from torch.autograd import DeviceType

from benchmarks.gpu_round import __main__ as round_main
from benchmarks.gpu_round import comparison, runs, sets, speed
from benchmarks.gpu_round.plan import LONG_MINUTES, PARTS, limit_of, order_of
from benchmarks.gpu_round.record import NotTested, Round, read_lines
from deeplense_batch.data.shards import data_digest

ROUND = REPOSITORY / "benchmarks" / "gpu_round.sh"


def words(out: Path, *more: str) -> list[str]:
    return [str(ROUND), "--device=cpu", "--small", f"--out={out}", *more]


def rehearse(out: Path, *more: str, **environment: str) -> subprocess.CompletedProcess:
    fixed = {"PYTHON": sys.executable}
    return subprocess.run(
        words(out, *more), capture_output=True, text=True, env=os.environ | fixed | environment
    )


def part(folder: Path, name: str = "some", ends: float = float("inf")) -> Round:
    """A part of a rehearsal that writes to a folder."""
    return Round(name, "cpu", True, folder / "lines.jsonl", ends)


def lines(round_: Round, kind: str) -> list[dict]:
    return [line for line in read_lines(round_.lines) if line["kind"] == kind]


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder as the parts of a round find theirs."""
    (tmp_path / "jobs").symlink_to(REPOSITORY / "jobs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_part_comes_to_its_end_in_small(tmp_path):
    out = tmp_path / "round.json"
    done = rehearse(out, "--minutes=150")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads(out.read_text())
    assert {part["name"]: part["state"] for part in found["parts"]} == dict.fromkeys(PARTS, "done")
    checks = found["checks"]
    assert not [check for check in checks if check["passed"] is False]
    assert all(check["why"] for check in checks if check["passed"] is None)
    assert {check["part"] for check in checks} >= {"data", "correctness", "digests", "resume"}
    numbers = {(n["part"], n["name"]): n["value"] for n in found["numbers"]}
    assert {part for part, _ in numbers} == {*PARTS} - {"digests", "gpu_tests", "doctor"}
    assert numbers["machine", "host's time for a launch"] > 0
    assert numbers["throughput", "images of the set"] == 240
    assert numbers["peers", "test_resnet, batch 4, 32 pixels, float32, 0 workers: ours over timm"]
    assert {note["kind"] for note in found["notes"]} == {"doctor"}
    assert found["machine"]["versions"]["torch"] and found["machine"]["small"]
    assert found["end"]["passed"] + found["end"]["not_tested"] == len(checks)
    assert "not tested: digests: digest of substructure, benchmark: no GPU" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["round.json"]


def test_at_the_limit_what_was_found_is_kept_and_the_rest_is_said(tmp_path):
    out = tmp_path / "round.json"
    done = rehearse(out, "--minutes=0.0001")
    assert done.returncode == 1, done.stderr
    found = json.loads(out.read_text())
    states = {part["name"]: part["state"] for part in found["parts"]}
    assert list(states) == [name for row in order_of(8) for name in row]
    assert set(states.values()) == {"not begun: the round's time was over"}
    assert "PART simulation: not begun" in done.stdout and found["end"]["done"] == 0
    assert found["machine"]["cores"] > 0


def test_a_round_that_is_ended_leaves_a_whole_file_and_no_process(tmp_path):
    out = tmp_path / "round.json"
    environment = os.environ | {"PYTHON": sys.executable}
    process = subprocess.Popen(words(out), env=environment, stdout=subprocess.DEVNULL)
    while not out.exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143
    found = json.loads(out.read_text())
    assert found["machine"]["processor"] and found["parts"][-1]["state"] == "interrupted"
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert str(out) not in listed


def test_limits_are_shares_of_what_is_left():
    order = order_of(8)
    names = [name for row in order for name in row]
    assert names == [name for name in PARTS if not PARTS[name].long]
    first, last = limit_of(0, order, 480), limit_of(len(order) - 1, order, 100)
    assert 20 <= first < 60 and last == 100, "the last may take all that is left"
    throughput = order.index(("throughput",))
    assert limit_of(throughput, order, 400) == 2 * limit_of(throughput, order, 200)
    assert limit_of(0, order, 480) >= 20 > limit_of(0, order, 3) == 3


def test_a_long_round_has_the_long_parts_last():
    assert order_of(8, ["resume", "data", "labels"]) == [("data",), ("resume",), ("labels",)]
    short, long = order_of(LONG_MINUTES - 1), order_of(LONG_MINUTES)
    assert long[: len(short)] == short and len(long) > len(short)
    assert all(PARTS[name].long for row in long[len(short) :] for name in row)


def test_a_check_that_fails_or_cannot_tell_is_kept_with_the_reason(tmp_path, capsys):
    round_ = part(tmp_path)

    def broken() -> None:
        raise RuntimeError("on purpose")

    def unknown() -> None:
        raise NotTested("no GPU")

    for name, test in (("well", lambda: "seen"), ("ill", broken), ("unknown", unknown)):
        round_.check(name, test)
        round_.attempt(f"{name} attempt", test)
    found = {c["name"]: (c["passed"], c["why"]) for c in lines(round_, "check")}
    assert found == {
        "well": (True, "seen"),
        "ill": (False, "RuntimeError: on purpose"),
        "ill attempt": (False, "RuntimeError: on purpose"),
        "unknown": (None, "no GPU"),
        "unknown attempt": (None, "no GPU"),
    }
    round_.number("rate", [3.0, 1.0, 2.0], "images/s")
    round_.number("rate", float("nan"), "images/s")
    first, second = lines(round_, "number")
    assert (first["value"], first["least"], first["most"]) == (2.0, 1.0, 3.0)
    assert second["value"] is None
    assert round_.found("some", "rate") is None and round_.found("other", "rate") is None


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    round_ = part(tmp_path)
    round_.tell("note", name="whole")
    with round_.lines.open("a") as file:
        file.write('{"kind": "note", "na')
    assert [line["name"] for line in read_lines(round_.lines)] == ["whole"]


def test_a_part_without_a_set_makes_the_smallest(work):
    round_ = part(work)
    root = sets.main_set(round_)
    assert root == "data/main-60-cores" and sets.images_of(root) == 60
    assert [line["value"] for line in lines(round_, "number")] == [60]
    digest = data_digest(sets.varied(round_))
    assert data_digest(sets.varied(round_)) == digest


def test_the_largest_whole_set_is_taken(work):
    round_ = part(work)
    for images, maker in ((60, "cores"), (240, "cores"), (240, "device")):
        sets._folder(images, maker).mkdir(parents=True)
    sets._folder(60, "cores").joinpath("manifest.json").touch()
    assert sets.main_set(round_) == "data/main-60-cores", "the larger ones are not whole"
    sets._folder(240, "device").joinpath("manifest.json").touch()
    assert sets.main_set(round_) == "data/main-240-device"


@pytest.mark.parametrize(("left", "made"), [(1e9, [60, 60, 240]), (-1.0, [60, 60])])
def test_a_set_grows_while_there_is_time(work, monkeypatch, left, made):
    """Each maker makes the first; the faster one those that follow."""
    round_ = part(work, ends=time.monotonic() + left)
    asked = []

    def maker(name, seconds):
        def make(images: int) -> float:
            asked.append((name, images))
            return seconds * images

        return make

    monkeypatch.setattr(sets, "varied", lambda _: "data/varied")
    monkeypatch.setattr(sets, "_check_same", lambda *_: None)
    monkeypatch.setattr(
        sets,
        "_makers",
        lambda *_: {"cores": maker("cores", 2e-3), "device": maker("device", 1e-3)},
    )
    sets.data(round_)
    assert [images for _, images in asked] == made
    assert [name for name, _ in asked][2:] == ["device"] * (len(made) - 2)


def test_a_maker_that_fails_leaves_the_other(work, monkeypatch, capsys):
    round_ = part(work)

    def broken(images: int) -> float:
        raise OSError("no space")

    good = {"cores": lambda images: 1e-3 * images, "device": broken}
    monkeypatch.setattr(sets, "varied", lambda _: "data/varied")
    monkeypatch.setattr(sets, "_makers", lambda *_: good)
    sets.data(round_)
    failed = [check["name"] for check in lines(round_, "check") if check["passed"] is False]
    assert failed[0] == "60 images simulated by the device"
    assert [line["images"] for line in lines(round_, "number")] == [60, 240]


def test_a_way_that_fails_stops_no_other(work, monkeypatch, capsys):
    round_ = part(work, "throughput")

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("on purpose")

    monkeypatch.setattr(speed, "_ours", broken)
    speed.throughput(round_)
    names = [number["name"] for number in lines(round_, "number")]
    assert "bare: batch 64, float32" in names and "loader alone: batch 64, float32" in names
    failed = {check["name"] for check in lines(round_, "check") if check["passed"] is False}
    assert "ours: batch 64, float32" in failed


def test_a_profile_is_counted_by_step_and_the_gpu_is_busy_once():
    """Kernels alone are time of the GPU: neither what launched them nor ranges around them."""

    def event(key, count, micros=0.0, device=DeviceType.CPU, annotation=False):
        return SimpleNamespace(
            key=key, count=count, self_device_time_total=micros, device_type=device,
            is_user_annotation=annotation,
        )  # fmt: skip

    events = [
        event("cudaLaunchKernel", 90), event("cuLaunchKernelEx", 10), event("cudaGraphLaunch", 5),
        event("cudaMemcpyAsync", 10), event("cudaStreamSynchronize", 5),
        event("aten::conv2d", 5, 4e6), event("implicit_gemm", 5, 4e6, DeviceType.CUDA),
        event("Optimizer.step", 5, 3e6, DeviceType.CUDA, annotation=True),
    ]  # fmt: skip
    assert speed._counts(iter(events), 5, 1.0) == {
        "launches a step": 21, "copies a step": 2, "waits a step": 1, "busy share of the GPU": 0.8,
    }  # fmt: skip


def test_epochs_are_as_many_as_there_is_time_for(tmp_path):
    asked = [comparison._Asked("a", "a"), comparison._Asked("a, half", "a", share=0.5)]
    rates = {"a": 1000.0}
    assert comparison._epochs(1e9, asked, rates, 1000, 15) == 15
    assert comparison._epochs(0.0, asked, rates, 1000, 15) == 1
    assert comparison._epochs(30 + 5 * 1.5 * 0.8 * 1.5 + 0.1, asked, rates, 1000, 15) == 5
    assert comparison._epochs(1e9, asked, {}, 1000, 15) == 3
    whole = Round("training", "cpu", False, tmp_path / "x", time.monotonic() + 100)
    for way in ("float32", "bf16, channels_last"):
        Round("throughput", "cpu", False, whole.lines, 0).number(
            f"ours: batch 64, {way}", 4000.0, "images/s"
        )
    assert runs._epochs(whole, 10_000) == 5, "(0.75 * 100 - 40) / (2 * 1.3 * 10000 / 4000)"
    assert runs._epochs(whole, 1_000) == 15 and runs._epochs(whole, 1_000_000) == 2


def test_shares_of_slices_are_read():
    grid = comparison._grid(str(REPOSITORY / "jobs" / "label_fraction.yaml"))
    assert [*map(comparison._share, grid["data.train"])] == [0.01, 0.03, 0.1, 0.3, 1.0]


def test_a_file_of_the_card_and_the_day(tmp_path, monkeypatch):
    monkeypatch.setattr(round_main, "ROOT", tmp_path)
    asked = argparse.Namespace(out=None, small=False)
    facts = {"card": "NVIDIA H100 80GB HBM3", "processor": "x", "date": "2026-11-27T10:00:00"}
    folder = tmp_path / "benchmarks" / "results"
    first = round_main._results_of(asked, facts)
    assert first == folder / "NVIDIA-H100-80GB-HBM3-2026-11-27.json"
    folder.mkdir(parents=True)
    first.touch()
    assert round_main._results_of(asked, facts).name == "NVIDIA-H100-80GB-HBM3-2026-11-27-2.json"
    asked.small = True
    name = round_main._results_of(asked, facts | {"card": None}).name
    assert name == "x-2026-11-27-small.json"


def test_what_is_lacking_is_said_before_anything_runs(tmp_path):
    """A Python with nothing installed."""
    out, bare = tmp_path / "round.json", tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    done = rehearse(out, PYTHON=str(bare), PYTHONPATH="")
    assert done.returncode == 1 and not out.exists()
    assert "not installed here: torch, torchvision, timm" in done.stderr
    assert "tells how to carry them" in done.stderr


def test_wheels_are_installed_where_every_part_finds_them(tmp_path, monkeypatch):
    wheel = tmp_path / "carried_along-1.0-py3-none-any.whl"
    info = "carried_along-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("carried_along.py", "")
        file.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: carried-along\nVersion: 1.0\n"
        )
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PYTHONPATH", "before")
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert not round_main._installed("carried-along")
    round_main._install(tmp_path, tmp_path / "site")
    assert round_main._installed("carried-along")
    assert os.environ["PYTHONPATH"] == f"{tmp_path / 'site'}{os.pathsep}before"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_how_to_rehearse(tmp_path):
    done = rehearse(tmp_path / "round.json", "--device=cuda")
    assert done.returncode == 4 and "--device cpu --small rehearses" in done.stderr


@pytest.mark.parametrize(
    ("more", "told"),
    [("--minutes=0", "expected a number above 0; got 0"), ("--work=.", "is there already")],
)
def test_options_that_cannot_be_are_refused(tmp_path, more, told):
    done = rehearse(tmp_path / "round.json", more)
    assert done.returncode == 2 and told in done.stderr and len(list(tmp_path.iterdir())) == 0
