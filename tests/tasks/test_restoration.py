"""Better images of poorer ones."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from deeplense_batch.tasks.restoration import Restoration
from deeplense_batch.tasks.restoring.baselines import enlarged
from deeplense_batch.tasks.task import Batch, Frame, Unit

UNIT = Unit((0.5,), (2.0,))  # values of the set are 2 x + 0.5
SIDE = 32


def pairs(count=6, noise=0.05):
    """Normalised pairs with and without their noise."""
    random = torch.Generator().manual_seed(0)
    clean = enlarged(torch.randn(count, 1, SIDE // 4, SIDE // 4, generator=random), 4)
    images = clean + noise * torch.randn(clean.shape, generator=random)
    inputs = nn.functional.avg_pool2d(images, 2)
    index = torch.arange(count)
    return Batch(images, torch.full((count,), -1), index, inputs=inputs, clean=clean)


def task_of(**options) -> Restoration:
    task = Restoration(classes=None, frame=Frame(1, SIDE, 0.05, ratio=2), **options)
    task.fit_images([pairs().part(slice(0, 2)), pairs().part(slice(2, 6))], UNIT)
    return task


class Zero(nn.Module):
    def forward(self, inputs):
        return inputs.new_zeros(len(inputs), 1, SIDE, SIDE)


class Bilinear(nn.Module):
    def forward(self, inputs):
        return enlarged(inputs, 2, "bilinear")


class Perfect(nn.Module):
    """Knows the truth."""

    def __init__(self, truth):
        super().__init__()
        self.truth = truth

    def forward(self, inputs):
        return self.truth


def outputs_of(task, model, batch=None):
    found = task.assess(model, batch or pairs())
    return {name: values.numpy() for name, values in found.items()} | {"ids": np.arange(6)}


def test_the_range_is_that_of_the_images_that_are_trained_on_unless_it_is_stated():
    values = 2 * pairs().images + 0.5
    assert task_of().data_range == pytest.approx(float(values.max() - values.min()), rel=1e-5)
    assert task_of(data_range=7.0).data_range == 7.0
    flat = replace(pairs(), images=torch.ones(6, 1, SIDE, SIDE))
    task = Restoration(classes=None, frame=Frame(1, SIDE, 0.05, ratio=2))
    with pytest.raises(ValueError, match=r"data_range: every pixel of the training slice is 2\.5"):
        task.fit_images([flat], UNIT)


def test_the_noise_is_what_the_images_have_beyond_those_without_it():
    assert task_of().noise_sd == pytest.approx(2 * 0.05, rel=0.05)
    task = Restoration(classes=None, frame=Frame(1, SIDE, 0.05, ratio=2))
    sky = 0.3 * torch.randn(6, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    task.fit_images([replace(pairs(), images=sky, clean=None)], UNIT)
    assert task.noise_sd == pytest.approx(2 * 0.3, rel=0.1)  # measured on the images themselves


def test_a_residual_network_that_adds_nothing_gives_the_fitted_image():
    outputs = outputs_of(task_of(residual=True), Zero())
    assert np.allclose(outputs["psnr"], outputs["psnr_fitted"], atol=1e-4)
    scores, _ = task_of(residual=True).score(outputs)
    assert scores["gain"] == pytest.approx(0, abs=1e-4)
    assert scores["gain_clean"] == pytest.approx(0, abs=1e-4)


def test_scores_are_means_over_images_in_the_units_of_the_set():
    task, batch = task_of(), pairs()
    scores, notes = task.score(outputs_of(task, Bilinear()))
    restored = 2 * enlarged(batch.inputs, 2, "bilinear") + 0.5
    error = (restored - (2 * batch.images + 0.5)).square().mean((1, 2, 3))
    assert scores["mse"] == pytest.approx(float(error.mean()), rel=1e-4)
    psnr = 10 * torch.log10(task.data_range**2 / error)
    assert scores["psnr"] == pytest.approx(float(psnr.mean()), abs=1e-3)
    assert scores["psnr"] == pytest.approx(scores["psnr_bilinear"])
    of_noise = (2 * (batch.clean - batch.images)).square().mean((1, 2, 3))
    noise_free = 10 * torch.log10(task.data_range**2 / of_noise)
    assert scores["psnr_noise_free"] == pytest.approx(float(noise_free.mean()), abs=1e-3)
    assert scores["psnr_clean"] > scores["psnr"]
    assert f"data range of {task.data_range:.6g}, largest minus smallest value" in notes[0]
    assert (
        "as the recipe states"
        in task_of(data_range=3.0).score(outputs_of(task_of(data_range=3.0), Bilinear()))[1][0]
    )


def test_physics_is_that_of_the_truth_without_noise_where_it_is_known():
    batch = pairs()
    for known, truth in ((batch, batch.clean), (replace(batch, clean=None), batch.images)):
        flux = (2 * truth.double() + 0.5).sum((1, 2, 3)).numpy()
        assert np.allclose(outputs_of(task_of(), Bilinear(), known)["flux_truth"], flux, rtol=1e-5)
    restored = replace(batch, images=batch.clean + 1.0)  # noise that has a mean
    scores, _ = task_of().score(outputs_of(task_of(), Perfect(batch.clean), restored))
    assert scores["flux_error"] == pytest.approx(0, abs=1e-5)
    assert scores["power_error"] == pytest.approx(0, abs=1e-5)


def test_epochs_are_scored_without_what_takes_long():
    predicted = task_of().predict(Bilinear(), pairs())
    assert {*predicted} == {
        f"{measure}{end}" for measure in ("psnr", "ssim", "mse") for end in ("", "_clean")
    }
    bare = task_of().predict(Bilinear(), replace(pairs(), clean=None))
    assert {*bare} == {"psnr", "ssim", "mse"}


def test_losses_are_those_that_were_asked_for():
    batch, model = pairs(), Bilinear()
    error = enlarged(batch.inputs, 2, "bilinear") - batch.images
    losses = {name: task_of(loss=name).losses(model, batch, 0.0)["loss"] for name in ("l1", "mse")}
    assert losses["l1"].item() == pytest.approx(error.abs().mean().item())
    assert losses["mse"].item() == pytest.approx(error.square().mean().item())
    mixed = task_of(ssim=0.25)
    found = mixed.losses(model, batch, 0.0)
    similar = mixed.predict(model, batch)["ssim"].mean()
    expected = 0.75 * losses["l1"] + 0.25 * (1 - similar)
    assert found["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_images_from_the_largest_gain_to_the_smallest_are_kept():
    task = task_of()
    outputs = outputs_of(task, Bilinear())
    gains = outputs["psnr"] - outputs["psnr_fitted"]
    chosen = task.chosen(outputs)
    assert chosen[0] == gains.argmax() and chosen[-1] == gains.argmin() and len(chosen) == 5
    assert np.all(np.diff(gains[chosen]) <= 0)
    assert len(task.chosen({"psnr": gains})) == 0
    shown = task.images_of(Bilinear(), pairs().part(slice(0, 2)))
    assert shown["shown_truth"].shape == (2, 1, SIDE, SIDE)
    assert torch.allclose(shown["shown_input"], 2 * pairs().inputs[:2] + 0.5)
    kept = outputs | {name: values.numpy() for name, values in shown.items()}
    assert {*task.draw(kept, [])} == {"history", "restored", "spectrum", "physics"}
    assert {*task.draw({"psnr": gains}, [])} == {"history"}


def test_radii_are_in_pixels_where_their_width_is_not_known():
    task = Restoration(classes=None, frame=Frame(1, SIDE, math.nan, ratio=2))
    task.fit_images([replace(pairs(noise=0.0), clean=None)], UNIT)
    _, notes = task.score(outputs_of(task, Bilinear(), replace(pairs(noise=0.0), clean=None)))
    assert "radii of rings are in pixels, whose width is not known" in notes


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"loss": "l3"}, "task.options.loss: got 'l3'; allowed: l1, mse"),
        ({"ssim": 1.5}, "task.options.ssim: expected a share from 0 to 1, got 1.5"),
        ({"data_range": -1}, "task.options.data_range: expected above 0, got -1"),
    ],
)
def test_options_out_of_range_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        Restoration(classes=None, **options)


def test_images_smaller_than_the_window_of_ssim_are_refused():
    with pytest.raises(ValueError, match="SSIM needs 11 pixels, got 10"):
        Restoration(classes=None, frame=Frame(1, 10, 0.05, ratio=2))
