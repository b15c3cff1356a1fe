"""The program as a person types it, from the folder of a round."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["batch", "history_of", "metrics_of", "run_of", "timed"]


def command(*words: object) -> list[str]:
    """The words of ``python -m deeplense_batch ...``."""
    return [sys.executable, "-m", "deeplense_batch", *map(str, words)]


def batch(*words: object, **environment: str) -> str:
    """Run it to its end; what it printed.

    Raises:
        RuntimeError: It ended with another code than 0.
    """
    import os

    done = subprocess.run(
        command(*words), capture_output=True, text=True, env=os.environ | environment
    )
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-3:])
        raise RuntimeError(f"exit {done.returncode} of {' '.join(map(str, words))}: {last}")
    return done.stdout


def timed(*words: object) -> float:
    """Seconds that it takes, its start included."""
    started = time.perf_counter()
    batch(*words)
    return time.perf_counter() - started


def run_of(job: str) -> Path:
    """Folder of the one run of a job."""
    (folder,) = (path.parent for path in Path("runs", job).glob("*/job.yaml"))
    return folder


def metrics_of(job: str) -> dict[str, Any]:
    """What its one run measured."""
    return json.loads((run_of(job) / "metrics.json").read_text())


def history_of(job: str) -> list[dict[str, Any]]:
    """Its epochs."""
    return [json.loads(line) for line in (run_of(job) / "history.jsonl").open()]
