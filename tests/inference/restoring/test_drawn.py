"""Samples of images, drawn of their inputs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from conftest import make_job
from made_restoration import SIDE, write_rings
from made_runs import untrained
from tiny_networks import UNET
from torch import nn

from deeplense_batch.data.shards import open_split
from deeplense_batch.inference.generation import drawer
from deeplense_batch.inference.restoring import drawn
from deeplense_batch.inference.restoring.drawn import draw_samples
from deeplense_batch.inference.trained import TrainedError, open_trained

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Pairs, and a run whose network heeds the input."""
    folder = tmp_path_factory.mktemp("drawn")
    pairs = write_rings(folder / "pairs")
    job = make_job(
        pairs,
        task={
            "name": "generation",
            "options": {"conditions": ["input", "class"], "residual": True},
        },
        model={"name": "unet", "options": {"inputs": True, **UNET}},
        train={"ema": 0.9},
    )
    trained = open_trained(untrained(job, folder / "runs").run.path)
    torch.manual_seed(0)
    nn.init.normal_(trained.model.network.conv_out.weight, std=0.05)
    return pairs, trained


def drawn_of(made, out, slice_="val[:4]", **options):
    pairs, trained = made
    asked = {"samples": 3, "sampler": "ddpm", "steps": 3, "seed": 0, "device": CPU} | options
    saved = draw_samples(trained, open_split(pairs, slice_), out, **asked)
    return saved(torch.arange(len(open_split(pairs, slice_))))


def test_a_sample_is_a_function_of_the_seed_the_image_and_its_number(made, tmp_path, monkeypatch):
    whole = drawn_of(made, tmp_path / "whole")
    assert whole.shape == (4, 3, 1, SIDE, SIDE)
    flat = whole.flatten(0, 1).flatten(1)
    assert all((flat[i] != flat[j]).any() for i in range(12) for j in range(i))
    monkeypatch.setattr(drawer, "_BATCH", {"cpu": 5})
    monkeypatch.setattr(drawn, "_SHARD", 4)
    part = drawn_of(made, tmp_path / "part", "val[2:4]", samples=2)
    assert torch.allclose(part, whole[2:, :2], atol=1e-4)
    other = drawn_of(made, tmp_path / "other", "val[2:4]", samples=2, seed=1)
    assert (other - part).abs().mean() > 0.01


def test_what_was_cut_off_goes_on_and_processes_share_the_work(made, tmp_path, monkeypatch):
    whole = drawn_of(made, tmp_path / "whole")
    monkeypatch.setattr(drawn, "_SHARD", 4)
    made_of = drawn._Drawer.make
    asked = []

    def make(self, split, indices, *, seed):
        asked.append([*indices])
        if len(asked) == 2:  # in the second of three files
            raise KeyboardInterrupt
        return made_of(self, split, indices, seed=seed)

    monkeypatch.setattr(drawn._Drawer, "make", make)
    with pytest.raises(KeyboardInterrupt):
        drawn_of(made, tmp_path / "cut")
    assert torch.allclose(drawn_of(made, tmp_path / "cut"), whole, atol=1e-4)
    done, cut, *rest = asked
    assert sorted(itertools.chain(done, *rest)) == [*range(12)] and rest[0] == cut
    shared = drawn_of(made, tmp_path / "shared", rank=1, ranks=2)
    assert torch.allclose(shared, whole, atol=1e-4)


def test_the_input_and_the_class_count(made, tmp_path):
    """Of the same noise."""
    _, trained = made
    (batch,) = _batches(made)
    noise = torch.randn(4, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    labels, radii, inputs = trained.task.conditions_of(batch)
    assert labels.tolist() == [0, 1, 0, 1] and radii is None

    def restored(labels, inputs):
        with torch.inference_mode():
            return trained.task.restored(trained.model, noise, 1.0, (labels, None, inputs))

    first = restored(labels, inputs)
    for other in (restored(labels, inputs.flip(0)), restored(1 - labels, inputs)):
        assert ((other - first).abs().amax((1, 2, 3)) > 1e-4).all()


def _batches(made):
    from deeplense_batch.data.batches.paired import paired_loader
    from deeplense_batch.training.evaluation import batches_of

    pairs, trained = made
    loader = paired_loader(open_split(pairs, "val[:4]"), transform=trained.transform, device=CPU)
    return batches_of(loader, [np.arange(4)])


def test_images_that_are_not_finite_are_refused(made, tmp_path, monkeypatch):
    _, trained = made
    monkeypatch.setitem(trained.model.network._modules, "conv_out", nn.Identity())
    monkeypatch.setattr(trained.model.network.conv_out, "forward", lambda x: x[:, :1] * torch.nan)
    with pytest.raises(TrainedError, match="6 drawn images are not finite"):
        drawn_of(made, tmp_path / "nan", "val[:2]")
