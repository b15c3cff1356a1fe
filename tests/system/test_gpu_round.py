"""The round for a GPU, rehearsed without one: every part in small, and what goes wrong in one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY

from benchmarks.gpu_round.__main__ import PARTS
from benchmarks.gpu_round.record import NotTested, Round


def rehearse(results: Path, **environment: str) -> subprocess.CompletedProcess:
    fixed = {"DEVICE": "cpu", "SMALL": "1", "PYTHON": sys.executable, "RESULTS": str(results)}
    return subprocess.run(
        [REPOSITORY / "benchmarks" / "gpu_round.sh"], capture_output=True, text=True,
        env=os.environ | fixed | environment,
    )  # fmt: skip


def lines(results: Path, kind: str) -> list[dict]:
    every = [json.loads(line) for line in results.read_text().splitlines()]
    return [line for line in every if line["kind"] == kind]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_part_comes_to_its_end_in_small(tmp_path):
    results = tmp_path / "round.jsonl"
    done = rehearse(results, LIMIT="9000")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert {part["name"]: part["state"] for part in lines(results, "part")} == dict.fromkeys(
        PARTS, "done"
    )
    checks = lines(results, "check")
    assert {check["part"] for check in checks} == {*PARTS} - {"verbs", "bench"}
    assert not [check for check in checks if check["passed"] is False]
    assert all(check["why"] for check in checks if check["passed"] is None)
    numbers = lines(results, "number")
    assert {number["part"] for number in numbers} >= {"data", "throughput", "training", "verbs"}
    (machine,) = lines(results, "machine")
    assert machine["versions"]["torch"] and machine["date"] and machine["small"]
    assert "not tested: digests: digest of substructure, benchmark: no GPU" in done.stdout
    (end,) = lines(results, "end")
    assert end["failed"] == 0 and end["passed"] + end["not_tested"] == len(checks)


def test_at_the_limit_what_was_found_is_kept_and_the_rest_is_said(tmp_path):
    results = tmp_path / "round.jsonl"
    done = rehearse(results, LIMIT="0.01")
    assert done.returncode == 1, done.stderr
    states = {part["name"]: part["state"] for part in lines(results, "part")}
    assert states.keys() == PARTS.keys()
    assert states["machine"] == "cut off at its limit of 0 s"
    assert states["simulation"] == "not begun: the round's time was over"
    assert "PART simulation: not begun" in done.stdout and lines(results, "end")


def test_a_check_that_fails_or_cannot_tell_is_kept_with_the_reason(tmp_path, capsys):
    round_ = Round("some", "cpu", True, tmp_path / "round.jsonl")

    def broken() -> None:
        raise RuntimeError("on purpose")

    def unknown() -> None:
        raise NotTested("no GPU")

    for name, test in (("well", lambda: "seen"), ("ill", broken), ("unknown", unknown)):
        round_.check(name, test)
    found = {c["name"]: (c["passed"], c["why"]) for c in lines(round_.results, "check")}
    assert found == {
        "well": (True, "seen"),
        "ill": (False, "RuntimeError: on purpose"),
        "unknown": (None, "no GPU"),
    }
    round_.number("rate", [3.0, 1.0, 2.0], "images/s")
    (number,) = lines(round_.results, "number")
    assert (number["value"], number["least"], number["most"]) == (2.0, 1.0, 3.0)


def test_what_is_lacking_is_said_before_anything_runs(tmp_path):
    """A Python with nothing installed."""
    results = tmp_path / "round.jsonl"
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    done = rehearse(results, PYTHON=str(bare))
    assert done.returncode != 0 and not results.exists()
    assert "not installed here: torch, torchvision, timm" in done.stderr
    assert "tells how to carry them" in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_how_to_rehearse(tmp_path):
    done = rehearse(tmp_path / "round.jsonl", DEVICE="cuda")
    assert done.returncode == 4 and "DEVICE=cpu SMALL=1 rehearses" in done.stderr
