"""Whether a job can be carried out: all that can be known of it before anything runs."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import make_images, make_job
from made_runs import untrained
from made_sets import write_set
from made_shards import write_shards
from tiny_networks import UNET

from deeplense_batch.core.job import JobError
from deeplense_batch.core.recipe import evaluation_of
from deeplense_batch.data.shards import ShardError
from deeplense_batch.models import ModelError
from deeplense_batch.runs.planning.plan import plan
from deeplense_batch.runs.planning.validate import Memo


def test_what_is_asked_again_is_found_once_and_an_error_is_not_kept():
    memo, found = Memo(), []
    for _ in range(3):
        assert memo.once(("a", 1), lambda: found.append(1) or len(found)) == 1
    with pytest.raises(ZeroDivisionError):
        memo.once("b", lambda: 1 / 0)
    assert memo.once("b", lambda: 2) == 2


REGRESSION = {"task": {"name": "regression"}}
GENERATION = {
    "task": {"name": "generation"},
    "model": {"name": "unet", "options": UNET},
    "train": {"ema": 0.9},
}


@pytest.mark.parametrize("job", [REGRESSION, GENERATION], ids=lambda job: job["task"]["name"])
@pytest.mark.parametrize(
    ("train", "sentence"),
    [
        ({"mixup": 1.0}, "train.mixup: got 1.0, .*; expected 0"),
        ({"balance": "weights"}, "train.balance: got weights, .*; expected none or sampler"),
    ],
)
def test_labels_are_blended_and_weighed_for_tasks_that_learn_them(tmp_path, job, train, sentence):
    root = write_set(tmp_path / "set", truth=("axion_mass_ev",))
    fields = job | {"train": job.get("train", {}) | train}
    with pytest.raises(JobError, match=sentence):
        plan([make_job(root, **fields)], "runs")
    assert plan([make_job(root, **job)], "runs")


def test_tasks_that_learn_labels_may_blend_and_weigh_them(shards, tmp_path):
    images, targets = make_images(30, 1)
    write_shards(tmp_path, "train", images, targets % 2, classes=("nonlenses", "lenses"))
    slices = {"train": "train[:10]", "valid": "train[10:20]", "test": "train[20:]"}
    for root, data, task in (
        (shards, {}, {"name": "classification", "options": {"label_smoothing": 0.1}}),
        (shards, {"augment": {"dihedral": False}}, {"name": "physics_guided"}),
        (tmp_path, slices, {"name": "detection"}),
    ):
        train = {"mixup": 1.0, "balance": "weights"}
        assert plan([make_job(root, task=task, train=train, data=data)], "runs")


def test_labels_are_there_before_anything_runs(tmp_path):
    images, targets = make_images(30, 1)
    write_shards(tmp_path, "train", images, targets)
    write_shards(tmp_path, "val", images, np.where(np.arange(30) < 20, targets, -1))
    for data, refused in (
        ({"valid": "val[:25]", "test": "val[25:]"}, "val: 20 of 30 images have a label, which"),
        ({"valid": "train[:10]", "train": "train[10:]", "test": "val"}, "val: 20 of 30 images"),
        ({"valid": "val[:10]", "test": "val[10:20]"}, None),
    ):
        if refused is None:
            assert plan([make_job(tmp_path, data=data)], tmp_path / "runs")
            continue
        with pytest.raises(ShardError, match=refused):
            plan([make_job(tmp_path, data=data)], tmp_path / "runs")
    drawing = {
        **GENERATION,
        "data": {"test": "val"} | {"valid": "train[:9]", "train": "train[9:]"},
    }
    assert plan([make_job(tmp_path, **drawing)], tmp_path / "runs")


def test_sets_in_two_units_are_told_once_when_they_are_planned(tmp_path, caplog):
    a = write_set(tmp_path / "a")
    b = write_set(tmp_path / "b", seed=1, level=1e4)
    sets = {"roots": [{"root": str(each)} for each in (a, b)]}
    jobs = [make_job(a, data=sets | {"augment": {}}, seed=seed) for seed in range(3)]
    plan(jobs, tmp_path / "runs")
    assert [record.message for record in caplog.records] == [
        f"small: data.roots: the values are of size 1e+04 in {b} and 1 in {a} (root mean square): "
        "are they in the same unit?"
    ]


def test_a_sky_is_stated_for_each_band(shards):
    data = {"stretch": "asinh", "softening": 3}
    sentence = r"small: data\.sky_sd: got 3 numbers; expected one for each band of .*, 1$"
    with pytest.raises(JobError, match=sentence):
        plan([make_job(shards, data=data | {"sky_sd": [0.1, 0.2, 0.3]})], "runs")
    assert plan([make_job(shards, data=data | {"sky_sd": [0.1]})], "runs")


def test_layers_learn_at_their_rates_where_a_network_tells_them(shards):
    train = {"layer_decay": 0.75}
    with pytest.raises(ModelError, match=r"train\.layer_decay: this network, SmallResNet, does"):
        plan([make_job(shards, model={"name": "resnet20"}, train=train)], "runs")
    (item,) = plan([make_job(shards, model={"name": "test_resnet"}, train=train)], "runs")
    (plain,) = plan([make_job(shards, model={"name": "test_resnet"})], "runs")
    assert item.run.name != plain.run.name


def test_drawn_images_are_measured_where_they_can_be_given_back(shards, tmp_path):
    for data, cause in (
        ({"stretch": "asinh", "softening": 3}, "data.stretch asinh, expected linear"),
        ({"per": "image"}, "data.per image, expected band or set"),
    ):
        job = make_job(shards, **GENERATION, data=data)
        drawer = untrained(job, tmp_path / "runs").run.path
        with pytest.raises(JobError, match=f"be given back to be measured: {cause}"):
            plan([evaluation_of([drawer], None, "", seed=0)], tmp_path / "runs")


@pytest.mark.parametrize("task", ["classification", "detection", "physics_guided"])
def test_one_class_alone_is_not_to_be_told_apart(shards, tmp_path, task):
    images, targets = make_images(30, 1)
    write_shards(tmp_path, "train", images, targets % 2, classes=("nonlenses", "lenses"))
    write_shards(tmp_path / "one", "train", images, targets * 0, classes=("lenses",))
    slices = {"train": "train[:10]", "valid": "train[10:20]", "test": "train[20:]"}
    for root, more, says in (
        (tmp_path, {"classes": {"lenses": "a", "nonlenses": "a"}},
         "data.classes makes nonlenses, lenses one class, a"),
        (tmp_path / "one", {}, "one class, lenses"),
    ):  # fmt: skip
        with pytest.raises(JobError) as caught:
            plan([make_job(root, task={"name": task}, data=slices | more)], tmp_path / "runs")
        assert f": {root}: {says}; expected two or more to tell apart" in str(caught.value)
    assert not (tmp_path / "runs").exists()


MASKING = {"name": "masked_autoencoder", "options": {"encoder": "test_vit"}}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"task": {"name": "masked"}}, "test_resnet restores no hidden patches, which task.name"),
        ({"model": MASKING}, "masked_autoencoder restores hidden patches, which task.name masked"),
        ({"task": {"name": "masked"}, "model": MASKING, "train": {"layer_decay": 0.5}},
         "train.layer_decay: masked_autoencoder does not tell its layers; leave it out here"),
        ({"task": {"name": "masked"}, "model": MASKING, "train": {"mixup": 1.0}},
         "train.mixup: got 1.0"),
    ],
)  # fmt: skip
def test_a_masked_autoencoder_goes_with_its_task_alone(shards, fields, sentence):
    with pytest.raises(JobError, match=sentence):
        plan([make_job(shards, **fields)], "runs")


def test_patches_divide_the_images_before_anything_runs(shards):
    fields = {"task": {"name": "masked"}, "model": MASKING}
    assert plan([make_job(shards, **fields)], "runs")  # 24 pixels, patches of 8
    with pytest.raises(ModelError, match="patch: 8 does not divide the 20 pixels of a side"):
        plan([make_job(shards, **fields, data={"crop": 20})], "runs")
    options = MASKING["options"] | {"patch": 5}
    model = {"name": "masked_autoencoder", "options": options}
    assert plan(
        [make_job(shards, task={"name": "masked"}, model=model, data={"crop": 20})], "runs"
    )
