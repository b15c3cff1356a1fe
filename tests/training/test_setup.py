"""What a job becomes: images, task and network that belong together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_images, make_job
from made_pairs import SHIFTS, write_shifted
from made_runs import untrained, weights
from made_sets import write_set
from made_shards import write_shards
from tiny_networks import UNET
from torch import nn

from deeplense_batch.core.distributed import World
from deeplense_batch.data.shards import ShardError, open_split
from deeplense_batch.tasks.task import Frame, Task, TaskSpec
from deeplense_batch.training.evaluation import evaluate
from deeplense_batch.training.images import loaders
from deeplense_batch.training.images.loaders import frame_of
from deeplense_batch.training.setup import gflops_of, set_up
from deeplense_batch.training.trainer import BEST

ALONE = World(0, 1, torch.device("cpu"))


def test_a_pixel_is_as_wide_as_crop_and_size_make_it(shards):
    info = replace(open_split(shards, "train").info, pixel_scale=0.1)
    for data, frame in (
        ({}, Frame(1, 24, 0.1)),
        ({"crop": 20}, Frame(1, 20, 0.1)),
        ({"crop": 20, "size": 40}, Frame(1, 40, 0.05)),
        ({"size": 12}, Frame(1, 12, 0.2)),
    ):
        found = frame_of(make_job(shards, data=data), info)
        assert (found.channels, found.size) == (frame.channels, frame.size)
        assert found.pixel_scale == pytest.approx(frame.pixel_scale)


def test_operations_of_one_image_are_counted():
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Flatten(), nn.Linear(256, 10))
    expected = 2 * 4 * 9 * 64 + 2 * 256 * 10  # a multiplication and an addition are two
    assert gflops_of(model, 1, 8) * 1e9 == pytest.approx(expected)
    assert model.training


def test_every_slice_is_normalised_as_the_training_images_are(shards):
    made = set_up(make_job(shards), ALONE)
    assert made.samples == {"train": 120, "valid": 53, "test": 54}
    assert made.train.transform == made.valid.transform == made.test.transform
    seen = made.train.transform(torch.from_numpy(made.train.split.images()).float())
    assert float(seen.mean()) == pytest.approx(0, abs=1e-3)
    assert float(seen.std()) == pytest.approx(1, abs=1e-3)
    assert made.frame.size == 24 and made.task.classes == made.info.classes


def test_every_process_measures_the_same_sky_on_the_training_images(shards):
    data = {"stretch": "asinh", "softening": 3, "clip": [0.5, 99.5], "per": "set"}
    alone = set_up(make_job(shards, data=data), ALONE)
    transform = alone.train.transform
    assert len(transform.sky_sd) == 1 and transform.sky_sd[0] > 0 and transform.limits
    assert alone.valid.transform == alone.test.transform == transform
    second = set_up(make_job(shards, data=data), World(1, 2, torch.device("cpu")))
    assert second.test.transform == transform
    few = set_up(make_job(shards, data=data | {"train": "train[:20]"}), ALONE)
    assert few.train.transform.sky_sd != transform.sky_sd


def test_constant_images_are_refused_where_each_is_normalised_by_itself(tmp_path):
    images, targets = make_images(36, 5)
    for split, places in (("train", []), ("val", [19, 20, 23, 35])):
        one = images.copy()
        one[places] = 7
        write_shards(tmp_path, split, one, targets)
    assert set_up(make_job(tmp_path), ALONE)
    sentence = (
        r"val\[50%:\]: 4 of 18 images are constant once stretched and clipped \(val/19, val/20, "
        r"val/23, \.\.\.\), without an sd"
    )
    with pytest.raises(ShardError, match=sentence):
        set_up(make_job(tmp_path, data={"per": "image"}), ALONE)
    assert set_up(make_job(tmp_path, data={"per": "image", "test": "val[30:35]"}), ALONE)


def test_a_seed_gives_the_weights_that_a_training_starts_from(shards):
    one, again, other = (
        set_up(make_job(shards, seed=s), ALONE).model.fc.weight for s in (1, 1, 2)
    )
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_it_may_start_from_the_weights_of_another_run(shards, tmp_path):
    first = untrained(make_job(shards, seed=5), tmp_path)
    made = set_up(make_job(shards, train={"init": str(first.run.path)}), ALONE)
    expected = weights(first, BEST)
    assert all(torch.equal(value, expected[n]) for n, value in made.model.state_dict().items())


def test_images_that_are_too_few_or_lack_what_is_learnt_are_refused(shards):
    many = World(0, 54, torch.device("cpu"))
    sentence = "53 samples of val, less than one for each of 54 processes"
    with pytest.raises(ShardError, match=sentence):
        set_up(make_job(shards), many)
    task = {"name": "regression", "options": {"target": "theta_e"}}
    with pytest.raises(
        ShardError, match="has no truth/theta_e, which the task learns; 'simulate'"
    ):
        set_up(make_job(shards, task=task), ALONE)


def test_a_slice_with_unlabelled_images_is_refused_where_labels_are_learnt(tmp_path):
    images, targets = make_images(36, 5)
    for split, place in (("train", 7), ("val", 30)):
        partly = np.where(np.arange(36) == place, -1, targets)
        write_shards(tmp_path, split, images, partly)
    for data, sentence in (
        ({}, "train: 1 of 36 images has no label"),
        ({"train": "train[10:]"}, r"val\[50%:\]: 1 of 18 images has no label"),
        ({"train": "train[10:]", "valid": "val[20:]", "test": "val[:20]"}, r"val\[20:\]: 1 of 16"),
    ):
        with pytest.raises(ShardError, match=sentence):
            set_up(make_job(tmp_path, data=data), ALONE)
    labelled = {"train": "train[10:]", "valid": "val[:15]", "test": "val[15:30]"}
    assert set_up(make_job(tmp_path, data=labelled), ALONE).samples["train"] == 26
    # A generator takes an image without label for one of any class.
    generation = {"name": "generation", "options": {"conditions": ["class"]}}
    model = {"name": "unet", "options": UNET}
    assert set_up(make_job(tmp_path, task=generation, model=model), ALONE).samples["train"] == 36


def mixed(root, *others, **data):
    sets = [{"root": str(each)} for each in (root, *others)]
    return make_job(root, data={"roots": sets} | data)


def test_sets_of_another_unit_or_pixel_scale_are_noted(tmp_path, caplog):
    a = write_set(tmp_path / "a", pixel_scale=0.1)
    b = write_set(tmp_path / "b", seed=1, pixel_scale=0.1)
    counts = write_set(tmp_path / "counts", seed=2, level=500, pixel_scale=0.2)
    alike = set_up(mixed(a, b), ALONE)
    assert alike.notes == () and alike.frame.pixel_scale == pytest.approx(0.1)
    other = set_up(mixed(a, counts), ALONE)
    scales, units = other.notes
    assert "0.1 arcsec in a, 0.2 arcsec in counts" in scales and np.isnan(other.frame.pixel_scale)
    assert units.startswith("data.roots: the sets seem to be in different units: stretched (lin")
    assert "mean -1 and sd 0.00" in units and "in a, mean 1 and sd 0.00" in units
    assert units.endswith(" in counts")
    assert all(note in caplog.text for note in other.notes)
    assert other.samples == {"train": 48, "valid": 9, "test": 9}


class Given(Task):
    """Says what a batch of pairs holds, in the mean of each image."""

    def __init__(self):
        spec = TaskSpec(
            monitor="loss", num_outputs=1, primary_output="images", needs_labels=False,
            needs_inputs=True,
        )  # fmt: skip
        super().__init__(spec, None)

    def losses(self, model, batch, progress):
        return {"loss": model(batch.images).mean()}

    def predict(self, model, batch):
        held = {"images": batch.images, "inputs": batch.inputs, "clean": batch.clean}
        return {name: values[..., 8:-8, 8:-8].mean((1, 2, 3)) for name, values in held.items()}

    def score(self, outputs):
        return {"loss": 0.0}, []

    def draw(self, outputs, history):
        return {}


def test_pairs_come_with_their_inputs_and_are_registered_as_asked(tmp_path, monkeypatch):
    """All by one mean and sd; what the shifts are is noted, and kept with the ids."""
    split = write_shifted(tmp_path)
    monkeypatch.setattr(loaders, "task_of", lambda job, info: Given())
    data = {"train": "train[:3]", "valid": "train[3:4]", "test": "train[4:6]", "register": True}
    setup = set_up(make_job(tmp_path, data={"augment": {}} | data), ALONE)
    assert (setup.frame.ratio, setup.frame.size, setup.frame.input_size) == (2, 64, 32)
    outputs = evaluate(setup.task, setup.model, setup.test, ALONE)
    (mean,), (sd,) = setup.train.transform.mean, setup.train.transform.sd
    for name, middle in (("inputs", slice(8, -8)), ("clean", slice(8, -8))):
        values = split.of(name).images()[4:, 0, middle, middle].mean((1, 2))
        np.testing.assert_allclose(outputs[name] * sd + mean, values, atol=0.02)
    assert list(setup.registered) == ["train[:3]", "train[3:4]", "train[4:6]"]
    ids, last = setup.registered["train[4:6]"]
    assert (ids, last.found.tolist()) == (["e", "f"], [True, False])
    np.testing.assert_allclose(last.shifts[0], SHIFTS[4], atol=0.08)
    assert setup.notes[2].startswith("data.register: train[4:6]: shifts of 0.9")
    assert setup.notes[2].endswith("1 of 2 pairs shows no common sky and is not moved (f)")
