"""The contract of an executor, and which of them heeds which flag."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from conftest import typed

from deeplense_batch.cluster.executor import EXECUTORS, Options, make_executor
from deeplense_batch.core.job import JobError, OverrideError
from deeplense_batch.core.recipe import load_jobs
from deeplense_batch.runs.planning.plan import plan


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


def test_an_executor_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(JobError, match=r"^--cluster: unknown 'slrum'; did you mean 'slurm'"):
        make_executor("slrum", tmp_path, Options())


def test_an_option_says_which_executor_heeds_it(tmp_path):
    with pytest.raises(OverrideError, match=r"^--chain: is for --cluster slurm, not --cluster de"):
        make_executor("debug", tmp_path, Options(chain=2))
    executor = make_executor("slurm", tmp_path, Options(chain=2, parallel=3))
    assert (executor.out, executor.options.chain, executor.waits) == (tmp_path, 2, False)
