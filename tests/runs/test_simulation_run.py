"""A simulation fanned out by submit: parts are runs, and the set is that of one process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
import yaml
from conftest import typed, wait_for

from deeplense_batch.core.job import JobError, Simulation
from deeplense_batch.core.processes import StartError
from deeplense_batch.core.recipe import load_jobs
from deeplense_batch.core.rundir import RunDir, find_runs
from deeplense_batch.data.shards import data_digest
from deeplense_batch.runs.launch import execute
from deeplense_batch.runs.planning.plan import plan, reopen
from deeplense_batch.runs.simulation_run import simulate_part
from deeplense_batch.simulation.simulate import simulate

SET = {"images": 120, "size": 32, "shard_size": 10}


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "lenses.yaml"
    content = {"simulate": {"out": "set", **SET}, "parts": 3, "resources": {"gpus": 0}}
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def digest(tmp_path_factory) -> str:
    return simulate("substructure", tmp_path_factory.mktemp("whole") / "set", **SET).digest


def test_parts_become_runs(recipe):
    jobs = load_jobs(recipe)
    assert [(type(job), job.part, job.parts) for job in jobs] == [
        (Simulation, part, 3) for part in range(3)
    ]
    planned = plan(jobs, "runs")
    assert len({item.run.path for item in planned}) == 3
    made = planned[1].create()
    again = reopen(made.path)
    assert again.job == planned[1].job and again.job.simulate.out == str(Path("set").absolute())
    other = plan(load_jobs(recipe, {"simulate.set.sphere.count": 30}), "runs")
    assert not {item.run.path for item in planned} & {item.run.path for item in other}


def test_submitted_it_is_the_set_of_one_process(recipe, digest, capsys):
    code, shown, _ = typed(capsys, "submit", recipe, "--parallel=2")
    assert code == 0 and "part=2" in shown
    assert data_digest("set") == digest
    code, shown, _ = typed(capsys, "submit", recipe)
    assert code == 0 and "3 runs (3 done), nothing to do" in shown
    code, shown, _ = typed(capsys, "status")
    assert code == 0 and "3 runs: 3 done" in shown
    code, shown, _ = typed(capsys, "collect")
    assert code == 0


def test_many_at_once_make_one_set(recipe, digest):
    """All parts at one moment, each in a process, none waiting for the others."""
    paths = [item.create().path for item in plan(load_jobs(recipe), "runs")]
    command = [sys.executable, "-m", "deeplense_batch", "run"]
    processes = [subprocess.Popen([*command, str(path)]) for path in paths]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert data_digest("set") == digest
    assert not Path("set/.parts").exists()


def test_who_ends_last_joins_even_if_another_just_looked(tmp_path, digest):
    """A part that found shards missing, and still holds the claim, does not keep us from it."""
    for part in (0, 1):
        simulate("substructure", tmp_path, part=part, parts=3, **SET)
    with RunDir(tmp_path / ".parts").claim():
        last = threading.Thread(
            target=simulate, args=("substructure", tmp_path), kwargs={"part": 2, "parts": 3, **SET}
        )
        last.start()
        last.join(2.0)
        assert last.is_alive() and not list(tmp_path.glob("*.h5"))
    last.join()
    assert data_digest(tmp_path) == digest


def test_another_place_is_another_set_and_one_that_is_gone_is_made_again(recipe, capsys):
    assert typed(capsys, "submit", recipe, "--parts=1")[0] == 0
    code, shown, _ = typed(capsys, "submit", recipe, "--parts=1", "--simulate.out=other")
    assert code == 0 and "1 to do" in shown and Path("other/manifest.json").exists()
    shutil.rmtree("set")
    code, shown, _ = typed(capsys, "submit", recipe, "--parts=1")
    assert code == 0 and "go on" in shown
    assert data_digest("set") == data_digest("other")


def test_a_claim_of_a_host_that_is_gone_is_taken_over(tmp_path, digest):
    for part in (0, 1):
        simulate("substructure", tmp_path, part=part, parts=3, **SET)
    claim = tmp_path / ".parts" / "claim"
    claim.write_text('{"host": "dead-node", "pid": 1, "started": 1.0}')
    os.utime(claim, (1e9, 1e9))
    assert simulate("substructure", tmp_path, part=2, parts=3, **SET).digest == digest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGKILL])
def test_cut_short_it_goes_on(recipe, number, capsys):
    big = {"simulate.images": 1200, "simulate.size": 64, "parts": 1}
    words = [f"--{name}={value}" for name, value in big.items()]
    (run,) = [item.create() for item in plan(load_jobs(recipe, big), "runs")]
    process = subprocess.Popen([sys.executable, "-m", "deeplense_batch", "run", str(run.path)])
    wait_for(lambda: len(list(Path("set").glob(".parts/*.h5"))) > 2)
    process.send_signal(number)
    killed = number == signal.SIGKILL
    assert process.wait() == (-number if killed else 85)
    assert run.status().state == ("lost" if killed else "stopped")
    kept = {path.name for path in Path("set").glob(".parts/*.h5")}
    assert kept
    code, shown, _ = typed(capsys, "submit", recipe, *words)
    assert code == 0 and "go on" in shown
    assert run.status().state == "done"
    metrics = run.read_json("metrics.json")
    made = metrics["cost"]["images_per_s"] * metrics["cost"]["simulate_seconds"]
    assert made <= 1200 - 10 * len(kept) + 10 and metrics["made"] == 1200
    whole = simulate("substructure", "whole", images=1200, size=64)
    assert data_digest("set") == whole.digest


def test_a_part_that_goes_on_has_all_its_images_and_the_speed_of_its_last_attempt(recipe):
    def stop() -> None:
        if len(list(Path("set/.parts").glob("*.h5"))) == 2:
            raise InterruptedError

    options = {"parts": 3, "part": 1, **SET}
    with pytest.raises(InterruptedError):
        simulate("substructure", Path("set"), on_batch=stop, **options)
    (item,) = plan(load_jobs(recipe, {"part": 1}), "runs")
    simulate_part(item)
    metrics = item.run.read_json("metrics.json")
    cost = metrics["cost"]
    assert metrics["made"] == 40 and metrics["summary"].startswith("40 images, ")
    assert cost["images_per_s"] * cost["simulate_seconds"] == pytest.approx(20)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("simulate.preset", "physicl", "did you mean 'physical'"),
        ("simulate.images", 3, "images: expected a whole number from 6"),
        ("simulate.set.sphere.cuont", 3, "did you mean 'count'"),
        ("simulate.kind", "stars", "KIND: got 'stars'"),
        ("part", 3, "part: 3 of 3 parts"),
        ("resources.processes", 2, "resources.processes: one process makes a part of a simulat"),
        ("resources.gpus", 2, "resources.gpus: one process .* on one GPU at most; got 2"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_made(recipe, field, value, sentence):
    with pytest.raises(JobError, match=sentence):
        plan(load_jobs(recipe, {field: value}), "runs")
    assert not Path("runs").exists() and not Path("set").exists()


def test_a_kind_that_has_no_use_for_a_gpu_is_refused_one(recipe):
    pytest.importorskip("deeplense_batch.simulation.survey.lens_finding")
    content = {"simulate": {"kind": "lens_finding", "out": "set"}, "resources": {"gpus": 1}}
    recipe.write_text(yaml.safe_dump(content))
    with pytest.raises(JobError, match="a lens_finding set is made on the CPU alone; expected 0"):
        plan(load_jobs(recipe), "runs")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_device_of_a_simulation_is_that_of_the_flag_and_else_the_job_s(recipe, digest, capsys):
    words = ["--cluster=debug", "--resources.gpus=1", "--parts=1"]
    assert typed(capsys, "submit", recipe, *words)[0] == 5
    (run,) = find_runs(Path("runs"))
    status = run.status()
    assert (status.state, status.reason) == ("failed", "environment")
    assert "a GPU is asked for" in status.message
    assert typed(capsys, "submit", recipe, *words, "--retry", "--device=cpu")[0] == 0
    assert data_digest("set") == digest


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_the_gpu_that_is_asked_for_it_ends_in_a_sentence(recipe, capsys):
    """By whatever verb: nothing was made, and the machine is unfit."""
    by_verb = {
        "simulate": ["substructure", "other", "--images=6", "--device=cuda"],
        "run": [recipe, "--resources.gpus=1", "--parts=1", "--part=0"],
    }
    for verb, words in by_verb.items():
        code, _, said = typed(capsys, verb, *words)
        assert code == 4 and said.count("a GPU is asked for and torch sees none") == 1, verb
        assert said.rstrip().endswith("resources.gpus: 0 or --device cpu run on the CPU")
        assert "Traceback" not in said and "Error" not in said.replace("FileNotFoundError", "")
    assert not Path("other").exists() and not Path("set").exists()


def test_one_process_makes_a_part(recipe):
    (item, *_) = plan(load_jobs(recipe), "runs")
    with pytest.raises(StartError, match="one process makes a part of a simulation, not 2"):
        execute(item, processes=2)
    assert not item.run.path.exists()


def test_all_of_jobs_makes_no_data(recipe, shards, capsys):
    Path("jobs").mkdir()
    recipe.rename(Path("jobs") / recipe.name)
    job = {"model": {"name": "test_resnet"}, "data": {"root": str(shards)}}
    Path("jobs/small.yaml").write_text(yaml.safe_dump(job))
    code, shown, _ = typed(capsys, "submit", "--grid", "--dry_run", "--yes")
    assert code == 0 and "lenses" not in shown and "1 run," in shown
    assert not find_runs(Path("runs"))
