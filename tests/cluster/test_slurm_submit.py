"""Runs handed to SLURM as arrays, and scripts that only say how."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import traceback
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE
from slurm_programs import program

from deeplense_batch.cluster.executor import Options, make_executor
from deeplense_batch.cluster.slurm_queue import SlurmError
from deeplense_batch.cluster.slurm_submit import write_scripts
from deeplense_batch.cluster.submit import Submission, submit
from deeplense_batch.core.recipe import load_jobs
from deeplense_batch.core.rundir import Status
from deeplense_batch.runs.planning.plan import plan


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


def test_scripts_are_written_for_each_array_and_their_runs_are_made(recipe):
    large = load_jobs(recipe, {"resources.memory_gb": 64, "name": "large"})
    todo = plan([*load_jobs(recipe), *large], Path("runs"))
    first, second = write_scripts(todo, Path("scripts"), parallel=1, device="cpu")
    assert (first, second) == (Path("scripts/small-0.sbatch"), Path("scripts/large-1.sbatch"))
    for path, memory in ((first, "8 GB"), (second, "64 GB")):
        shebang, about, how, *rest = path.read_text().splitlines()
        assert shebang.startswith("#!") and how.endswith(f"then: sbatch {path}")
        assert about == f"# An array of 2 runs: 1 CPU, {memory}, 1 h each."
        assert "#SBATCH --array=0-1%1" in rest and "--device=cpu" in path.read_text()
    assert [item.run.status().state for item in todo] == ["planned"] * 4
    first.write_text("edited")
    again = write_scripts(todo, Path("scripts"))
    assert again == [Path("scripts/small-1.sbatch"), Path("scripts/large-2.sbatch")]
    assert first.read_text() == "edited" and "sbatch scripts/small-1" in again[0].read_text()


def test_what_is_handed_over_is_recorded_with_the_jobs_behind_it(recipe):
    program(
        "sbatch", 'echo >> asked; n=$(wc -l < asked); cp "$1" $n.sh; echo Submitted batch job $n'
    )
    program("squeue", "exit 0")
    todo = plan(load_jobs(recipe), Path("runs"))
    for item in todo:
        item.create()
    options = Options(chain=2, collect=Path("report"))
    make_executor("slurm", Path("runs"), options).submit(todo)
    (folder,) = Path("runs/.submit").iterdir()
    record = json.loads((folder / "submission.json").read_text())
    assert (record["cluster"], record["jobs"]) == ("slurm", ["1", "2", "3", "4"])
    lines = [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()]
    assert [line["element"] for line in lines] == [item.run.status().element for item in todo]
    assert [Path(line["run"]).name for line in lines] == [item.run.path.name for item in todo]
    waits = [re.findall(r"#SBATCH --dependency=(.*)", Path(f"{n}.sh").read_text()) for n in "1234"]
    assert waits == [[], ["afternotok:1"], ["afternotok:2"], ["afterany:1:2:3"]]


def test_what_slurm_did_not_take_is_as_it_was(recipe):
    """It takes the first of two arrays. Of the second, one run had failed and one had died."""
    program("sbatch", "mkdir first || exit 1; echo Submitted batch job 7")
    program("squeue", "echo no answer >&2; exit 1")
    large = load_jobs(recipe, {"resources.memory_gb": 64, "name": "large"})
    todo = plan([*load_jobs(recipe), *large], Path("runs"))
    failed, died = (item.create() for item in todo[2:])
    failed.write_status(Status(state="failed", reason="oom", message="too large", epoch=1))
    died.write_status(Status(state="running", epoch=2))
    died.write_json("status.json", died.read_json("status.json") | {"pid": 2**22 + 1})
    submission = Submission.of(todo, retry=True, force=False)
    with pytest.raises(SlurmError):
        submit(submission, make_executor("slurm", Path("runs"), Options()))
    states = [item.run.status() for item in todo]
    assert [status.state for status in states] == ["queued", "queued", "failed", "stopped"]
    assert [bool(status.element) for status in states] == [True, True, False, False]
    assert (states[2].reason, states[2].message, states[3].epoch) == ("oom", "too large", 2)
    again = Submission.of(todo, retry=True, force=False)
    assert [entry.action for entry in again.entries] == ["skip", "skip", "try again", "go on"]
