"""A restoration by samples is scored by their mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from deeplense_batch.tasks.restoring.sampled import Sampled
from deeplense_batch.tasks.task import Batch, Frame, Unit

SIDE = 32


class Known(nn.Module):
    """Samples of images, by their places."""

    def __init__(self, samples):
        super().__init__()
        self.samples = samples

    def forward(self, index):
        return self.samples[index]


def pairs(count=6):
    random = torch.Generator().manual_seed(0)
    images = torch.randn(count, 1, SIDE, SIDE, generator=random)
    inputs, none = nn.functional.avg_pool2d(images, 2), torch.full((count,), -1)
    return Batch(images, none, torch.arange(count), inputs=inputs)


def test_the_mean_is_scored_whatever_the_order_of_the_images():
    batch = pairs()
    task = Sampled(classes=None, frame=Frame(1, SIDE, 0.05, ratio=2))
    task.fit_images([batch], Unit((0.5,), (2.0,)))
    errors = torch.randn(6, 8, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    model = Known(batch.images[:, None] + 0.3 * errors)
    found = task.assess(model, batch)
    wanted = (2 * 0.3 * errors.mean(1)).square().mean((1, 2, 3))  # in the units of the set
    assert torch.allclose(found["mse"], wanted, rtol=1e-4)
    assert torch.allclose(task.predict(model, batch)["mse"], wanted, rtol=1e-4)
    fitted = 2 * (task.interpolated(batch) - batch.images).abs().mean((1, 2, 3))
    assert torch.allclose(found["pixel_crps_fitted"], fitted, rtol=1e-4)
    turned = replace(batch.mapped(lambda values: values.flip(0)), index=torch.arange(5, -1, -1))
    assert torch.allclose(task.assess(model, turned)["mse"], wanted.flip(0), rtol=1e-4)
    outputs = {name: values.numpy() for name, values in found.items()} | {"ids": np.arange(6)}
    scores, notes = task.score(outputs)
    assert scores["mse"] == np.mean(outputs["mse"], dtype=np.float64) and "spread" in scores
    assert any("8 samples of each image" in note for note in notes)
    images = task.images_of(model, batch.part(slice(2, 4)))
    assert torch.allclose(images["shown_sample_2"], 2 * model.samples[2:4, 1] + 0.5)
    assert torch.allclose(images["shown_sd"], 2 * model.samples[2:4].std(1), atol=1e-5)
    assert torch.allclose(
        images["shown_restored"], 2 * model.samples[2:4].mean(1) + 0.5, atol=1e-5
    )
