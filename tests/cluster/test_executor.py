"""The contract of an executor, and which of them heeds which flag."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from conftest import typed

from deeplense_batch.cluster.executor import EXECUTORS, Options, make_executor
from deeplense_batch.core.recipe import load_jobs
from deeplense_batch.runs.plan import plan


@pytest.mark.parametrize("cluster", EXECUTORS)
def test_every_executor_keeps_the_contract(cluster, recipe):
    executor = make_executor(cluster, Path("runs"), Options(parallel=1, device="cpu"))
    assert executor.name == cluster
    assert set(executor.flags) <= {field.name for field in dataclasses.fields(Options)}
    todo = plan(load_jobs(recipe), Path("runs"))
    executor.check(todo)
    assert isinstance(executor.estimate(todo), str)
    assert not Path("runs").exists()  # nothing is written before `submit`


def test_flags_of_slurm_are_for_slurm(recipe, capsys):
    for flag in ("--chain=1", "--collect", "--bench=x.json"):
        code, _, error = typed(capsys, "submit", "--grid", recipe, flag)
        name = flag.partition("=")[0]
        assert (code, error) == (2, f"{name}: is for --cluster slurm, not --cluster local\n")
    code, _, error = typed(
        capsys, "submit", "--grid", recipe, "--jobs_per_gpu=2", "--cluster=slurm"
    )
    assert code == 2 and error == "--jobs_per_gpu: is for --cluster local, not --cluster slurm\n"
    assert typed(capsys, "cancel", "--state=done")[:2] == (2, "")
