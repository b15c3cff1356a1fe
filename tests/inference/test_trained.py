"""A finished run opened: its network, how images reach it, and why another cannot be used."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import timm
import torch
from conftest import CLASSES, make_job
from made_hub import HUB_NAME, shelf
from made_runs import untrained, weights
from tiny_networks import physics_network

from deeplense_batch.core.distributed import World
from deeplense_batch.core.job import Evaluation, Simulation
from deeplense_batch.core.rundir import RunDir
from deeplense_batch.data.augment import central_crop
from deeplense_batch.data.shards import ShardError, open_split
from deeplense_batch.inference.trained import Logits, TrainedError, open_trained
from deeplense_batch.models import WeightsError, checkpoint
from deeplense_batch.models.weights import fetch
from deeplense_batch.training.setup import set_up
from deeplense_batch.training.trainer import BEST


@pytest.fixture
def item(shards, tmp_path):
    """A run that is done."""
    data = {"crop": 20, "size": 40, "stretch": "asinh"}
    return untrained(make_job(shards, data=data), tmp_path / "runs")


def test_it_has_the_best_weights_and_the_way_to_them(item, shards):
    opened = open_trained(item.run.path)
    best = weights(item, BEST)
    assert all(torch.equal(value, best[n]) for n, value in opened.model.state_dict().items())
    assert not opened.model.training and opened.epoch == 3
    assert (opened.classes, opened.classifies) == (CLASSES, True)
    transform = opened.transform
    assert (transform.crop, transform.size, transform.stretch) == (20, 40, "asinh")
    assert list(transform.mean) == checkpoint.load(item.run.path / BEST)["mean"]
    assert opened.shape == (1, 24, 24) and opened.input_shape == (1, 40, 40)
    assert opened.about_channels == ""
    assert replace(opened, bands=("g", "r")).about_channels == (
        ", whose channels are the bands g, r"
    )
    assert opened.field == 20 and math.isnan(opened.input_pixel_scale)
    assert replace(opened, pixel_scale=0.1).input_pixel_scale == pytest.approx(0.05)
    assert len(opened.weights) == 16 and opened.weights == open_trained(item.run.path).weights


@pytest.mark.parametrize(
    "data",
    [
        {"stretch": "asinh", "softening": 3, "crop": 20},
        {"stretch": "sqrt", "softening": 1, "sky_sd": [0.3], "per": "set"},
        {"stretch": "log", "softening": 2, "per": "image", "clip": [1, 99.5]},
        {"clip": [0, 99.9]},
    ],
    ids=str,
)
def test_it_prepares_images_as_its_training_did(shards, tmp_path, data):
    job = make_job(shards, data=data)
    opened = open_trained(untrained(job, tmp_path).run.path)
    valid = set_up(job, World(0, 1, torch.device("cpu"))).valid
    assert opened.transform == valid.transform
    seen, *_ = next(valid.batches([torch.arange(9).numpy()]))
    images = torch.from_numpy(opened.slice("valid").images()[:9]).float()
    crop = job.data.crop
    assert torch.allclose(opened.transform(central_crop(images, crop)), seen, atol=1e-5)


def test_weights_that_lack_what_was_measured_are_refused(shards, tmp_path):
    item = untrained(make_job(shards, data={"stretch": "asinh", "softening": 3}), tmp_path)
    best = checkpoint.load(item.run.path / BEST)
    del best["sky_sd"]
    checkpoint.save(item.run.path / BEST, best)
    with pytest.raises(TrainedError, match=r"are not those of its job \(KeyError: 'sky_sd'\)"):
        open_trained(item.run.path)


def test_its_own_data_are_opened_while_they_are_the_same(item, shards):
    opened = open_trained(item.run.path)
    assert opened.slice("valid").ids() == open_split(shards, "val[:50%]").ids()
    data = opened.metrics["data"] | {"digest": "0" * 16}
    other = replace(opened, metrics=opened.metrics | {"data": data})
    with pytest.raises(ShardError, match=f"holds other data than those of {item.run.name}"):
        other.slice("valid")


def test_its_network_needs_no_data(item, shards):
    text = (item.run.path / "job.yaml").read_text()
    (item.run.path / "job.yaml").write_text(text.replace(str(shards), "/nowhere"))
    opened = open_trained(item.run.path)
    assert opened.model(torch.zeros(2, *opened.input_shape)).shape == (2, 3)
    with pytest.raises(ShardError):
        opened.slice("valid")


def test_a_network_of_the_hub_is_built_where_it_was_fetched(shards, tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPLENSE_WEIGHTS", str(tmp_path / "weights"))
    shelf(tmp_path, monkeypatch, timm.create_model("test_convnext", num_classes=0))
    fetch(HUB_NAME)
    model = {"name": HUB_NAME, "pretrained": True}
    item = untrained(make_job(shards, model=model), tmp_path / "runs")
    assert item.run.path.name.startswith("hf_hub_mwalmsley_zoobot_encoder_tiny-s0-")
    assert type(open_trained(item.run.path).model).__name__ == "ConvNeXt"
    monkeypatch.setenv("DEEPLENSE_WEIGHTS", str(tmp_path / "nowhere"))
    with pytest.raises(WeightsError, match=f"model.name: nothing is known of '{HUB_NAME}' in"):
        open_trained(item.run.path)


def test_a_class_that_it_does_not_know_is_told_beside_one_that_it_does(item):
    opened = open_trained(item.run.path)
    opened.check_class("vort")
    opened.check_class("")
    with pytest.raises(TrainedError, match="--of: there is no class 'vorte'; did you mean 'vort'"):
        opened.check_class("vorte")


def test_what_is_no_finished_training_is_refused(item, shards, tmp_path):
    def refused(path, sentence):
        with pytest.raises(TrainedError, match=sentence):
            open_trained(path)

    refused(shards, "is no run directory, it has no job.yaml")
    simulation = Simulation.model_validate({"name": "s", "simulate": {"out": "x"}})
    refused(RunDir.create(tmp_path / "s", simulation.to_yaml()).path, "there is no network in it")
    section = {"run": str(item.run.path)}
    evaluation = Evaluation.model_validate({"name": "e", "evaluate": section})
    path = RunDir.create(tmp_path / "e", evaluation.to_yaml()).path
    refused(path, f"is an evaluation, whose network is that of {item.run.path}")
    planned = RunDir.create(tmp_path / "new", make_job(shards).to_yaml()).path
    refused(planned, f"is planned, not done; 'run {planned}' carries it out")
    best = checkpoint.load(item.run.path / BEST)
    for change in ({"model": {"w": torch.ones(1)}}, {"mean": None}, {"task": {}}):
        checkpoint.save(item.run.path / BEST, best | change)
        refused(item.run.path, r"best.pt and metrics.json are not those of its job \([A-Z]")
    (item.run.path / BEST).unlink()
    refused(item.run.path, "has no best.pt, the weights of its best epoch")


def test_of_a_network_with_physics_the_logits_are_given_alone():
    network = physics_network("lens_pinn").eval()
    images = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(Logits(network)(images), network(images)["logits"])
        plain, seen = network.classifier, torch.randn(2, 3, 64, 64)
        assert torch.equal(Logits(plain)(seen), plain(seen))
