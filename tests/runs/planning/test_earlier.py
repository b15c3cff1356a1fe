"""Runs that go on from the weights of others (`train.init`)."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import pytest
import timm
import torch
from conftest import make_job
from made_restoration import write_rings

from deeplense_batch.core.distributed import World
from deeplense_batch.core.job import Job, JobError
from deeplense_batch.core.result import read_metrics
from deeplense_batch.inference.answering import answering
from deeplense_batch.inference.trained import TrainedError
from deeplense_batch.models import WeightsError, checkpoint
from deeplense_batch.runs.planning.earlier import find_classifier
from deeplense_batch.runs.planning.plan import plan, reopen
from deeplense_batch.runs.training_run import run
from deeplense_batch.training.setup import set_up

ALONE = World(0, 1, torch.device("cpu"))


def short(shards: Path, **train: object) -> Job:
    return make_job(shards, model={"name": "test_resnet"}, train={"epochs": 1, "lr": 1e-3} | train)


def best(path: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(path / "best.pt")["model"]


@pytest.fixture(scope="module")
def first(shards, tmp_path_factory):
    (item,) = plan([short(shards)], tmp_path_factory.mktemp("runs"))
    run(item)
    return item.run.path


@pytest.mark.parametrize("named", ["run", "folder", "file"])
def test_a_run_starts_from_another(first, shards, tmp_path, named):
    """With a rate of almost nothing it ends where the other did."""
    place = {"run": first, "folder": first.parent, "file": first / "best.pt"}[named]
    job = short(shards, init=str(place), lr=1e-12, weight_decay=0.0)
    (item,) = plan([job], tmp_path)
    assert item.run.path.name != first.name
    run(item)
    before, after = best(first), best(item.run.path)
    weights = [n for n, v in before.items() if v.is_floating_point() and "running" not in n]
    assert all(torch.allclose(before[n], after[n], atol=1e-6) for n in weights)
    assert reopen(item.run.path).job.train.init.startswith("/")


def test_what_is_taken_and_left_of_anothers_weights_is_noted_beside_the_scores(shards, tmp_path):
    """A checkpoint of Lightning, for three colours and ten classes."""
    torch.manual_seed(1)
    other = timm.create_model("test_resnet", num_classes=10)
    state = {f"model.{name}": value for name, value in other.state_dict().items()}
    options = argparse.Namespace(lr=0.1)
    torch.save({"state_dict": state, "hyper_parameters": {"args": options}}, tmp_path / "z.ckpt")
    job = short(shards, init=str(tmp_path / "z.ckpt"), lr=1e-12, weight_decay=0.0)
    (item,) = plan([job], tmp_path / "runs")
    run(item)
    colours = other.conv1[0].weight
    assert torch.allclose(best(item.run.path)["conv1.0.weight"], colours.sum(1, keepdim=True))
    notes = read_metrics(item.run)["test"]["notes"]
    assert notes[:3] == [
        "it starts from z.ckpt; which images these weights have seen is not known",
        "z.ckpt: conv1.0.weight was for 3 channels, and is made for 1 (their sum)",
        "z.ckpt: the classifier (fc.bias, fc.weight) starts at random: its shapes in the "
        "file are fc.weight (10, 96), fc.bias (10,)",
    ]
    log = (item.run.path / "log.txt").read_text()
    assert all(note in log for note in notes[1:3])


def test_other_weights_are_another_run(first, shards, tmp_path):
    """By their content, wherever they lie."""
    names = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / folder).mkdir()
        torch.manual_seed(seed)
        torch.save({"w": torch.randn(3)}, tmp_path / folder / "w.pt")
        (item,) = plan([short(shards, init=str(tmp_path / folder / "w.pt"))], tmp_path / "runs")
        names.append(item.run.path.name)
    assert names[0] == names[1] != names[2]


def test_what_is_not_there_is_refused_before_anything_runs(first, shards, tmp_path):
    with pytest.raises(JobError, match=r"train.init: .*nowhere: no weights there; expected a run"):
        plan([short(shards, init=str(tmp_path / "nowhere"))], tmp_path)
    job = short(shards, init=str(first.parent)).model_copy(update={"seed": 7})
    with pytest.raises(JobError, match=r"train.init: .*test_resnet-s7-\.\.\.: no weights there"):
        plan([job], tmp_path)
    pretrained = make_job(shards, model={"name": "test_resnet", "pretrained": True})
    with pytest.raises(WeightsError, match="no weights of 'test_resnet' in"):
        plan([pretrained], tmp_path)


MASKED = {
    "task": {"name": "masked"},
    "model": {
        "name": "masked_autoencoder",
        "options": {"encoder": "test_vit", "decoder_depth": 1, "decoder_width": 16,
                    "decoder_heads": 2},
    },
    "data": {"train": "train[:24]", "valid": "val[:24]", "test": "val[24:48]"},
    "train": {"epochs": 1},
}  # fmt: skip


@pytest.fixture(scope="module")
def masked(shards, tmp_path_factory):
    """The run directory of a masked autoencoder."""
    (item,) = plan([make_job(shards, **MASKED)], tmp_path_factory.mktemp("masked"))
    run(item)
    return item.run.path


@pytest.mark.parametrize(
    "frozen", [(), ("cls_token", "pos_embed", "patch_embed", "blocks", "norm")]
)
def test_a_network_starts_from_the_autoencoder_whose_encoder_it_is(
    masked, shards, tmp_path, frozen
):
    """And, frozen, ends with its weights."""
    model = {"name": "test_vit", "options": {"patch_size": 8}}
    train = {"epochs": 1, "init": str(masked.parent), "freeze": list(frozen), "layer_decay": 0.75}
    (item,) = plan(
        [make_job(shards, model=model, train=train, data=MASKED["data"])], tmp_path / "runs"
    )
    assert item.training.train.init == str(masked)
    run(item)
    before, after = best(masked), best(item.run.path)
    same = [torch.equal(after[name.removeprefix("encoder.")], value)
            for name, value in before.items() if name.startswith("encoder.")]  # fmt: skip
    assert all(same) == bool(frozen) and len(same) > 50
    notes = read_metrics(item.run)["test"]["notes"]
    assert any("the classifier (head.bias, head.weight) starts at random" in n for n in notes)


def test_an_autoencoder_of_another_network_or_seed_starts_none(masked, shards, tmp_path):
    job = make_job(
        shards, model={"name": "vit_tiny_patch16_224"}, train={"init": str(masked.parent)}
    )
    with pytest.raises(
        JobError, match=r"has trained the encoder test_vit; expected that as model"
    ):
        plan([job], tmp_path)
    job = make_job(shards, model={"name": "test_vit"}, seed=5, train={"init": str(masked.parent)})
    with pytest.raises(JobError, match=r"test_vit-s5-\.\.\.: no weights there"):
        plan([job], tmp_path)


def test_an_autoencoder_predicts_and_judges_nothing(masked):
    with pytest.raises(
        TrainedError, match="has learnt to restore hidden patches, and predicts not"
    ):
        answering([masked], None, None)
    with pytest.raises(JobError, match="tells no classes apart"):
        find_classifier(masked, "evaluate.classifier")


@pytest.fixture(scope="module")
def rings(tmp_path_factory):
    return write_rings(tmp_path_factory.mktemp("rings") / "data")


@pytest.fixture(scope="module")
def masked_rings(rings, tmp_path_factory):
    """The run directory of a masked autoencoder of the better images of pairs."""
    job = make_job(rings, **MASKED | {"data": {}})
    (item,) = plan([job], tmp_path_factory.mktemp("masked_rings"))
    run(item)
    return item.run.path


def restoration(rings: Path, model: str = "restoring_vit", **train: object) -> Job:
    options = {"encoder": "test_vit", "width": 2} if model == "restoring_vit" else {}
    return make_job(
        rings, name="restored", task={"name": "restoration", "options": {"residual": True}},
        model={"name": model, "options": options}, data={"augment": {}},
        train={"epochs": 1} | train,
    )  # fmt: skip


def test_a_network_that_restores_starts_from_the_autoencoder_of_its_encoder(
    masked_rings, rings, tmp_path
):
    """To the bit, but for the places, of which inputs of half the size have fewer."""
    train = {"init": str(masked_rings.parent), "freeze": ["encoder"], "layer_decay": 0.75}
    (item,) = plan([restoration(rings, **train)], tmp_path / "runs")
    assert item.training.train.init == str(masked_rings)
    theirs = best(masked_rings)
    encoder = {n: v for n, v in theirs.items() if n.startswith("encoder.") and "pos_" not in n}
    at_first = set_up(item.training, ALONE).model.state_dict()
    run(item)
    for own in (at_first, best(item.run.path)):
        assert all(torch.equal(own[name], value) for name, value in encoder.items())
        assert {*own} - {*encoder} == {"encoder.pos_embed"} | {
            f"head.{place}.{name}" for place in (0, 2) for name in ("weight", "bias")
        }
    assert not torch.equal(own["head.2.weight"], at_first["head.2.weight"]), "the head learns"
    notes = read_metrics(item.run)["test"]["notes"]
    assert any("pos_embed of (1, 17, 64) to (1, 5, 64)" in note for note in notes)
    (scratch,) = plan([restoration(rings)], tmp_path / "runs")
    random = set_up(scratch.training, ALONE).model.state_dict()
    assert not any(torch.equal(random[n], v) for n, v in encoder.items() if v.ndim > 1)


@pytest.mark.parametrize("named", ["run", "folder", "file"])
@pytest.mark.parametrize(
    ("model", "options", "got"),
    [
        ("edsr", {"width": 4, "blocks": 1}, "edsr"),
        ("restoring_vit", {}, "restoring_vit with vit_small_patch8_224"),
    ],
)
def test_a_network_that_restores_with_another_encoder_or_none_is_refused(
    masked_rings, rings, tmp_path, named, model, options, got
):
    place = {"run": masked_rings, "folder": masked_rings.parent, "file": masked_rings / "best.pt"}
    job = restoration(rings, init=str(place[named]))
    job = job.model_copy(update={"model": job.model.model_copy(
        update={"name": model, "options": options})})  # fmt: skip
    with pytest.raises(
        JobError,
        match=rf"restored: train.init: .* has trained the encoder test_vit; expected model.name "
        rf"restoring_vit with that as model.options.encoder, got {got}$",
    ):
        plan([job], tmp_path)


def test_a_classifier_of_another_encoder_is_refused_by_the_run_that_is_named(
    masked, shards, tmp_path
):
    job = make_job(shards, model={"name": "test_resnet"}, train={"init": str(masked)})
    with pytest.raises(JobError, match=r"expected that as model.name, got test_resnet$"):
        plan([job], tmp_path)


def test_one_of_several_autoencoders_has_to_be_named(masked, shards, tmp_path):
    for end in ("a", "b"):
        shutil.copytree(masked, tmp_path / "both" / f"{masked.name}{end}")
    job = make_job(
        shards, model={"name": "test_vit", "options": {"patch_size": 8}},
        train={"init": str(tmp_path / "both")},
    )  # fmt: skip
    with pytest.raises(JobError, match=r"has 2 runs masked_autoencoder-s0-\.\.\.; name one"):
        plan([job], tmp_path)
