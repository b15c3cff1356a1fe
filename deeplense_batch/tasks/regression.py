"""Numbers behind the image, such as the mass of the axion whose vortex bends the arcs."""

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
from deeplense_batch.core.scoring.posteriors import numbers
from deeplense_batch.core.scoring.posteriors.posterior_figures import draw_numbers
from deeplense_batch.data.formats.counted import counted_of
from deeplense_batch.tasks.posteriors.flow import Flow
from deeplense_batch.tasks.posteriors.gaussian import Gaussian
from deeplense_batch.tasks.posteriors.posterior import Posterior, random_of, summary
from deeplense_batch.tasks.posteriors.quantities import read_quantities
from deeplense_batch.tasks.task import Arrays, Batch, Scores, Task, TaskSpec

__all__ = ["Regression"]

_TARGET = "axion_mass_ev"
_R2 = {"r2": ("R2", "R2")}
_POSTERIORS: dict[str, type[Posterior]] = {"gaussian": Gaussian, "flow": Flow}


class Regression(Task):
    """Smooth L1 loss on truths of the images, each scaled to mean 0 and sd 1; judged by R2.

    Or, with `posterior`, the probability of the numbers given the image, by the negative log
    likelihood; judged by `log_prob`, the mean log density of the truth. Images of which a number
    is unknown (NaN) are left out of its score; they are learnt from where another is known, but
    for a posterior, which needs all.

    Arguments:
        classes: Class names; not used.
        target: Name of the truth, one number an image.
        log10: Learn its logarithm; then every score is in decades. Of several `targets` those
            that are named here. By default `target` is, and none of `targets`.
        targets: Several, in place of `target`: names of truth, or of one of its numbers, such as
            ``lens.q`` or ``lens.2``.
        posterior: ``gaussian`` (mean and full covariance) or ``flow`` (a normalising flow, by the
            extra ``flow``), for error bars; by default numbers alone.
    """

    def __init__(
        self,
        *,
        classes: Sequence[str] | None,
        target: str = _TARGET,
        log10: bool | Sequence[str] | None = None,
        targets: Sequence[str] | None = None,
        posterior: str | None = None,
    ) -> None:
        if targets is not None and target != _TARGET:
            raise ValueError("task.options.targets: got target too; expected one of them")
        if posterior is not None and posterior not in _POSTERIORS:
            allowed = ", ".join(_POSTERIORS)
            raise ValueError(
                f"task.options.posterior: got {posterior!r}; allowed: {allowed}, null"
            )
        logs = targets is None if log10 is None else log10
        named = [target] if targets is None else targets
        self.quantities = read_quantities(named, logs)
        size = len(self.quantities)
        self.posterior = None if posterior is None else _POSTERIORS[posterior](size)
        self._single = targets is None and posterior is None
        #: Of what is predicted, in words.
        self.name = ", ".join(one.label for one in self.quantities)
        spec = TaskSpec(
            monitor="r2" if posterior is None else "log_prob",
            num_outputs=size if self.posterior is None else self.posterior.num_outputs,
            primary_output="predicted",
            target_name=self.name if posterior is None else f"posterior of {self.name}",
            truth_keys=tuple(dict.fromkeys(one.truth for one in self.quantities)),
            truth_numbers=tuple((one.truth, one.place) for one in self.quantities),
            quantities=() if self._single else tuple(one.name for one in self.quantities),
            needs_truth=True,
            needs_labels=False,
            fixed_geometry=any(one.moves for one in self.quantities),
            lengths=tuple(one.text for one in self.quantities if one.is_length),
            averages=posterior is None,
            replayable=self.posterior is None or self.posterior.replayable,
        )
        super().__init__(spec, classes)
        self._mean, self._sd = [0.0] * size, [1.0] * size

    def wrap(self, network: nn.Module) -> nn.Module:
        return network if self.posterior is None else self.posterior.wrap(network)

    def fit_statistics(self, targets: NDArray[np.int64], truth: Arrays) -> None:
        values, option = self._numbers(truth), self._option
        for d, quantity in enumerate(self.quantities):
            known = values[np.isfinite(values[:, d]), d]
            if len(known) < 2 or not known.std() > 0:
                raise ValueError(
                    f"task.options.{option}: {quantity.label} is one and the same, or unknown, in "
                    "all images of the training slice; there is nothing to learn"
                )
            self._mean[d], self._sd[d] = float(known.mean()), float(known.std())
        if not self._trainable(np.isfinite(values)).any():
            raise ValueError(
                f"task.options.{option}: {self.name} are known together in no image of the "
                "training slice, which a posterior learns from"
            )

    def check_truth(self, truth: Arrays, *, scored: bool) -> None:
        for quantity in self.quantities:
            if below := quantity.below_zero(torch.from_numpy(truth[quantity.truth])):
                has = counted_of(below, len(truth[quantity.truth]), "image", "has", "have")
                raise ValueError(
                    f"task.options.log10: {has} a {quantity.text} below 0, which has no "
                    "logarithm; learn the number itself"
                )
        if not scored:
            return
        known = np.isfinite(self._numbers(truth))
        for quantity, own in zip(self.quantities, known.T, strict=True):
            if not own.any():
                raise ValueError(
                    f"task.options.{self._option}: {quantity.label} is unknown in all images, "
                    "which are scored by it"
                )
        if not self._trainable(known).any():
            raise ValueError(
                f"task.options.{self._option}: {self.name} are known together in no image, which "
                "a posterior is scored by"
            )

    def trainable_mask(self, targets: NDArray[np.int64], truth: Arrays) -> NDArray[np.bool_]:
        return self._trainable(np.isfinite(self._numbers(truth)))

    def _trainable(self, known: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Images that are learnt from, (N,), by which of their numbers are known, (N, D)."""
        return np.asarray(known.any(1) if self.posterior is None else known.all(1))

    def state_dict(self) -> dict[str, Any]:
        if self._single:
            return {"mean": self._mean[0], "sd": self._sd[0]}
        return {"mean": [*self._mean], "sd": [*self._sd]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        mean, sd = state["mean"], state["sd"]
        self._mean, self._sd = ([mean], [sd]) if self._single else ([*mean], [*sd])

    def losses(
        self, model: nn.Module, batch: Batch, progress: float | Tensor
    ) -> dict[str, Tensor]:
        true = self._standardised(self._values(batch.truth))
        if self.posterior is not None:
            log_prob = self.posterior.log_prob(model, batch.images, true)
            return {"loss": -log_prob.mean() + self._log_scale}
        answer = model(batch.images).float()
        if len(self.quantities) == 1:
            return {"loss": functional.smooth_l1_loss(answer[:, 0], true[:, 0])}
        known = torch.isfinite(true)
        each = functional.smooth_l1_loss(answer, torch.where(known, true, 0.0), reduction="none")
        return {"loss": ((each * known).sum(1) / known.sum(1)).mean()}

    def predict(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        there = all(key in batch.truth for key in self.spec.truth_keys)
        true = self._values(batch.truth) if there else None
        if self.posterior is not None:
            return self._said(model, batch, true)
        found = {"predicted": self._scaled(model(batch.images).float())}
        found |= {} if true is None else {"true": true}
        return {name: values[:, 0] for name, values in found.items()} if self._single else found

    def _said(self, model: nn.Module, batch: Batch, true: Tensor | None) -> dict[str, Tensor]:
        """What is kept of the posterior of each image, in the units of the truth."""
        assert self.posterior is not None
        noise, points = random_of(batch.index, len(self.quantities), device=batch.images.device)
        if true is None:
            found = summary(self.posterior.say(model, batch.images, noise), points)
        else:
            standard = self._standardised(true)
            filled = torch.where(torch.isfinite(standard), standard, 0.0)
            said = self.posterior.say(model, batch.images, noise, filled)
            found = summary(said, points, standard) | {"true": true}
            found["log_prob"] = found["log_prob"] - self._log_scale
            found["crps"] = self._spread(found["crps"])
        found["predicted"] = self._scaled(found["predicted"])
        found["sd"] = self._spread(found["sd"])
        levels = found["quantiles"].unbind(2)
        found["quantiles"] = torch.stack([self._scaled(values) for values in levels], 2)
        return found

    def draws(self, model: nn.Module, batch: Batch, count: int) -> Tensor:
        """Draw from the posterior of each image, (B, count, D) float32, in units of the truth.

        The first `count` of one image are the same whenever it has the same place in its slice.

        Raises:
            ValueError: There is no posterior.
        """
        if self.posterior is None:
            raise ValueError("it has no posterior to draw from")
        noise, _ = random_of(batch.index, len(self.quantities), count, device=batch.images.device)
        drawn = self.posterior.say(model, batch.images, noise).draws
        return torch.stack([self._scaled(one) for one in drawn.unbind(1)], 1)

    def num_scored(self, outputs: Arrays) -> int:
        known = np.isfinite(outputs["true"])
        return int(self._trainable(known[:, None] if self._single else known).sum())

    def score(self, outputs: Arrays) -> tuple[Scores, list[str]]:
        if self._single:
            return metrics.regression_scores(outputs["true"], outputs["predicted"])
        return numbers.scores(outputs, self.spec.quantities)

    def draw(self, outputs: Arrays, history: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
        drawn = {"history": self._history(history)}
        if not self._single:
            labels = [(one.label, one.unit) for one in self.quantities]
            return draw_numbers(outputs, self.spec.quantities, labels) | drawn
        known = np.isfinite(outputs["true"])
        true, predicted = outputs["true"][known], outputs["predicted"][known]
        unit = self.quantities[0].unit or "its unit"
        return {"predicted": figures.agreement(true, predicted, self.name, unit)} | drawn

    def _history(self, history: Sequence[Mapping[str, Any]]) -> Figure:
        if self.posterior is not None:  # the log probability is the loss itself, less than 0
            return figures.history(history, {}, loss="-log probability (nats)")
        return figures.history(history, _R2, loss="training loss", alike=False)

    @property
    def _log_scale(self) -> float:
        """What is added to -log p of standardised numbers for that of numbers in their units."""
        return float(np.log(self._sd).sum())

    @property
    def _option(self) -> str:
        """Of the recipe, which names what is learnt."""
        return "target" if self._single else "targets"

    def _numbers(self, truth: Arrays) -> NDArray[np.float64]:
        """As `_values`, of arrays."""
        return self._values({n: torch.from_numpy(own) for n, own in truth.items()}).numpy()

    def _values(self, truth: Mapping[str, Tensor]) -> Tensor:
        """The numbers of each image, (B, D)."""
        return torch.stack([one.values(truth[one.truth]) for one in self.quantities], 1)

    def _standardised(self, values: Tensor) -> Tensor:
        return torch.stack(
            [(v - m) / s for v, m, s in zip(values.unbind(1), self._mean, self._sd, strict=True)],
            1,
        )

    def _scaled(self, values: Tensor) -> Tensor:
        """Standardised numbers, (B, D), in the units of the truth."""
        return torch.stack(
            [v * s + m for v, m, s in zip(values.unbind(1), self._mean, self._sd, strict=True)], 1
        )

    def _spread(self, values: Tensor) -> Tensor:
        """Standardised distances, (B, D), in the units of the truth."""
        return values * torch.tensor(self._sd, device=values.device)
