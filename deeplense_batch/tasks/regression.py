"""A number behind the image, such as the mass of the axion whose vortex bends the arcs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from deeplense_batch.core.scoring import figures, metrics
from deeplense_batch.tasks.task import Arrays, Batch, Scores, Task, TaskSpec

__all__ = ["Regression"]


class Regression(Task):
    """Smooth L1 loss on one truth of the images, scaled to mean 0 and sd 1; judged by R2.

    Images that have none of it (NaN) are neither learnt from nor scored.

    Arguments:
        classes: Class names; not used.
        target: Name of the truth, one number an image.
        log10: Learn its logarithm; then every score is in decades.
    """

    def __init__(
        self,
        *,
        classes: Sequence[str] | None,
        target: str = "axion_mass_ev",
        log10: bool = True,
    ) -> None:
        self.name = f"log10 {target}" if log10 else target  # of what is predicted, in words
        spec = TaskSpec(
            monitor="r2",
            num_outputs=1,
            primary_output="predicted",
            target_name=self.name,
            truth_keys=(target,),
            needs_truth=True,
            needs_labels=False,
            replayable=True,
        )
        super().__init__(spec, classes)
        self.target, self.log10 = target, log10
        self._mean, self._sd = 0.0, 1.0

    def fit_statistics(self, targets: NDArray[np.int64], truth: Arrays) -> None:
        values = self._values(torch.from_numpy(truth[self.target])).numpy()
        known = values[np.isfinite(values)]
        if len(known) < 2 or not known.std() > 0:
            raise ValueError(
                f"task.options.target: {self.name} is one and the same, or unknown, in all "
                "images of the training slice; there is nothing to learn"
            )
        self._mean, self._sd = float(known.mean()), float(known.std())

    def trainable_mask(self, targets: NDArray[np.int64], truth: Arrays) -> NDArray[np.bool_]:
        return torch.isfinite(self._values(torch.from_numpy(truth[self.target]))).numpy()

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self._mean, "sd": self._sd}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._mean, self._sd = state["mean"], state["sd"]

    def losses(
        self, model: nn.Module, batch: Batch, progress: float | Tensor
    ) -> dict[str, Tensor]:
        true = (self._values(batch.truth[self.target]) - self._mean) / self._sd
        loss = functional.smooth_l1_loss(model(batch.images).float()[:, 0], true)
        return {"loss": loss}

    def predict(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        predicted = model(batch.images).float()[:, 0] * self._sd + self._mean
        if self.target not in batch.truth:
            return {"predicted": predicted}
        return {"predicted": predicted, "true": self._values(batch.truth[self.target])}

    def num_scored(self, outputs: Arrays) -> int:
        return int(np.isfinite(outputs["true"]).sum())

    def score(self, outputs: Arrays) -> tuple[Scores, list[str]]:
        return metrics.regression_scores(outputs["true"], outputs["predicted"])

    def draw(self, outputs: Arrays, history: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
        known = np.isfinite(outputs["true"])
        true, predicted = outputs["true"][known], outputs["predicted"][known]
        unit = "dex" if self.log10 else "its unit"
        return {
            "predicted": figures.agreement(true, predicted, self.name, unit),
            "history": figures.history(history),
        }

    def _values(self, truth: Tensor) -> Tensor:
        if truth.ndim != 1:
            raise ValueError(
                f"task.options.target: {self.target} has {truth[0].numel()} numbers an image; "
                "expected one"
            )
        return torch.log10(truth) if self.log10 else truth
