"""Samples of images, drawn of their inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import make_job
from made_restoration import SIDE, write_rings
from made_runs import untrained
from tiny_networks import UNET
from torch import nn

from deeplense_batch.data.batches.paired import paired_loader
from deeplense_batch.data.shards import open_split
from deeplense_batch.inference.restoring.drawn import draw_samples
from deeplense_batch.inference.trained import TrainedError, open_trained
from deeplense_batch.training.evaluation import batches_of

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
    """Samples of a slice, (B, S, C, H, W)."""
    pairs, trained = made
    asked = {"samples": 3, "sampler": "ddpm", "steps": 2, "seed": 0, "device": CPU} | options
    saved = draw_samples(trained, open_split(pairs, slice_), out, **asked)
    return saved(torch.arange(len(open_split(pairs, slice_))))


def test_a_sample_is_a_function_of_the_seed_the_image_and_its_number(made, tmp_path):
    """Whatever is drawn beside it: of 24 samples 16 are drawn at once."""
    whole = drawn_of(made, tmp_path / "whole", "val[:8]")
    assert whole.shape == (8, 3, 1, SIDE, SIDE)
    flat = whole.flatten(0, 1).flatten(1)
    assert all((flat[i] != flat[j]).any() for i in range(24) for j in range(i))
    part = drawn_of(made, tmp_path / "part", "val[4:7]", samples=2)
    assert torch.allclose(part, whole[4:7, :2], atol=1e-4)
    other = drawn_of(made, tmp_path / "other", "val[4:7]", samples=2, seed=1)
    assert (other - part).abs().mean() > 0.01


class Calls:
    """Counts how often it is called; the last time that is allowed it ends the work."""

    def __init__(self, last=0):
        self.count, self.last = 0, last

    def __call__(self):
        self.count += 1
        if self.count == self.last:
            raise KeyboardInterrupt


def test_what_was_cut_off_goes_on_and_processes_share_the_work(made, tmp_path):
    """168 samples are two files, of 8 batches of 16 and of 3: one is whole when it is cut off."""
    asked = {"slice_": "val", "samples": 7}
    with pytest.raises(KeyboardInterrupt):
        drawn_of(made, tmp_path / "cut", on_batch=Calls(9), **asked)
    left, each, other = Calls(), Calls(), Calls()
    cut = drawn_of(made, tmp_path / "cut", on_batch=left, **asked)
    alone = drawn_of(made, tmp_path / "shared", rank=1, ranks=2, on_batch=each, **asked)
    again = drawn_of(made, tmp_path / "shared", rank=0, ranks=2, on_batch=other, **asked)
    assert each.count == left.count + 8  # its own file, and that which no other process has drawn
    assert other.count == 0 and torch.equal(again, alone)
    assert torch.allclose(cut, alone, atol=1e-4)
    few = drawn_of(made, tmp_path / "few", "val[20:22]", samples=7)
    assert torch.allclose(cut[20:22], few, atol=1e-4)


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
    pairs, trained = made
    loader = paired_loader(open_split(pairs, "val[:4]"), transform=trained.transform, device=CPU)
    return batches_of(loader, [np.arange(4)])


def test_images_that_are_not_finite_are_refused(made, tmp_path, monkeypatch):
    _, trained = made
    monkeypatch.setitem(trained.model.network._modules, "conv_out", nn.Identity())
    monkeypatch.setattr(trained.model.network.conv_out, "forward", lambda x: x[:, :1] * torch.nan)
    with pytest.raises(TrainedError, match="6 drawn images are not finite"):
        drawn_of(made, tmp_path / "nan", "val[:2]")
