"""Diffusion: the process in closed form, the network, the task, and a training of it."""

from __future__ import annotations

import itertools
import math
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import CLASSES, PATIENCE, make_job, typed, wait_for
from made_runs import same_result, start, weights
from torch import nn
from torchmetrics.functional.image import structural_similarity_index_measure

from deeplense_batch.core.job import JobError
from deeplense_batch.core.scoring.similarity import ssim
from deeplense_batch.data.shards import ShardError, data_digest, open_split
from deeplense_batch.inference.generation.sample import sample
from deeplense_batch.inference.generation.samplers import SAMPLERS, denoise, sigmas
from deeplense_batch.models import build, checkpoint
from deeplense_batch.report.collect import collect
from deeplense_batch.runs.plan import plan
from deeplense_batch.runs.training_run import run
from deeplense_batch.simulation.simulate import simulate
from deeplense_batch.tasks import build_task
from deeplense_batch.tasks.task import Batch, Frame
from deeplense_batch.training.trainer import BEST

TINY = {"width": 8, "multiples": [1, 2], "blocks": 1, "attention": 0}


def batch_of(count=4, size=24, **truth):
    torch.manual_seed(0)
    images, targets = torch.randn(count, 1, size, size), torch.arange(count) % 3
    return Batch(images, targets, torch.arange(count), truth=truth)


class TestDenoiser:
    @pytest.mark.parametrize("size", [64, 128, 150])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_it_gives_images_of_any_size(self, size, channels):
        with torch.device("meta"):
            model = build("unet", channels=channels, classes=3, size=size)
            shape = (2, channels, size, size)
            assert model(torch.empty(shape), torch.empty(2)).shape == shape

    def test_every_parameter_learns_and_every_condition_counts(self):
        torch.manual_seed(0)
        model = build("unet", channels=1, classes=3, size=26, radius=True, **TINY)
        nn.init.normal_(model.network.conv_out.weight, std=0.1)
        images = torch.randn(3, 1, 26, 26)
        t, labels = torch.tensor([0.2, 0.5, 0.9]), torch.tensor([0, 2, -1])
        radii = torch.tensor([0.1, torch.nan, 0.3])
        conditioned = model(images, t, labels, radii)
        conditioned.square().sum().backward()
        assert [n for n, p in model.named_parameters() if p.grad is None] == []
        free = model(images, t)
        differ = (conditioned - free).abs().amax((1, 2, 3)) > 1e-6
        assert differ.tolist() == [True, True, True]  # by class and radius, class, radius
        assert torch.equal(model(images, t, torch.full((3,), -1)), free)
        assert not torch.allclose(free, model(images, 1 - t))


class TestTask:
    @staticmethod
    def task(**options):
        return build_task("generation", classes=CLASSES, frame=Frame(1, 24, 0.05), **options)

    def test_a_network_that_knows_the_answer_has_no_loss(self):
        task, batch = self.task(ssim=0.5, prediction="x0"), batch_of()
        losses = task.losses(lambda noisy, t, *_: batch.images, batch, 0.0)
        assert float(losses["squared"]) == 0 and abs(float(losses["unlike"])) < 1e-6
        outputs = task.predict(lambda noisy, t, *_: batch.images, batch)
        scores, _ = task.score({name: v.numpy() for name, v in outputs.items()})
        assert scores["loss"] == 0 and scores["snr_db"] == pytest.approx(120)

    def test_a_network_that_gives_nothing_has_the_loss_of_the_images(self):
        task, batch = self.task(prediction="x0"), batch_of(64)
        outputs = task.predict(lambda noisy, t, *_: torch.zeros_like(noisy), batch)
        scores, _ = task.score({name: v.numpy() for name, v in outputs.items()})
        assert scores["loss"] == pytest.approx(1, abs=0.02) and abs(scores["snr_db"]) < 0.1

    def test_a_sample_is_judged_alike_in_any_batch(self):
        task, batch = self.task(conditions=["class"]), batch_of(4)
        model = build("unet", channels=1, classes=3, size=24, **TINY).eval()
        nn.init.normal_(model.network.conv_out.weight, std=0.1)
        whole = task.predict(model, batch)["errors"]
        for i in (3, 1):
            one = Batch(batch.images[i:][:1], batch.targets[i:][:1], batch.index[i:][:1])
            assert torch.allclose(task.predict(model, one)["errors"][0], whole[i], atol=1e-6)

    def test_conditions_reach_the_network_and_are_dropped_at_random(self):
        task = self.task(conditions=["theta_e", "class"], drop=0.3)
        spec = task.spec
        assert spec.num_outputs == 3 and spec.truth_keys == ("theta_e",) and spec.needs_truth
        seen = []

        def network(noisy, t, labels, radii):
            seen.append((labels, radii))
            return noisy

        torch.manual_seed(0)
        batch = batch_of(1000, 12, theta_e=torch.full((1000,), 1.5))
        task.losses(network, batch, 0.0)
        labels, radii = seen[0]
        dropped = labels < 0
        assert 0.25 < float(dropped.float().mean()) < 0.35
        assert torch.equal(dropped, radii.isnan())
        assert torch.equal(labels[~dropped], batch.targets[~dropped])
        assert torch.allclose(radii[~dropped], torch.tensor(math.log(1.5)))
        plain = self.task().spec
        assert plain.num_outputs == 0 and plain.truth_keys == () and not plain.needs_truth

    def test_similarity_is_that_of_the_library_and_one_of_itself(self):
        a, b = torch.rand(2, 3, 1, 40, 40)
        expected = structural_similarity_index_measure(
            a, b, kernel_size=11, sigma=1.5, data_range=float(b.max() - b.min())
        )
        assert float(ssim(a, b)) == pytest.approx(float(expected), abs=1e-5)
        assert float(ssim(a, a)) == pytest.approx(1, abs=1e-6)

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            ({"schedule": "sqrt"}, "schedule: got 'sqrt'; allowed: linear, cosine, edm"),
            ({"prediction": "noise"}, "prediction: got 'noise'"),
            ({"conditions": ["mass"]}, "conditions: got 'mass'; allowed: class, theta_e"),
            ({"ssim": 2.0}, "ssim and drop"),
            ({"min_snr": 0.0}, "min_snr: should be above 0"),
        ],
    )
    def test_options_out_of_range(self, options, sentence):
        with pytest.raises(ValueError, match=sentence):
            self.task(**options)


def generation_job(shards, **train):
    return make_job(
        shards,
        task={"name": "generation", "options": {"conditions": ["class"], "ssim": 0.3}},
        model={"name": "unet", "options": TINY},
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


def test_one_class_and_guidance(drawer, tmp_path):
    options = {"images": 6, "steps": 3, "device": "cpu", "class_": "vort"}
    plain = sample(drawer, tmp_path / "plain", **options)
    assert plain.counts == {"train": {"no": 0, "sphere": 0, "vort": 6}}
    sample(drawer, tmp_path / "clear", guidance=3.0, **options)
    images = [open_split(tmp_path / name, "train").images() for name in ("plain", "clear")]
    assert not np.allclose(*images)
    assert set(open_split(tmp_path / "plain", "train").targets()) == {2}


def test_what_cannot_be_sampled_is_one_sentence(drawer, shards, tmp_path, capsys):
    (item,) = plan([make_job(shards, train={"epochs": 1})], tmp_path / "runs")
    run(item, device="cpu")
    out = ("--out", tmp_path / "out")
    for words, sentence in (
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
