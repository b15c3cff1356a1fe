"""Restoration by samples of what an input may have been of: their mean, and how far they vary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from deeplense_batch.tasks.restoration import Restoration
from deeplense_batch.tasks.restoring import uncertainty, uncertainty_pictures
from deeplense_batch.tasks.restoring.quality import key
from deeplense_batch.tasks.task import Arrays, Batch, Scores

__all__ = ["Sampled"]


class Sampled(Restoration):
    """Scores of a restoration, of the mean of samples, and scores of the samples.

    What it calls is no network but the samples that one has drawn before: a module that gives
    those of images, (B, S, C, H, W), normalised, by their places in the slice, (B,).

    Samples are drawn to be like the images, with noise: so coverage and ranks are right against
    the image as it is. Against the truth without noise they cover more than they say.
    """

    def interpolated(self, batch: Batch) -> Tensor:
        """The fitted bicubic images of the inputs, (B, C, H, W), normalised."""
        assert batch.inputs is not None
        return self.fitted(batch.inputs, self.frame.ratio)

    def predict(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """As of `Restoration`, of the mean of the samples."""
        return super().predict(_Mean(model(batch.index)), batch)

    def assess(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """As of `Restoration`, of the mean of the samples; and what `uncertainty` measures."""
        samples = model(batch.index)
        truths = self._truths(batch)
        fitted = self.unit.undone(self.interpolated(batch))
        away = {
            key("pixel_crps", "fitted", name): (fitted - truth).abs().mean((1, 2, 3))
            for name, truth in truths.items()
        }
        measured = uncertainty.measure(self.unit.undone(samples), truths)
        return super().assess(_Mean(samples), batch) | measured | away

    def score(self, outputs: Arrays) -> tuple[Scores, list[str]]:
        scores, notes = super().score(outputs)
        more, more_notes = uncertainty.summary(outputs)
        return scores | more, notes + more_notes

    def versions(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return super().versions(_Mean(model(batch.index)), batch)

    def images_of(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        samples = self.unit.undone(model(batch.index))
        more = {
            "shown_sd": samples.mean(2, keepdim=True).std(1),
            "shown_sample_1": samples[:, 0],
            "shown_sample_2": samples[:, 1],
        }
        return super().images_of(model, batch) | more

    def draw(self, outputs: Arrays, history: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
        drawn = super().draw(outputs, history)
        if "shown_sd" in outputs:
            drawn["samples"] = uncertainty_pictures.sheet(outputs)
        if "ranks" in outputs:
            drawn["ranks"] = uncertainty_pictures.ranks(outputs["ranks"])
        return drawn


class _Mean(nn.Module):
    """Gives the mean of samples, (B, S, C, H, W), for a restored image, whatever it is asked."""

    def __init__(self, samples: Tensor) -> None:
        super().__init__()
        self._samples = samples

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.mean(self._samples, 1)
