"""Every kind of training makes the same weights by two processes as by one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack

import pytest
from conftest import PATIENCE, make_job
from made_restoration import write_rings
from made_runs import weights
from made_sets import write_set

from deeplense_batch.core.job import Job
from deeplense_batch.runs import scoring
from deeplense_batch.runs.planning.plan import PlannedRun, plan
from deeplense_batch.runs.training_run import run

# Steps of 15 images and of the rest, which two processes never share evenly.
TRAIN = {"batch_size": 15, "optimizer": "sgd", "lr": 0.01}
MASKED = {"encoder": "test_vit", "decoder_depth": 1, "decoder_width": 16, "decoder_heads": 2}


def curriculum(folder) -> Job:
    """Photon noise on one set of expected counts after another, in epochs of their own."""
    first, last = (
        write_set(folder / name, train=size, seed=size, level=60, sky=10.0, shape=(1, 16, 16))
        for name, size in (("first", 25), ("last", 22))
    )
    data = {
        "curriculum": [{"root": str(first), "epochs": 1}],
        "augment": {"dihedral": True, "photon_noise": True},
    }
    train = TRAIN | {"epochs": 2}
    return make_job(last, name="curriculum", model={"name": "simple_cnn"}, data=data, train=train)


def masked(folder) -> Job:
    root = write_set(folder / "masked", train=25, shape=(1, 32, 32))
    model = {"name": "masked_autoencoder", "options": MASKED}
    task, train = {"name": "masked", "options": {"probe_every": 1}}, TRAIN | {"epochs": 1}
    return make_job(root, name="masked", task=task, model=model, train=train)


def restoration(folder) -> Job:
    root = write_rings(folder / "pairs")
    model = {"name": "edsr", "options": {"width": 4, "blocks": 1}}
    task = {"name": "restoration", "options": {"residual": True, "ssim": 0.2}}
    train = TRAIN | {"epochs": 1}
    return make_job(root, name="restoration", task=task, model=model, train=train)


def posterior(folder) -> Job:
    root = write_set(folder / "truth", train=25, shape=(1, 16, 16), truth=("theta_e", "q"))
    options = {"targets": ["theta_e", "q"], "posterior": "gaussian"}
    task, train = {"name": "regression", "options": options}, TRAIN | {"epochs": 1}
    return make_job(root, name="posterior", task=task, model={"name": "simple_cnn"}, train=train)


KINDS = (curriculum, masked, restoration, posterior)

_RUN_EACH = """
import os, sys
from deeplense_batch.__main__ import main
from deeplense_batch.runs import scoring
scoring.save_figure = lambda figure, path: None
for word in sys.argv[1:]:
    os.environ["MASTER_PORT"], run = word.split(":", 1)
    try:
        main(["run", run, "--processes=2", "--device=cpu"])
    except SystemExit as end:
        if end.code:
            raise
"""


def run_by_two(items: Sequence[PlannedRun]) -> None:
    """Carry out runs by the same two processes, one after another: to start them takes longest."""
    words = []
    for item in items:
        item.create()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            words.append(f"{free.getsockname()[1]}:{item.run.path}")
    started = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    with ExitStack() as stack:
        processes = []
        for rank in ("0", "1"):
            place = {"RANK": rank, "LOCAL_RANK": rank}
            process = subprocess.Popen(
                [sys.executable, "-c", _RUN_EACH, *words],
                env=os.environ | started | place, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            processes.append(stack.enter_context(process))
            stack.callback(process.kill)  # where another has failed, which it would wait for
        for process in processes:
            _, errors = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, errors


@pytest.fixture(scope="module")
def by_one_and_by_two(tmp_path_factory) -> dict[str, tuple[PlannedRun, PlannedRun]]:
    folder = tmp_path_factory.mktemp("runs")
    jobs = [kind(folder) for kind in KINDS]
    ones, twos = (plan(jobs, folder / name) for name in ("one", "two"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "save_figure", lambda figure, path: None)  # slow
        for item in ones:
            run(item, device="cpu")
    run_by_two(twos)
    return dict(zip((kind.__name__ for kind in KINDS), zip(ones, twos, strict=True), strict=True))


@pytest.mark.parametrize("kind", [kind.__name__ for kind in KINDS])
def test_two_processes_make_the_weights_of_one(by_one_and_by_two, kind):
    one, two = by_one_and_by_two[kind]
    assert two.run.read_json("metrics.json")["device"]["count"] == 2
    a, b = weights(one), weights(two)
    assert a.keys() == b.keys()
    assert max(float((a[name] - b[name]).abs().max()) for name in a) < 1e-6
    lines = [item.run.read_lines("history.jsonl") for item in (one, two)]
    for line, other in zip(*lines, strict=True):
        assert other["train"] == pytest.approx(line["train"], rel=1e-4)
    scores = [item.run.read_json("metrics.json")["test"]["scores"] for item in (one, two)]
    assert scores[1] == pytest.approx(scores[0], rel=1e-3, abs=1e-4)
