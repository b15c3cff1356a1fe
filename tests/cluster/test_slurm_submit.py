"""Runs handed to SLURM as arrays, and scripts that only say how."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE
from slurm_programs import program

from deeplense_batch.cluster.executor import Options, make_executor
from deeplense_batch.cluster.submit import Submission, submit
from deeplense_batch.core.recipe import load_jobs
from deeplense_batch.runs.plan import plan


@pytest.mark.slow
def test_of_two_submits_at_the_same_moment_one_hands_a_run_over(recipe, monkeypatch):
    """With a queue that remembers: a hundred times two processes that look and act at once."""
    program(
        "sbatch",
        """name=$(sed -n 's/^#SBATCH --job-name=//p' "$1")
sed -n '/^runs=(/,/^)/s/^ .*-\\(s[01]\\)-.*/\\1/p' "$1" >> "$FOLDER/handed"
printf '%s|0|7_0|PENDING|None\\n%s|1|7_1|PENDING|None\\n' "$name" "$name" >> "$FOLDER/queue"
echo Submitted batch job 7""",
    )
    program("squeue", 'cat "$FOLDER/queue" 2>/dev/null || true')
    jobs = load_jobs(recipe)

    def hand_over(out: Path, together: Any) -> None:
        planned = plan(jobs, out)
        together.wait()
        executor = make_executor("slurm", out, Options())
        submit(Submission.of(planned, retry=False, force=False), executor)

    for attempt in range(100):
        out = Path(f"runs{attempt}")
        out.mkdir()
        monkeypatch.setenv("FOLDER", str(out.absolute()))
        together, children = multiprocessing.get_context("fork").Barrier(2, timeout=PATIENCE), []
        for _ in range(2):
            children.append(os.fork())
            if not children[-1]:
                try:
                    hand_over(out, together)
                    os._exit(0)
                except BaseException:
                    traceback.print_exc()
                os._exit(1)
        assert [os.waitpid(child, 0)[1] for child in children] == [0, 0], attempt
        assert sorted((out / "handed").read_text().split()) == ["s0", "s1"], attempt
