"""Which class an image belongs to: substructure `no`, `sphere` or `vort`, for one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch.nn.functional as F
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn

from deeplense_batch.core.processes import world_size
from deeplense_batch.core.recipe import first_fault
from deeplense_batch.core.scoring import calibration, curves, figures, metrics
from deeplense_batch.core.sections.adapt import Adaptation
from deeplense_batch.tasks.adaptation.adapted import Adapted
from deeplense_batch.tasks.task import Arrays, Batch, Scores, Task, TaskSpec

__all__ = ["Classification", "logits_of"]


def logits_of(output: Tensor | Mapping[str, Tensor]) -> Tensor:
    """The logits, (B, K), of what a network gave: a network with physics gives more."""
    return output["logits"] if isinstance(output, Mapping) else output


class Classification(Task):
    """Cross-entropy over K classes, judged by the macro one-vs-rest AUC.

    The temperature of the logits is fitted on the validation slice and then frozen.

    Arguments:
        classes: Class names.
        label_smoothing: Share of each target that is spread over all classes.
        focal: Exponent gamma of the focal loss, (1 - p)^gamma times the cross-entropy, p being
            the probability of the target: easy samples count less (Lin et al. 2017,
            arXiv:1708.02002). 0 is the cross-entropy.
        adapt: Make the features of other images, without their labels, like those of the training
            images: {to: {root: data/varied, slice: train}, by: coral, weight: 1.0}. `by` is
            ``coral``, ``mmd`` or ``dann``; `weight` is that of its loss. By default nothing.
    """

    #: What the logits are divided by for honest probabilities; None until `calibrate`.
    temperature: float | None = None
    #: What a figure calls the probabilities before that.
    uncalibrated = "as trained"

    def __init__(
        self,
        *,
        classes: Sequence[str] | None,
        label_smoothing: float = 0.0,
        focal: float = 0.0,
        adapt: Mapping[str, Any] | None = None,
    ) -> None:
        spec = TaskSpec(
            monitor="auc",
            num_outputs=len(classes or ()),
            mixes_labels=True,
            calibrates=True,
            replayable=True,
        )
        super().__init__(spec, classes)
        if classes is not None and len(classes) < 2:
            raise ValueError(f"classification needs two classes or more, the data have {classes}")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing: should be in [0, 1), got {label_smoothing!r}")
        if focal < 0:
            raise ValueError(f"focal: should be 0 or more, got {focal!r}")
        self.label_smoothing, self.focal = label_smoothing, focal
        self.adaptation = None if adapt is None else _adaptation(adapt)

    def wrap(self, network: nn.Module) -> nn.Module:
        return network if self.adaptation is None else Adapted(network, self.adaptation)

    def losses(
        self, model: nn.Module, batch: Batch, progress: float | Tensor
    ) -> dict[str, Tensor]:
        if self.adaptation is None:
            return {"loss": self._learnt(model(batch.images), batch)}
        output, gap = model(batch.images, batch.unlabelled, progress)
        loss = self._learnt(output, batch)
        total = loss + self.adaptation.weight * gap
        return {"loss": total, "cross_entropy": loss, self.adaptation.by: gap}

    def _learnt(self, output: Tensor | Mapping[str, Tensor], batch: Batch) -> Tensor:
        """The loss of what a network answers to labelled images, a scalar."""
        loss = self.classified(logits_of(output), batch)
        if isinstance(output, Mapping) and world_size() > 1:  # which wait for all gradients
            unread = [value for name, value in output.items() if name != "logits"]
            loss = loss + 0 * sum(value.nan_to_num(0.0, 0.0, 0.0).sum() for value in unread)
        return loss

    def classified(self, logits: Tensor, batch: Batch) -> Tensor:
        """The loss of logits (B, K), a scalar: weighted, smoothed and mixed as the job says."""
        logits = logits.float()
        loss = self._cross_entropy(logits, batch.targets, batch.weights)
        if batch.partners is not None:
            mixed_in = self._cross_entropy(logits, batch.partners, batch.partner_weights)
            loss = batch.share * loss + (1 - batch.share) * mixed_in
        return loss.mean()

    def predict(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return {"logits": logits_of(model(batch.images))}

    def calibrate(self, outputs: Arrays) -> None:
        self.temperature = calibration.temperature(outputs["targets"], outputs["logits"])

    def state_dict(self) -> dict[str, Any]:
        return {"temperature": self.temperature}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.temperature = state["temperature"]

    def calibrated_logits(self, logits: NDArray[np.floating]) -> NDArray[np.floating]:
        """Logits, (N, K), of honest probabilities; as they are before `calibrate`."""
        return logits / (self.temperature or 1.0)

    def score(self, outputs: Arrays) -> tuple[Scores, list[str]]:
        targets, logits = outputs["targets"], outputs["logits"]
        scores, notes = metrics.classification_scores(targets, logits, self.classes)
        scores = {"loss": scores["nll"]} | scores
        if self.temperature is not None and len(targets):
            scores["temperature"] = self.temperature
            honest = self.calibrated_logits(logits)
            scores |= _calibration("ece", targets, logits)
            scores |= _calibration("ece_calibrated", targets, honest)
            truth = metrics.log_softmax(honest)[np.arange(len(targets)), targets]
            scores["nll_calibrated"] = -float(truth.mean())
        return scores, notes

    def draw(self, outputs: Arrays, history: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
        targets, probabilities = outputs["targets"], metrics.softmax(outputs["logits"])
        counts = metrics.confusion(targets, probabilities.argmax(1), self.classes)
        roc_curves = {
            name: curves.roc(targets == k, probabilities[:, k])
            for k, name in enumerate(self.classes)
            if self.spec.target_name
            in (None, name)  # of two, the curve of one is that of the other
            if 0 < np.sum(targets == k) < len(targets)
        }
        return {
            "calibration": self._draw_calibration(outputs),
            "confusion": figures.confusion(counts, self.classes),
            "roc": figures.roc(roc_curves, curves.macro_roc(roc_curves), self.score(outputs)[0]),
            "history": figures.history(history, part="cross_entropy"),
        }

    def _draw_calibration(self, outputs: Arrays) -> Figure:
        """How often answers are right, as trained and with the temperature."""
        targets, logits = outputs["targets"], outputs["logits"]
        shown = {self.uncalibrated: metrics.softmax(logits)}
        if self.temperature is not None:
            name = f"temperature {self.temperature:.3f}"
            shown[name] = metrics.softmax(self.calibrated_logits(logits))
        return figures.calibration(
            {n: calibration.reliability(targets, p) for n, p in shown.items()},
            {n: calibration.expected_calibration_error(targets, p) for n, p in shown.items()},
            {n: calibration.calibration_error_floor(p)[1] for n, p in shown.items()},
        )

    def _cross_entropy(self, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        loss = F.cross_entropy(
            logits, targets, reduction="none", label_smoothing=self.label_smoothing
        )
        if self.focal:
            p = logits.softmax(1).gather(1, targets[:, None])[:, 0]
            loss = (1 - p) ** self.focal * loss
        return loss if weights is None else loss * weights


def _adaptation(given: Mapping[str, Any]) -> Adaptation:
    """The option ``adapt``, checked.

    Raises:
        ValueError: It is not what was asked for.
    """
    try:
        return Adaptation.model_validate(given)
    except ValidationError as error:
        field, sentence = first_fault(error, Adaptation)
        place = ".".join(filter(None, ("task.options.adapt", field)))
        raise ValueError(f"{place}: {sentence}") from None


def _calibration(name: str, targets: NDArray[np.int64], logits: NDArray[np.floating]) -> Scores:
    """The calibration error of logits, (N, K), and below what it says nothing."""
    probabilities = metrics.softmax(logits)
    return {
        name: calibration.expected_calibration_error(targets, probabilities),
        f"{name}_floor": calibration.calibration_error_floor(probabilities)[1],
    }
