"""A finished run opened: its network, how images reach it, and why another cannot be used."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from conftest import CLASSES, make_job
from made_hub import HUB_NAME, shelf
from made_runs import untrained, weights
from made_sets import write_set
from made_shards import write_shards
from tiny_networks import physics_network

from deeplense_batch.core.distributed import World
from deeplense_batch.core.job import Evaluation, Simulation
from deeplense_batch.core.rundir import RunDir
from deeplense_batch.data.augment import central_crop
from deeplense_batch.data.batches.mixture import Mixture
from deeplense_batch.data.shards import ShardError, data_digest, open_split
from deeplense_batch.inference.explain import explain
from deeplense_batch.inference.predict import predict
from deeplense_batch.inference.trained import Logits, TrainedError, open_trained
from deeplense_batch.models import WeightsError, checkpoint
from deeplense_batch.models.weights import fetch
from deeplense_batch.runs.evaluating.labelled_images import answers_of, open_labelled
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


BANDS = ("g", "r", "i")


@pytest.fixture(scope="module")
def red(tmp_path_factory):
    """A run that sees the band r of images in three bands, and their folder."""
    folder = tmp_path_factory.mktemp("red")
    root = write_set(folder / "gri", shape=(3, 24, 24), bands=BANDS)
    return open_trained(untrained(make_job(root, data={"channels": ["r"]}), folder).run.path), root


def test_a_run_knows_the_channels_that_it_sees(red):
    opened, root = red
    assert (opened.shape, opened.bands, opened.stored_channels) == ((1, 24, 24), ("r",), 3)
    assert opened.about_channels == ", whose channel is the band r"
    whole = open_split(root, "val[:50%]").images()
    assert np.array_equal(opened.slice("valid").images(), whole[:, 1:2])
    assert np.array_equal(opened.as_seen(open_split(root, "val")).images()[:9], whole[:, 1:2])


def test_channels_of_other_images_are_chosen_by_name_or_by_place(red):
    opened, root = red
    assert opened.choose("set", 2, ("i", "HSC-R2")).places == (1,)
    assert opened.choose("set", 3, ()).places == (1,)  # as those of its own data
    with pytest.raises(
        ShardError, match=r"set: data.channels: there is no band 'r'; .* 2 without"
    ):
        opened.choose("set", 2, ())
    own = {"root": str(root), "channels": [0], "digest": data_digest(root)}
    roots = make_job(root, data={"channels": ["r"], "roots": [own]})
    assert replace(opened, job=roots).choose(root, 3, BANDS).places == (0,)


def test_it_takes_other_sizes_where_they_are_cropped_or_were_trained_on(red):
    opened, root = red
    assert opened.fits((1, 24, 24)) and not opened.fits((3, 24, 24))
    assert not opened.fits((1, 30, 30))
    for data, takes in (
        ({"crop": 20}, True), ({"size": 20}, False),
        ({"size": 20, "roots": [{"root": str(root)}]}, True),
    ):  # fmt: skip
        assert replace(opened, job=make_job(root, data=data)).fits((1, 30, 30)) is takes
    assert not replace(opened, job=make_job(root, data={"crop": 26})).fits((1, 25, 25))


def test_predictions_are_of_the_chosen_channels_wherever_the_images_lie(red, tmp_path):
    """In shards of three and of two bands, and in files whose bands have no names."""
    opened, root = red
    images = open_split(root, "val").images()
    targets = np.arange(len(images)) % 3
    write_shards(tmp_path / "ir", "val", images[:, [2, 1]], targets, bands=("i", "HSC-R"))
    (tmp_path / "files").mkdir()
    for i, image in enumerate(images):
        np.save(tmp_path / "files" / f"{i:02}.npy", image)
    scores = []
    for data, slice_ in ((root, "val"), (tmp_path / "ir", "val"), (tmp_path / "files", "")):
        out = tmp_path / f"{data.name}.parquet"
        predict(opened.run.path, data, out, slice_=slice_, device="cpu")
        scores.append(pd.read_parquet(out)[[f"score_{name}" for name in CLASSES]].to_numpy())
    with torch.inference_mode():
        seen = opened.transform(torch.from_numpy(images[:, 1:2]))
        expected = opened.model(seen).softmax(1).numpy()
    for found in scores:
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.fixture(scope="module")
def standing(tmp_path_factory):
    """A run on images in g and on the band r of others, which stands for it; and these others."""
    folder = tmp_path_factory.mktemp("standing")
    a = write_set(folder / "a", bands=("g",))
    b = write_set(folder / "b", shape=(2, 12, 12), bands=("r", "i"), seed=1)
    sets = [{"root": str(a)}, {"root": str(b), "channels": ["r"]}]
    return open_trained(untrained(make_job(a, data={"roots": sets}), folder).run.path), b


def test_a_set_with_channels_of_its_own_stands_for_the_bands_of_root(standing, tmp_path):
    opened, root = standing
    images = open_split(root, "val").images()
    seen = opened.as_seen(open_split(root, "val"))
    assert seen.info.bands == ("g",) and np.array_equal(seen.images(), images[:, :1])
    assert opened.stand_for(tmp_path, ("r",)) == ("r",)
    other = write_set(tmp_path / "c", bands=("r",), seed=2)
    assert opened.as_seen(open_split(other, "val")).info.bands == ("r",)


def test_every_verb_takes_a_set_that_stands_for_the_bands_of_root(standing, tmp_path):
    opened, root = standing
    run, alone = opened.run.path, World(0, 1, torch.device("cpu"))
    predict(run, root, tmp_path / "t.csv", slice_="val", device="cpu")
    explain(run, tmp_path / "t.png", slice_="val[:1]", data=root, device="cpu")
    outputs, _ = answers_of(
        opened, open_labelled(root, "val", [opened], alone), "val", alone, tta=None
    )
    scores = pd.read_csv(tmp_path / "t.csv")[[f"score_{name}" for name in CLASSES]].to_numpy()
    expected = torch.from_numpy(outputs["logits"]).softmax(1).numpy()
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    other = write_set(tmp_path / "c", bands=("r",), seed=2)
    with pytest.raises(ShardError, match=r"the channels are the bands r; .* has learnt g"):
        predict(run, other, tmp_path / "c.csv", device="cpu")


def test_the_images_of_a_training_on_several_sets_are_those_of_all(tmp_path):
    a, b = (write_set(tmp_path / name, seed=seed) for seed, name in enumerate("ab"))
    sets = [{"root": str(each), "digest": data_digest(each)} for each in (a, b)]
    opened = open_trained(untrained(make_job(a, data={"roots": sets}), tmp_path / "r").run.path)
    images = opened.training_images(opened.transform, torch.device("cpu"))
    assert isinstance(images, Mixture) and images.sizes == (24, 24)
    assert len(opened.slice("test")) == 9
    with pytest.raises(TrainedError, match=r"has no slice train, as .* expected valid or test"):
        opened.slice("train")
    other = [sets[0], sets[1] | {"digest": "0" * 16}]
    changed = replace(opened, job=make_job(a, data={"roots": other}))
    with pytest.raises(ShardError, match=r"b: holds other data than those of small/test_resnet"):
        changed.training_images(opened.transform, torch.device("cpu"))
