"""One run: what it writes, and that being cut off changes nothing."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import wraps
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml
from conftest import CLASSES, PATIENCE, cli, make_images, make_job, wait_for
from made_runs import same_result, start, weights
from made_shards import write_shards
from sklearn.metrics import roc_auc_score

from deeplense_batch.core.job import JobError
from deeplense_batch.core.rundir import RunBusyError
from deeplense_batch.core.scoring.calibration import temperature
from deeplense_batch.core.scoring.metrics import softmax
from deeplense_batch.data.shards import ShardError, open_split
from deeplense_batch.data.writer import ShardWriter
from deeplense_batch.models import checkpoint
from deeplense_batch.runs.launch import execute
from deeplense_batch.runs.planning.plan import PlannedRun, plan, reopen
from deeplense_batch.runs.training_run import run
from deeplense_batch.tasks.regression import Regression
from deeplense_batch.training.trainer import BEST, DivergedError


def planned(job, out: Path) -> PlannedRun:
    return plan([job], out)[0]


@pytest.fixture(scope="module")
def done(shards, tmp_path_factory) -> PlannedRun:
    """A finished run."""
    item = planned(make_job(shards), tmp_path_factory.mktemp("runs"))
    run(item, device="cpu")
    return item


def test_a_run_learns_and_leaves_everything_readable(done, shards):
    directory = done.run
    assert directory.status().state == "done" and not (directory.path / "claim").exists()
    metrics = directory.read_json("metrics.json")
    assert metrics["test"]["scores"]["auc"] > 0.9
    assert metrics["data"]["samples"] == {"train": 120, "valid": 53, "test": 54}
    assert metrics["cost"]["train_seconds"] > 0 and metrics["device"]["type"] == "cpu"
    assert yaml.safe_load((directory.path / "job.yaml").read_text())["model"]["name"]
    assert len(directory.read_lines("history.jsonl")) == 4
    events = [line["event"] for line in directory.read_lines("attempts.jsonl")]
    assert events == ["start", "end"]
    for name in ("calibration", "confusion", "roc", "history"):
        assert (directory.figures / f"{name}.png").stat().st_size > 5000
    assert not list(directory.path.glob(".*"))


def test_scores_can_be_made_again_from_the_saved_outputs(done, shards):
    outputs = np.load(done.run.path / "outputs.npz")
    split = open_split(shards, "val[50%:]")
    assert outputs["ids"].tolist() == split.ids()
    assert np.array_equal(outputs["targets"], split.targets())
    probabilities = softmax(outputs["logits"])
    auc = roc_auc_score(outputs["targets"], probabilities, multi_class="ovr")
    stored = done.run.read_json("metrics.json")["test"]["scores"]["auc"]
    assert stored == pytest.approx(auc, abs=1e-12)


def test_the_best_weights_answers_on_the_validation_slice_are_kept(done, shards):
    with np.load(done.run.path / "validated.npz") as kept:
        split = open_split(shards, "val[:50%]")
        assert kept["ids"].tolist() == split.ids() and kept["classes"].tolist() == list(CLASSES)
        assert np.array_equal(kept["targets"], split.targets())
        auc = roc_auc_score(kept["targets"], softmax(kept["logits"]), multi_class="ovr")
        fitted = temperature(kept["targets"], kept["logits"])
    metrics = done.run.read_json("metrics.json")
    assert metrics["valid"]["scores"]["auc"] == pytest.approx(auc, abs=1e-12)
    assert metrics["test"]["scores"]["temperature"] == pytest.approx(fitted, abs=1e-12)


def test_keeping_the_validation_answers_of_a_regression_changes_no_result(tmp_path, monkeypatch):
    images, classes = make_images(60, seed=1)
    for split in ("train", "val"):
        truth = {"theta_e": 1.0 + classes / 10}
        write_shards(tmp_path / "data", split, images, classes, truth=truth)
    task = {"name": "regression", "options": {"target": "theta_e", "log10": False}}
    job = make_job(tmp_path / "data", task=task, train={"epochs": 2})
    kept, left = (planned(job, tmp_path / name) for name in ("kept", "left"))
    run(kept, device="cpu")
    with np.load(kept.run.path / "validated.npz") as answers:
        squared = ((answers["true"] - answers["predicted"]) ** 2).mean()
        r2 = 1 - squared / answers["true"].astype(float).var()
    scores = kept.run.read_json("metrics.json")["valid"]["scores"]
    assert scores["r2"] == pytest.approx(r2, abs=1e-5)
    made = Regression.__init__

    @wraps(made)  # whose signature says which options there are
    def made_without(task, **options):
        made(task, **options)
        task.spec = replace(task.spec, predicts=False)

    monkeypatch.setattr(Regression, "__init__", made_without)
    run(left, device="cpu")
    assert not (left.run.path / "validated.npz").exists()
    same_result(kept, left)


def test_training_stops_when_the_score_has_long_not_risen(shards, tmp_path):
    fields = {"epochs": 50, "patience": 2, "lr": 1e-9, "batch_size": 64}
    item = planned(make_job(shards, train=fields), tmp_path)
    run(item, device="cpu")
    history = item.run.read_lines("history.jsonl")
    best = item.run.read_json("metrics.json")["valid"]["epoch"]
    assert len(history) == best + 2 < 50 and item.run.status().epoch == len(history)


def test_cost_is_kept_apart_and_counts_every_attempt(done):
    metrics = done.run.read_json("metrics.json")
    cost = metrics["cost"]
    parts = [cost[f"{n}_seconds"] for n in ("load", "train", "evaluate", "test")]
    assert all(seconds > 0 for seconds in parts) and cost["joules"] is None
    assert cost["device_hours"] * 3600 >= sum(parts) - 1
    assert metrics["engine"]["amp"] == "off" and metrics["engine"]["micro_batch"] is None


def test_the_best_weights_are_those_of_the_best_validation_score(done):
    history = done.run.read_lines("history.jsonl")
    scores = [line["valid"]["auc"] for line in history]
    assert checkpoint.load(done.run.path / BEST)["epoch"] == 1 + int(np.argmax(scores))


def test_a_run_that_is_done_returns_at_once_and_changes_nothing(done):
    before = {p: p.stat().st_mtime_ns for p in done.run.path.rglob("*") if p.is_file()}
    scores = run(done, device="cpu")
    assert scores == done.run.read_json("metrics.json")["test"]["scores"]
    assert before == {p: p.stat().st_mtime_ns for p in done.run.path.rglob("*") if p.is_file()}


def test_force_starts_over_and_keeps_the_old_folder(shards, tmp_path):
    item = planned(make_job(shards, train={"epochs": 1}), tmp_path)
    run(item, device="cpu")
    (item.run.path / "mark").touch()
    run(item, device="cpu", force=True)
    assert not (item.run.path / "mark").exists()
    (old,) = (item.run.path.parent / ".old").iterdir()
    assert (old / "mark").exists() and not (old / "claim").exists()


def write_whole_numbers(root: Path, split: str, samples: int) -> None:
    """Images (N, 1, 24, 24) uint16 and classes that are the same on every machine."""
    index = np.arange(samples)
    targets, (y, x) = index % 3, np.mgrid[:24, :24]
    grain = (7 * index[:, None, None] + 3 * x * y + 5 * x) % 23
    stripes = 40 * ((x + y * targets[:, None, None]) % 5 == 0)
    counts = (grain + stripes - (grain + stripes).min((1, 2), keepdims=True)).astype(np.uint16)
    with ShardWriter(
        root, split=split, shape=(1, 24, 24), stored=np.dtype(np.uint16), source="tests",
        dtype=np.dtype(np.float64), classes=CLASSES, seed=0,
    ) as writer:  # fmt: skip
        ids, scale = [f"{split}/{i}" for i in index], counts.max((1, 2)).astype(np.float64)
        writer.append(counts[:, None], targets=targets, ids=ids, scale=scale[:, None])
        writer.publish()


def test_the_first_losses_are_pinned(tmp_path):
    """A change of the order of samples, of an augmentation or of the optimiser shows here.

    By 0.05 and more; between processors and versions of torch they differed by less than 1e-5,
    since the rate is too low to make much of the last digits of a gradient.
    """
    for split, samples in (("train", 120), ("val", 60)):
        write_whole_numbers(tmp_path / "shards", split, samples)
    train = {"epochs": 2, "lr": 1e-4, "schedule": "constant"}
    item = planned(make_job(tmp_path / "shards", train=train), tmp_path / "runs")
    run(item, device="cpu")
    losses = [line["train"]["loss"] for line in item.run.read_lines("history.jsonl")]
    assert losses == pytest.approx([0.9912, 0.7973], abs=2e-3)


LONGER = {"epochs": 6, "batch_size": 4}


@pytest.fixture(scope="module")
def uninterrupted(shards, tmp_path_factory) -> PlannedRun:
    item = planned(make_job(shards, train=LONGER), tmp_path_factory.mktemp("runs"))
    run(item, device="cpu")
    return item


@pytest.mark.parametrize("epochs", [1, 3])
def test_killed_and_started_again_it_ends_as_if_nothing_had_happened(
    shards, tmp_path, uninterrupted, epochs, gate
):
    item = planned(make_job(shards, train=LONGER), tmp_path)
    process = start(item, **gate.after(epochs))
    wait_for(lambda: len(item.run.read_lines("history.jsonl")) >= epochs)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert item.run.status().state == "lost"
    run(item, device="cpu")
    assert item.run.status().attempt == 2
    same_result(item, uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGINT])
def test_a_signal_saves_in_mid_epoch_and_exits_85(shards, tmp_path, uninterrupted, number, gate):
    item = planned(make_job(shards, train=LONGER), tmp_path)
    process = start(item, **gate.after(1))
    wait_for(lambda: len(item.run.read_lines("history.jsonl")) >= 1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 85, errors
    status = item.run.status()
    assert (status.state, status.reason) == ("stopped", "signal")
    assert checkpoint.load(item.run.path / checkpoint.CHECKPOINT)["epoch"] < 6
    run(item, device="cpu")
    same_result(item, uninterrupted)


def test_a_run_whose_checkpoints_are_all_damaged_starts_again(
    shards, tmp_path, uninterrupted, gate
):
    item = planned(make_job(shards, train=LONGER), tmp_path)
    process = start(item, **gate.after(2))
    wait_for(lambda: (item.run.path / checkpoint.PREVIOUS).exists())
    process.kill()
    process.wait()
    for name in (checkpoint.CHECKPOINT, checkpoint.PREVIOUS):
        content = bytearray((item.run.path / name).read_bytes())
        content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
        (item.run.path / name).write_bytes(content)
    run(item, device="cpu")
    same_result(item, uninterrupted)


def test_a_disk_that_does_not_answer_costs_nothing(
    shards, tmp_path, monkeypatch, uninterrupted, gate
):
    item = planned(make_job(shards, train=LONGER), tmp_path)
    process = start(item, **gate.after(2))
    wait_for(lambda: len(item.run.read_lines("history.jsonl")) >= 2)
    process.kill()
    process.wait()
    history = item.run.read_lines("history.jsonl")

    def stale(path: Path) -> None:
        raise OSError(errno.ESTALE, "Stale file handle", str(path))

    with monkeypatch.context() as patch, pytest.raises(OSError, match="Stale file handle"):
        patch.setattr(checkpoint, "load", stale)
        run(item, device="cpu")
    status = item.run.status()
    assert (status.state, status.reason) == ("failed", "environment")
    assert "checkpoint.pt: Stale file handle" in status.message
    assert item.run.read_lines("history.jsonl") == history
    run(item, device="cpu")
    same_result(item, uninterrupted)


def test_a_flipped_bit_in_a_shard_is_named(shards, tmp_path):
    root = tmp_path / "shards"
    shutil.copytree(shards, root)
    path = root / "train-00001-of-00003.h5"
    with h5py.File(path, "r+") as file:
        file["images"][3, 0, 5, 5] += 1
    item = planned(make_job(root), tmp_path / "runs")
    with pytest.raises(ShardError, match=r"train-00001-of-00003\.h5: is damaged or was changed"):
        run(item, device="cpu")
    assert (item.run.status().state, item.run.status().reason) == ("failed", "data")
    assert not (item.run.path / "history.jsonl").exists()


def test_a_leak_that_packing_found_stands_beside_the_scores(shards, tmp_path):
    root = tmp_path / "shards"
    shutil.copytree(shards, root)
    (root / "manifest.json").write_text(json.dumps({"warnings": ["1 image in two splits"]}))
    item = planned(make_job(root, train={"epochs": 1}), tmp_path / "runs")
    run(item, device="cpu")
    notes = item.run.read_json("metrics.json")["test"]["notes"]
    assert notes == ["data: 1 image in two splits"]


def test_a_known_error_is_one_sentence_and_no_traceback(shards, tmp_path):
    item = planned(make_job(shards, train={"lr": 1e30, "optimizer": "sgd"}), tmp_path)
    item.create()
    answer = cli("run", item.run.path)
    assert answer.returncode == 6 and "Traceback" not in answer.stderr
    assert len(re.findall("the loss is (?:nan|inf)", answer.stderr)) == 1
    assert "the loss is " in (item.run.path / "log.txt").read_text()


def test_a_checkpoint_cut_short_costs_an_interval_and_not_the_run(
    shards, tmp_path, uninterrupted, gate
):
    item = planned(make_job(shards, train=LONGER), tmp_path)
    process = start(item, **gate.after(2))
    wait_for(lambda: len(item.run.read_lines("history.jsonl")) >= 2)
    process.kill()
    process.wait()
    newest = item.run.path / checkpoint.CHECKPOINT
    newest.write_bytes(newest.read_bytes()[:1000])
    run(item, device="cpu")
    same_result(item, uninterrupted)


def test_layers_that_learn_at_their_rates_are_resumed_to_the_bit(shards, tmp_path, gate):
    train = LONGER | {"layer_decay": 0.6, "head_lr": 0.01, "schedule": "cosine", "warmup": 1}
    job = make_job(shards, model={"name": "test_resnet"}, train=train)
    whole, cut = (planned(job, tmp_path / name) for name in ("whole", "cut"))
    run(whole, device="cpu")
    process = start(cut, **gate.after(2))
    wait_for(lambda: len(cut.run.read_lines("history.jsonl")) >= 2)
    process.kill()
    process.wait()
    run(cut, device="cpu")
    assert cut.run.status().attempt == 2
    same_result(cut, whole)
    rates = [line["lr"] for line in whole.run.read_lines("history.jsonl")]
    assert max(rates) > 0.9 * whole.training.train.lr  # of the top layer, not of the lowest


EVERYTHING = {
    "epochs": 6, "batch_size": 8, "lr": 2e-3, "head_lr": 4e-3, "layer_decay": 0.8,
    "schedule": "onecycle",
    "clip": 1.0, "mixup": 0.3, "balance": "sampler", "ema": 0.9, "micro_batch": 3, "amp": "bf16",
}  # fmt: skip


def full_job(shards):
    """Every option that keeps a state or draws at random."""
    model = {"name": "test_resnet", "options": {"drop_rate": 0.2, "drop_path_rate": 0.1}}
    data = {"augment": {"dihedral": True, "degrees": 10, "blur": 1.0, "noise": 0.1}, "tta": True}
    engine = {"checkpoint_minutes": 0.005}
    return make_job(shards, train=EVERYTHING, model=model, data=data, engine=engine)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_ten_times_at_random_it_ends_as_if_nothing_had_happened(shards, tmp_path):
    """On a disk so slow that most kills fall into the writing, beside which it trains on."""
    whole, killed = (planned(full_job(shards), tmp_path / n) for n in ("whole", "killed"))
    run(whole, device="cpu")
    random = np.random.default_rng(0)
    for _ in range(10):
        process = start(killed, disk_seconds=0.2)
        wait_for(lambda: killed.run.status().state in ("running", "done"))
        time.sleep(random.uniform(0, 2.0))  # loading, training, saving, testing
        process.kill()
        process.wait()
    run(killed, device="cpu")
    same_result(killed, whole)
    assert sum(line["event"] == "end" for line in killed.run.read_lines("attempts.jsonl")) >= 2


NO_NORM = {  # batch norm's statistics are those of each process's share; Adam steps on rounding
    "train": {"epochs": 1, "batch_size": 15, "optimizer": "sgd", "lr": 0.01, "mixup": 0.3},
    "model": {"name": "test_vit"},
    "data": {"size": 48},
}


@pytest.mark.parametrize("processes", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_several_processes_make_the_weights_and_scores_of_one(shards, tmp_path, processes):
    job = make_job(shards, **NO_NORM)
    one, many = planned(job, tmp_path / "one"), planned(job, tmp_path / "many")
    run(one, device="cpu")
    assert execute(many, device="cpu", processes=processes) == 0
    a, b = weights(one), weights(many)
    difference = {k: float((a[k] - b[k]).abs().max()) for k in a}
    assert max(difference.values()) < 1e-6, difference
    assert many.run.read_json("metrics.json")["device"]["count"] == processes
    # The same weights, tested by several: the same scores, though 54 and 107 divide by neither.
    again = planned(job, tmp_path / "again")
    shutil.copytree(one.run.path, again.run.path)
    for name in ("metrics.json", "outputs.npz", "status.json"):
        (again.run.path / name).unlink()
    assert execute(again, device="cpu", processes=processes) == 0
    scores = [item.run.read_json("metrics.json")["test"]["scores"] for item in (one, again)]
    assert scores[1] == pytest.approx(scores[0], abs=1e-12)


@pytest.mark.slow
def test_two_processes_stopped_by_a_signal_go_on_to_the_same_end(
    shards, tmp_path, monkeypatch, gate
):
    """From what the first one reads: on another node the second may be shown older files."""
    fields = NO_NORM | {"train": NO_NORM["train"] | {"epochs": 6}}
    whole, cut = (planned(make_job(shards, **fields), tmp_path / n) for n in ("whole", "cut"))
    command = [sys.executable, "-m", "deeplense_batch", "run", "--processes=2", "--device=cpu"]
    for item in (whole, cut):
        item.create()
        held = gate.after(2) if item is cut else {}
        process = subprocess.Popen([*command, str(item.run.path)], env=os.environ | held)
        if item is cut:
            wait_for(lambda: len(cut.run.read_lines("history.jsonl")) >= 2)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=PATIENCE) == 85
            assert cut.run.status().state == "stopped"
            blind = tmp_path / "hook" / "sitecustomize.py"
            blind.parent.mkdir()
            blind.write_text(
                "import os\n"
                "if os.environ.get('RANK') == '1':\n"
                "    from deeplense_batch.models import checkpoint\n"
                "    checkpoint.load = None\n"
            )
            before = os.environ.get("PYTHONPATH")
            path = os.pathsep.join(filter(None, [str(blind.parent), before]))
            monkeypatch.setenv("PYTHONPATH", path)
            process = subprocess.Popen([*command, str(item.run.path)])
        assert process.wait(timeout=PATIENCE) == 0
    same_result(cut, whole)


def test_a_loss_that_is_no_number_ends_the_run_as_diverged(shards, tmp_path):
    item = planned(make_job(shards, train={"lr": 1e30, "optimizer": "sgd"}), tmp_path)
    with pytest.raises(DivergedError, match=r"the loss is (nan|inf)"):
        run(item, device="cpu")
    assert (item.run.status().state, item.run.status().reason) == ("failed", "diverged")


def test_weights_that_are_no_numbers_after_the_last_step_are_diverged_too(shards, tmp_path):
    fields = {"epochs": 1, "batch_size": 120, "optimizer": "sgd", "lr": 1e30, "warmup": 0}
    fields["schedule"] = "constant"
    item = planned(make_job(shards, model={"name": "simple_cnn"}, train=fields), tmp_path)
    with pytest.raises(DivergedError, match="outputs for validation images are not finite"):
        run(item, device="cpu")
    assert (item.run.status().state, item.run.status().reason) == ("failed", "diverged")


def test_every_process_has_a_sample_of_each_step(shards, tmp_path, capfd):
    item = planned(make_job(shards, train={"batch_size": 1}), tmp_path)
    assert execute(item, device="cpu", processes=2) == 3
    status = item.run.status()
    assert (status.state, status.reason) == ("failed", "data")
    assert "batch_size: with 1, a step of the 120 samples has 1, less than one" in status.message


def test_a_class_without_samples_is_null_with_a_note(tmp_path):
    root = tmp_path / "shards"
    for split, samples in (("train", 60), ("val", 60)):
        images, targets = make_images(samples, 3)
        keep = targets != 2 if split == "val" else targets >= 0
        with ShardWriter(
            root, split=split, shape=(1, 24, 24), stored=np.dtype(np.float32), source="tests",
            dtype=np.dtype(np.float32), classes=("no", "sphere", "vort"), seed=0,
        ) as writer:  # fmt: skip
            writer.append(
                (images[keep] / 50).astype(np.float32),
                targets=targets[keep],
                ids=[f"{split}/{i}" for i in np.flatnonzero(keep)],
            )
            writer.publish()
    item = planned(make_job(root, train={"epochs": 1}), tmp_path / "runs")
    run(item, device="cpu")
    test = item.run.read_json("metrics.json")["test"]
    assert test["scores"]["auc_vort"] is None and test["scores"]["auc"] is not None
    assert any("vort" in note for note in test["notes"])


def test_a_gpu_that_is_not_there_is_exit_4(shards, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    item = planned(make_job(shards, resources={"gpus": 1}), tmp_path)
    item.create()
    answer = cli("run", item.run.path)
    assert answer.returncode == 4
    assert "a GPU is asked for and torch sees none" in answer.stderr
    assert (item.run.status().state, item.run.status().reason) == ("failed", "environment")


def test_a_busy_run_is_left_alone(shards, tmp_path):
    item = planned(make_job(shards), tmp_path)
    item.create()
    with item.run.claim(), pytest.raises(RunBusyError):
        run(item, device="cpu")
    assert item.run.status().state == "planned"


def test_an_edited_job_is_refused(done, tmp_path):
    copy = tmp_path / done.run.path.name
    copy.mkdir()
    text = (done.run.path / "job.yaml").read_text().replace("epochs: 4", "epochs: 5")
    (copy / "job.yaml").write_text(text)
    with pytest.raises(JobError, match="one of them was changed after it was made"):
        reopen(copy)
    with pytest.raises(JobError, match=r"no job\.yaml"):
        reopen(tmp_path)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"test": "val[40%:]"}, "share samples"),
        ({"valid": "train[90%:]"}, "share samples"),
        ({"test": "test"}, "has no split 'test'"),
        ({"test": "val[90%:10%]"}, "holds none of the 107 samples"),
        ({"crop": 25}, "data.crop asks for 25 pixels, the images have 24 x 24"),
        ({"root": "nowhere"}, "no such folder of shards"),
    ],
)
def test_data_that_do_not_fit_are_refused_before_anything_runs(shards, tmp_path, data, sentence):
    with pytest.raises((JobError, ShardError)) as error:
        plan([make_job(shards, data=data)], tmp_path)
    assert sentence in str(error.value) and not list(tmp_path.iterdir())


def test_the_record_names_versions_and_commit(done):
    metrics = done.run.read_json("metrics.json")
    assert metrics["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert metrics["commit"] is None or len(metrics["commit"]) >= 7
