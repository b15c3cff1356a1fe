"""The round: parts ordered by worth, each a process with a time limit of its own.

Started by `benchmarks/gpu_round.sh`. Parts that measure no time run side by side. A part
that fails or is cut off stops no other; what it found until then is in the results file.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu_round.record import Round

__all__ = ["PARTS", "main"]

ROOT = Path(__file__).parent.parent.parent
_WHOLE = 480.0  # seconds for which the limits below are meant


@dataclass(frozen=True)
class Part:
    """One part of the round."""

    where: str  # module and function, imported by the part alone: one may be broken
    limit: float  # seconds, of a round of `_WHOLE`


PARTS = {
    "machine": Part("machine.machine", 30),
    "data": Part("sets.data", 60),
    "correctness": Part("checks.correctness", 120),
    "digests": Part("sets.digests", 60),
    "resume": Part("runs.resume", 60),
    "gpu_tests": Part("runs.gpu_tests", 60),
    "throughput": Part("speed.throughput", 130),
    "training": Part("runs.training", 160),
    "verbs": Part("runs.verbs", 60),
    "bench": Part("runs.bench", 60),
    "simulation": Part("sets.simulation", 60),
}
_ORDER = (
    ("machine",), ("data",), ("correctness", "digests", "resume", "gpu_tests"), ("throughput",),
    ("training",), ("verbs",), ("bench",), ("simulation",),
)  # fmt: skip


@dataclass(frozen=True)
class _Started:
    """A part under way."""

    name: str
    process: subprocess.Popen[bytes]
    began: float
    limit: float

    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.began

    def ended(self) -> str | None:
        """How it ended, if it did; at its limit it is killed with all that it started."""
        code = self.process.poll()
        if code is not None:
            return "done" if code == 0 else f"failed: exit {code}"
        if self.seconds() < self.limit:
            return None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        return f"cut off at its limit of {self.limit:.0f} s"


def main() -> int:
    """One part where `--part` names it, else all; 1 where a check failed or a part did."""
    asked = _arguments()
    if asked.part:
        round_ = Round(asked.part, asked.device, asked.small, asked.results)
        module, _, function = PARTS[asked.part].where.partition(".")
        getattr(importlib.import_module(f"benchmarks.gpu_round.{module}"), function)(round_)
        return 0
    _prepare(asked.work)
    return _all(asked)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--limit", type=float, default=_WHOLE)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    asked = parser.parse_args()
    asked.work, asked.results = asked.work.absolute(), asked.results.absolute()
    return asked


def _prepare(work: Path) -> None:
    """An empty folder to work in, with the recipes."""
    work.mkdir(parents=True)
    (work / "jobs").symlink_to(ROOT / "jobs")


def _all(asked: argparse.Namespace) -> int:
    began = time.monotonic()
    report = Round("round", asked.device, asked.small, asked.results)
    for beside in _ORDER:
        left = asked.limit - (time.monotonic() - began)
        if left > 0:
            _await([_start(name, asked, left) for name in beside], report)
        else:
            for name in beside:
                report.tell("part", name=name, state="not begun: the round's time was over")
    counts = _count(asked.results)
    report.tell("end", seconds=round(time.monotonic() - began, 1), **counts)
    _summary(asked.results)
    return int(counts["failed"] > 0 or counts["done"] < len(PARTS))


def _await(started: list[_Started], report: Round) -> None:
    while started:
        time.sleep(0.05)
        for part in list(started):
            if (state := part.ended()) is not None:
                started.remove(part)
                seconds, limit = round(part.seconds(), 1), round(part.limit)
                report.tell("part", name=part.name, state=state, seconds=seconds, limit=limit)


def _start(name: str, asked: argparse.Namespace, left: float) -> _Started:
    limit = min(PARTS[name].limit * asked.limit / _WHOLE, left)
    words = [sys.executable, "-m", "benchmarks.gpu_round", f"--part={name}"]
    words += [f"--device={asked.device}", f"--work={asked.work}", f"--results={asked.results}"]
    words += ["--small"] * asked.small
    process = subprocess.Popen(words, cwd=asked.work, start_new_session=True)
    return _Started(name, process, time.monotonic(), limit)


def _lines(results: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]


def _count(results: Path) -> dict[str, int]:
    """Parts that came to their end; checks that passed, failed, and could not be tested here."""
    lines = _lines(results)
    found = Counter(line["passed"] for line in lines if line["kind"] == "check")
    done = sum(line["kind"] == "part" and line["state"] == "done" for line in lines)
    return {
        "done": done, "passed": found[True], "failed": found[False], "not_tested": found[None]
    }  # fmt: skip


def _summary(results: Path) -> None:
    """What a reader looks for first: what failed, what was not tested, which part did not end."""
    for line in _lines(results):
        if line["kind"] == "check" and line["passed"] is not True:
            verdict = "not tested" if line["passed"] is None else "FAILED"
            print(f"{verdict}: {line['part']}: {line['name']}: {line['why']}")
        if line["kind"] == "part" and line["state"] != "done":
            print(f"PART {line['name']}: {line['state']}")
    print(f"results: {results}")


if __name__ == "__main__":
    sys.exit(main())
