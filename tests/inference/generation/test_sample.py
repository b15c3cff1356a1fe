"""Diffusion: a training, the samplers, and the sets of images that are drawn."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import CLASSES, PATIENCE, make_job, typed, wait_for
from made_runs import copy_with_bands, same_result, start, untrained, weights
from tiny_networks import UNET

from deeplense_batch.core.job import JobError
from deeplense_batch.data.shards import ShardError, data_digest, open_split
from deeplense_batch.inference.generation import sample as module
from deeplense_batch.inference.generation.sample import sample
from deeplense_batch.inference.generation.samplers import SAMPLERS, denoise, sigmas
from deeplense_batch.models import checkpoint
from deeplense_batch.report.collect import collect
from deeplense_batch.runs.planning.plan import plan
from deeplense_batch.runs.training_run import run
from deeplense_batch.simulation.simulate import simulate
from deeplense_batch.training.trainer import BEST


def generation_job(shards, **train):
    return make_job(
        shards,
        task={"name": "generation", "options": {"conditions": ["class"], "ssim": 0.3}},
        model={"name": "unet", "options": UNET},
        train={"epochs": 2, "batch_size": 16, "lr": 1e-3, "ema": 0.9} | train,
    )


def test_it_is_learnt_by_the_one_loop(shards, tmp_path):
    (item,) = plan([generation_job(shards, epochs=4)], tmp_path)
    scores = run(item, device="cpu")
    lines = item.run.read_lines("history.jsonl")
    assert lines[-1]["train"]["loss"] < lines[0]["train"]["loss"]
    assert scores["snr_db"] > lines[0]["valid"]["snr_db"] - 0.5
    assert (item.run.figures / "history.png").exists()
    errors = np.load(item.run.path / "outputs.npz")["errors"]
    assert errors.shape == (54, 4)


@pytest.mark.slow
def test_cut_short_and_killed_it_ends_as_if_nothing_had_happened(shards, tmp_path, gate):
    """To the last bit, averaged weights too: noise and times are those of the step."""
    job = generation_job(shards, epochs=6, batch_size=4)
    whole, cut = (plan([job], tmp_path / name)[0] for name in ("whole", "cut"))
    run(whole, device="cpu")
    for number, epochs in ((signal.SIGUSR2, 1), (signal.SIGKILL, 3)):
        process = start(cut, **gate.after(epochs))
        wait_for(lambda epochs=epochs: len(cut.run.read_lines("history.jsonl")) >= epochs)
        process.send_signal(number)
        process.wait()
    assert cut.run.status().state == "lost"
    run(cut, device="cpu")
    assert cut.run.status().attempt == 3
    same_result(cut, whole)
    states = [checkpoint.load(item.run.path / checkpoint.CHECKPOINT) for item in (whole, cut)]
    one, other = (state["ema"]["model"] for state in states)
    assert one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)
    best = checkpoint.load(whole.run.path / BEST)["model"]
    assert any(not torch.equal(best[k], weights(whole)[k]) for k in best)  # they are others


def test_models_and_tasks_that_do_not_fit_are_one_sentence(shards, tmp_path):
    job = generation_job(shards)
    with pytest.raises(JobError, match=r"resnet18 gives no images.*these do: unet"):
        plan([job.model_copy(update={"model": make_job(shards).model.model_copy(
            update={"name": "resnet18"})})], tmp_path)  # fmt: skip
    with pytest.raises(JobError, match=r"train.ema: .* expected a decay below 1, such as 0.999"):
        plan([generation_job(shards, ema=None)], tmp_path)
    with pytest.raises(JobError, match="unet takes noise from images"):
        plan([make_job(shards, model={"name": "unet"})], tmp_path)


class TestSamplers:
    """On images whose mean restored image is known: normal, mean 0.7 and sd 0.5 in each pixel."""

    @staticmethod
    def restore(x, sigma):
        return 0.7 + 0.25 / (0.25 + sigma**2) * (x - 0.7)

    def drawn(self, sampler, steps):
        generators = [torch.Generator().manual_seed(i) for i in range(64)]
        noise = torch.stack([torch.randn(1, 32, 32, generator=g) for g in generators])
        return denoise(
            self.restore, noise, sampler=sampler, steps=steps, generators=generators
        )  # fmt: skip

    @pytest.mark.parametrize("sampler", SAMPLERS)
    def test_all_end_at_the_distribution_of_the_images(self, sampler):
        images = self.drawn(sampler, 400)
        assert float(images.mean()) == pytest.approx(0.7, abs=0.01)
        assert float(images.std()) == pytest.approx(0.5, rel=0.02)

    def test_a_higher_order_needs_fewer_steps(self):
        errors = {s: abs(float(self.drawn(s, 25).std()) - 0.5) for s in SAMPLERS}
        assert errors["dpmpp"] < errors["ddim"] / 3 and errors["heun"] < errors["ddim"] / 3

    def test_sigmas_fall_to_nothing(self):
        found = sigmas(25)
        assert len(found) == 26 and found[0] == pytest.approx(80) and found[-1] == 0
        assert all(a > b for a, b in itertools.pairwise(found))


@pytest.fixture(scope="module")
def drawer(shards, tmp_path_factory):
    """A finished run that generates, told the class."""
    (item,) = plan([generation_job(shards)], tmp_path_factory.mktemp("runs"))
    run(item, device="cpu")
    return item.run.path


def test_samples_are_shards_like_any_other(drawer, tmp_path):
    report = sample(drawer, tmp_path / "set", images=20, steps=3, device="cpu")
    assert report.made == 20 and report.digest
    split = open_split(tmp_path / "set", "train")
    assert split.info.classes == CLASSES and split.images().shape == (20, 1, 24, 24)
    assert sorted(np.bincount(split.targets()).tolist()) == [6, 7, 7]
    assert split.info.source.startswith("sample ") and "dpmpp with 3 steps" in split.info.source
    again = sample(drawer, tmp_path / "set", images=20, steps=3, device="cpu")
    assert again.made == 0 and again.digest == report.digest
    slices = {"train": "train[:50%]", "valid": "train[50%:75%]", "test": "train[75%:]"}
    (item,) = plan([make_job(tmp_path / "set", data=slices, train={"epochs": 1})], tmp_path)
    assert "auc" in run(item, device="cpu")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_parts_make_the_set_of_one_process(drawer, tmp_path, sampler):
    options = {"images": 24, "steps": 3, "shard_size": 5, "device": "cpu", "sampler": sampler}
    whole = sample(drawer, tmp_path / "whole", **options)
    for part in (1, 0):
        shared = sample(drawer, tmp_path / "shared", part=part, parts=2, **options)
    assert shared.digest == whole.digest
    other = sample(drawer, tmp_path / "other", seed=1, **options)
    assert other.digest != whole.digest


def test_two_processes_make_the_set_of_one(drawer, tmp_path):
    asked = [sys.executable, "-m", "deeplense_batch", "sample", str(drawer), "--images=600"]
    asked += ["--steps=1", "--device=cpu"]
    both = [
        subprocess.Popen(
            [*asked, f"--out={tmp_path / 'both'}"],
            env=os.environ | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"},
            stdout=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    told = [process.communicate(timeout=PATIENCE)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    made = [int(re.search(r"(\d+) of them made", text)[1]) for text in told]
    assert sum(made) == 600 and min(made) > 0
    whole = sample(drawer, tmp_path / "one", images=600, steps=1, device="cpu")
    assert data_digest(tmp_path / "both") == whole.digest


def test_where_memory_runs_out_fewer_images_are_drawn_at_once(drawer, tmp_path, monkeypatch):
    """The same ones: an image is a function of its number."""
    options = {"images": 7, "steps": 2, "sampler": "ddpm", "device": "cpu"}
    whole = sample(drawer, tmp_path / "whole", **options)

    def hungry(restore, x, **more):
        if len(x) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return denoise(restore, x, **more)

    monkeypatch.setattr(module, "denoise", hungry)
    few = sample(drawer, tmp_path / "few", **options)
    a, b = (open_split(report.root, "train") for report in (whole, few))
    assert np.allclose(a.images(), b.images(), atol=1e-5)
    assert np.array_equal(a.truth("index"), b.truth("index"))


def test_steps_that_lose_variance_are_warned_of(drawer, tmp_path, caplog):
    with caplog.at_level("WARNING"):
        sample(drawer, tmp_path / "few", images=3, sampler="ddpm", steps=2, device="cpu")
        sample(drawer, tmp_path / "enough", images=3, steps=25, device="cpu")
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning.startswith("sample: ddpm with 2 steps draws images of")
    assert warning.endswith("take more steps, or dpmpp or heun with 50")


def test_half_precision_draws_other_images_and_says_so(drawer, tmp_path):
    options = {"images": 4, "steps": 2, "device": "cpu"}
    plain = sample(drawer, tmp_path / "plain", **options)
    rounded = sample(drawer, tmp_path / "rounded", amp="bf16", **options)
    a, b = (open_split(report.root, "train").images() for report in (plain, rounded))
    assert 0 < np.abs(a - b).max() < 0.2 * a.std()
    with pytest.raises(ShardError):  # another set is never gone on with
        sample(drawer, tmp_path / "plain", amp="bf16", **options)


def test_one_class_and_guidance(drawer, tmp_path):
    options = {"images": 6, "steps": 3, "device": "cpu", "class_": "vort"}
    plain = sample(drawer, tmp_path / "plain", **options)
    assert plain.counts == {"train": {"no": 0, "sphere": 0, "vort": 6}}
    sample(drawer, tmp_path / "clear", guidance=3.0, **options)
    images = [open_split(tmp_path / name, "train").images() for name in ("plain", "clear")]
    assert not np.allclose(*images)
    assert set(open_split(tmp_path / "plain", "train").targets()) == {2}
    few = sample(drawer, tmp_path / "few", **options | {"images": 1})
    assert few.counts == {"train": {"no": 0, "sphere": 0, "vort": 1}}, "fewer than classes"


def test_what_cannot_be_sampled_is_one_sentence(drawer, shards, tmp_path, capsys):
    (item,) = plan([make_job(shards, train={"epochs": 1})], tmp_path / "runs")
    run(item, device="cpu")
    job = generation_job(shards)
    job = job.model_copy(update={"data": job.data.model_copy(update={"clip": (1.0, 99.0)})})
    clipped = untrained(job, tmp_path / "runs").run.path
    out = ("--out", tmp_path / "out")
    for words, sentence in (
        ((clipped,), "cannot be given back: data.clip [1.0, 99.0], expected null"),
        ((item.run.path,), "its task, classification, generates no images"),
        (
            (drawer, "--class", "spere"),
            "--class: there is no class 'spere'; did you mean 'sphere'",
        ),
        ((drawer, "--sampler=euler"), "sampler: got 'euler'; allowed: ddpm, ddim, dpmpp, heun"),
        ((drawer, "--images=2"), "expected 3 images and 1 step or more; got 2 and 25"),
    ):
        code, _, err = typed(capsys, "sample", *words, *out, "--device=cpu")
        assert code == 3 and sentence in err and not (tmp_path / "out").exists()


def test_it_predicts_nothing(drawer, shards, tmp_path, capsys):
    out = ("--out", tmp_path / "out.csv", "--device=cpu")
    code, _, err = typed(capsys, "predict", drawer, shards, *out)
    assert code == 3 and "generates images, and predicts nothing" in err


def test_drawn_sets_have_the_bands_that_were_learnt(drawer, tmp_path):
    learnt = copy_with_bands(drawer, tmp_path / "run", "r")
    for run_path, bands in ((learnt, ("r",)), (drawer, ())):
        sample(run_path, tmp_path / f"set{len(bands)}", images=3, steps=1, device="cpu")
        assert open_split(tmp_path / f"set{len(bands)}", "train").info.bands == bands


def test_images_without_labels_are_enough_where_no_class_is_told(tmp_path):
    simulate("diffusion", tmp_path / "data", images=40, size=32)
    slices = {"train": "train[:50%]", "valid": "train[50%:75%]", "test": "train[75%:]"}
    job = generation_job(tmp_path / "data")
    plain = job.model_copy(update={
        "data": job.data.model_copy(update=slices),
        "task": job.task.model_copy(update={"options": {"schedule": "edm"}}),
    })  # fmt: skip
    (item,) = plan([plain], tmp_path / "runs")
    run(item, device="cpu")
    assert collect(tmp_path / "runs", tmp_path / "report").complete
    drawn = sample(item.run.path, tmp_path / "drawn", images=5, steps=2, device="cpu")
    split = open_split(tmp_path / "drawn", "train")
    assert drawn.made == 5 and split.info.classes == () and set(split.targets()) == {-1}
    with pytest.raises(ShardError, match="the images have no labels to learn"):
        plan([plain.model_copy(update={"task": job.task})], tmp_path / "runs")
