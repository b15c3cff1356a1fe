"""The round: parts ordered by worth, each a process with a time limit of its own.

Started by `benchmarks/gpu_round.sh`. A part that fails or is cut off stops no other; what it found
until then is in the results file, which is whole at any moment.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.documents import document, table, write
from benchmarks.gpu_round.plan import LONG_MINUTES, PARTS, limit_of, order_of
from benchmarks.gpu_round.record import Round, read_lines

__all__ = ["main"]

ROOT = Path(__file__).parent.parent.parent
_NO_GPU = 4  # as the suite's own exit code
_KEEP_SECONDS = 1.0  # between two writings of the results file
_COMPANY = (  # of the dependencies, in a Python of torch and its company alone
    "termcolor", "pydantic-core", "annotated-types", "typing-inspection", "importlib-metadata",
    "zipp",
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
        self.kill()
        return f"cut off at its limit of {self.limit:.0f} s"

    def kill(self) -> None:
        """End it with all that it started."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def main() -> int:
    """One part where `--part` names it, else all; 1 where a check failed or a part did."""
    asked = _arguments()
    if asked.part:
        round_ = Round(asked.part, asked.device, asked.small, asked.lines, asked.ends)
        module, _, function = PARTS[asked.part].where.partition(".")
        getattr(importlib.import_module(f"benchmarks.gpu_round.{module}"), function)(round_)
        return 0
    ends = time.monotonic() + 60 * asked.minutes
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(143)
    )  # as an interrupt: what is there is kept
    with tempfile.TemporaryDirectory() as own:
        if asked.wheels:
            _install(asked.wheels.absolute(), Path(own) / "site")
        if lacking := _lacking():
            head = "benchmarks/gpu_round.sh tells how to carry them"
            return _refuse(f"not installed here: {', '.join(lacking)}; {head}", 1)
        facts = _warm_up(asked, ends)
        if facts is None:
            hint = "--device cpu --small rehearses the round without one"
            return _refuse(f"torch sees no GPU here; {hint}", _NO_GPU)
        return _Whole(asked, facts, Path(own), ends).go()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="gpu_round.sh", description="Checks and measurements on one GPU."
    )
    add = parser.add_argument
    add("--minutes", type=float, default=8.0,
        help=f"of the whole round; {LONG_MINUTES:.0f} or more add the long parts")  # fmt: skip
    add("--device", choices=("cuda", "cpu"), default="cuda", help="cpu rehearses it")
    add("--small", action="store_true", help="the same steps on little data")
    add("--out", type=Path, help="results file; by default benchmarks/results/CARD-DATE.json")
    add("--work", type=Path, help="a folder, not there yet, in which sets and runs are kept")
    add("--wheels", type=Path, help="a folder of wheels to install first")
    add("--only", nargs="+", choices=PARTS, default=[], metavar="PART",
        help=f"some parts alone, of {', '.join(PARTS)}")  # fmt: skip
    add("--part", choices=PARTS, help=argparse.SUPPRESS)
    add("--lines", type=Path, help=argparse.SUPPRESS)
    add("--ends", type=float, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.minutes <= 0:
        parser.error(f"--minutes: expected a number above 0; got {asked.minutes:g}")
    if asked.work and asked.work.exists():
        parser.error(f"--work: {asked.work} is there already; name a folder that is not")
    return asked


def _refuse(sentence: str, code: int) -> int:
    print(sentence, file=sys.stderr)
    return code


def _install(wheels: Path, site: Path) -> None:
    """Wheels, without an index, into a folder that every part then finds."""
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    files = map(str, sorted(wheels.glob("*.whl")))
    subprocess.run([*words, "--target", str(site), *files], check=True)
    os.environ["PYTHONPATH"] = f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    sys.path.insert(0, str(site))


def _lacking() -> list[str]:
    """Distributions that are asked for and not installed."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        asked = tomllib.load(file)["project"]["dependencies"]
    names = [re.split(r"[^\w-]", line)[0] for line in asked]
    return [name for name in (*names, *_COMPANY) if not _installed(name)]


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _warm_up(asked: argparse.Namespace, ends: float) -> dict[str, Any] | None:
    """What the machine is, and the seconds of the first imports; None without the GPU."""
    started = time.monotonic()
    words = [sys.executable, "-m", "benchmarks.gpu_round.warm", f"--device={asked.device}"]
    done = subprocess.run(
        words + ["--small"] * asked.small, stdout=subprocess.PIPE, text=True, check=True,
        timeout=max(ends - started, 60.0),
    )  # fmt: skip
    facts = json.loads(done.stdout.splitlines()[-1])
    return facts and facts | {"first_imports_seconds": round(time.monotonic() - started, 1)}


def _results_of(asked: argparse.Namespace, facts: dict[str, Any]) -> Path:
    """The file asked for, or one of the card and the day that is not there yet."""
    if asked.out:
        return asked.out.absolute()
    name = re.sub(r"\W+", "-", facts["card"] or facts["processor"]).strip("-")
    stem = f"{name}-{facts['date'][:10]}" + "-small" * asked.small
    folder = ROOT / "benchmarks" / "results"
    tries = (folder / f"{stem}{more}.json" for more in ("", *(f"-{n}" for n in range(2, 1000))))
    return next(path for path in tries if not path.exists())


class _Whole:
    """A whole round."""

    def __init__(
        self, asked: argparse.Namespace, facts: dict[str, Any], own: Path, ends: float
    ) -> None:
        self._asked, self._ends = asked, ends
        self._work = (asked.work or own / "work").absolute()
        self._out = _results_of(asked, facts)
        self._out.parent.mkdir(parents=True, exist_ok=True)
        self._lines = self._out.with_name(f"{self._out.name}l")  # a line as soon as it is known
        self._lines.unlink(missing_ok=True)
        self._report = Round("round", asked.device, asked.small, self._lines, ends)
        self._kept = (0.0, 0)  # when the results file was written last, of how many bytes of lines
        self._report.tell(**facts)

    def go(self) -> int:
        """Every part; 1 where a check failed or a part did not come to its end."""
        began = time.monotonic()
        self._work.mkdir(parents=True)
        (self._work / "jobs").symlink_to(ROOT / "jobs")
        order = order_of(self._asked.minutes, self._asked.only)
        for row, names in enumerate(order):
            if (left := self._ends - time.monotonic()) > 0:
                limit = limit_of(row, order, left)
                self._await([self._start(name, limit) for name in names])
            for name in names if left <= 0 else ():
                state = "not begun: the round's time was over"
                self._report.tell("part", name=name, state=state, seconds=0.0, limit=0)
        counts = _count(read_lines(self._lines))
        self._report.tell("end", seconds=round(time.monotonic() - began, 1), **counts)
        self._keep()
        self._lines.unlink()
        print(table(document_of := json.loads(self._out.read_text())))
        print(f"results: {self._out}")
        return int(counts["failed"] > 0 or counts["done"] < len(document_of["parts"]))

    def _start(self, name: str, limit: float) -> _Started:
        began = time.monotonic()
        words = [sys.executable, "-m", "benchmarks.gpu_round", f"--part={name}"]
        words += [f"--device={self._asked.device}", f"--lines={self._lines}"]
        words += [f"--ends={began + limit}"] + ["--small"] * self._asked.small
        process = subprocess.Popen(words, cwd=self._work, start_new_session=True)
        return _Started(name, process, began, limit)

    def _await(self, started: list[_Started]) -> None:
        try:
            while started:
                time.sleep(0.05)
                for part in list(started):
                    if (state := part.ended()) is not None:
                        started.remove(part)
                        self._end(part, state)
                self._keep(_KEEP_SECONDS)
        finally:
            for part in started:  # an interrupt
                part.kill()
                self._end(part, "interrupted")
            self._keep()

    def _end(self, part: _Started, state: str) -> None:
        seconds, limit = round(part.seconds(), 1), round(part.limit)
        self._report.tell("part", name=part.name, state=state, seconds=seconds, limit=limit)

    def _keep(self, every: float = 0.0) -> None:
        """Write the results file, where there is anything new and the last time is long ago."""
        when, size = self._kept
        now, there = time.monotonic(), self._lines.stat().st_size
        if there != size and now - when >= every:
            write(self._out, document(read_lines(self._lines)))
            self._kept = now, there


def _count(lines: list[dict[str, Any]]) -> dict[str, int]:
    """Parts that came to their end; checks that passed, failed, and could not be tested here."""
    found = Counter(line["passed"] for line in lines if line["kind"] == "check")
    done = sum(line["kind"] == "part" and line["state"] == "done" for line in lines)
    return {
        "done": done, "passed": found[True], "failed": found[False], "not_tested": found[None]
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
