"""The batch script, on a real SLURM."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import slurm_cluster
import yaml
from conftest import REPOSITORY, wait_for

from deeplense_batch.rundir import find_runs

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    missing = slurm_cluster.missing_tools()
    if missing:
        if os.environ.get("CI"):
            pytest.fail(f"the gate needs a real SLURM; not installed: {', '.join(missing)}")
        pytest.skip(f"no SLURM on this machine: {', '.join(missing)} not installed")
    with slurm_cluster.cluster(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


def test_a_grid_is_cut_short_requeued_and_finished(slurm, shards, tmp_path: Path):
    recipe = {
        "model": {"name": "test_resnet"},
        "data": {"root": str(shards)},
        "train": {"epochs": 150, "batch_size": 8, "lr": 1e-3},
        "resources": {"gpus": 0},
    }
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(recipe))
    environment = slurm | {"DEEPLENSE_PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}

    def command(*words: str) -> str:
        return subprocess.run(
            words, env=environment, cwd=tmp_path, text=True, capture_output=True, check=True
        ).stdout

    script = str(REPOSITORY / "slurm" / "node.sbatch")
    job = command("sbatch", "--parsable", "--time=10", script, "small.yaml").strip()
    log = tmp_path / f"deeplense-{job}.log"

    def epochs() -> int:
        return sum(len(run.read_lines("history.jsonl")) for run in find_runs(tmp_path / "runs"))

    wait_for(lambda: epochs() >= 3)
    command("scancel", "--signal=USR2", "--batch", job)
    wait_for(lambda: find_runs(tmp_path / "runs")[0].status().state == "stopped")
    (run,) = find_runs(tmp_path / "runs")
    wait_for(lambda: run.status().state == "done", 150)
    attempts = [line for line in run.read_lines("attempts.jsonl") if line["event"] == "end"]
    assert [line["state"] for line in attempts] == ["stopped", "done"], log.read_text()
    assert [line["epoch"] for line in run.read_lines("history.jsonl")] == [*range(1, 151)]


def test_the_script_tells_what_is_wrong(slurm, tmp_path: Path):
    environment = slurm | {"DEEPLENSE_PYTHON": sys.executable}
    script = str(REPOSITORY / "slurm" / "node.sbatch")
    answer = subprocess.run(
        ["sbatch", "--parsable", "--wait", script, "nowhere.yaml"],
        env=environment, cwd=tmp_path, text=True, capture_output=True,
    )  # fmt: skip
    assert answer.returncode == 3
    (log,) = tmp_path.glob("deeplense-*.log")
    assert "nowhere.yaml: cannot be read" in log.read_text()
