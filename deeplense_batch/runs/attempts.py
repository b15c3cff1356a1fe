"""The attempts at a run, as `attempts.jsonl` has them: a line for each start and each end.

A run that starts over is put aside, with its attempts.
"""

from __future__ import annotations

import contextlib
import time
from datetime import datetime
from pathlib import Path

from deeplense_batch.core import files
from deeplense_batch.core.rundir import RunDir, now

__all__ = ["close_lost_attempt", "device_hours", "put_aside"]


def close_lost_attempt(directory: RunDir) -> None:
    """Write the end of an attempt that was killed: it lasted to its last sign of life.

    To be called before `status.json` is written anew, which has that sign.
    """
    lines = directory.read_lines("attempts.jsonl")
    if not lines or lines[-1]["event"] == "end":
        return
    start, seen = lines[-1], directory.status().updated or lines[-1]["time"]
    lasted = datetime.fromisoformat(seen) - datetime.fromisoformat(start["time"])
    end = {"event": "end", "time": seen, "state": "lost", "reason": None}
    seconds = {"seconds": max(lasted.total_seconds(), 0.0), "devices": start["devices"]}
    directory.append("attempts.jsonl", end | {"attempt": start["attempt"]} | seconds)


def device_hours(directory: RunDir, started: float, devices: int) -> float:
    """Hours of every device over every attempt: the ended ones, and this one so far.

    Arguments:
        directory: Of the run.
        started: When this attempt began, as `time.perf_counter` counts.
        devices: Processes of this attempt.
    """
    lines = directory.read_lines("attempts.jsonl")
    seconds = sum(line["seconds"] * line["devices"] for line in lines if line["event"] == "end")
    return (seconds + (time.perf_counter() - started) * devices) / 3600


def put_aside(run: RunDir) -> Path:
    """Move a run directory out of the way, to start over; nothing is deleted."""
    old = run.path.parent / ".old"
    old.mkdir(exist_ok=True)
    stamp = f"{run.path.name}-{now().replace(':', '')}"
    aside, number = old / stamp, 1
    while aside.exists():  # of the same second
        aside, number = old / f"{stamp}-{number}", number + 1
    files.move_folder(run.path, aside)
    with contextlib.suppress(OSError):  # a damaged one is no claim
        (aside / "claim").unlink(missing_ok=True)
    return aside
