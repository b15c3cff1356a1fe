"""Classes, with the lens equation beside them: how well is the lens itself recovered?

The network is judged as a classifier, and its physics enters the loss. Which physics, its outputs
say:

``parameters``
    An ellipsoid in shear (`models.lens_pinn`). Where the data hold the truth, deflection and
    parameters are held to it; the others need none.
``theta_s``
    The intensity equations of reference 002 (`models.lens_vit_pinn`): the mean of
    (theta_S - (I - alpha))^2, weighted by 0.01.
``angle``
    The angles of reference 003 (`models.physics_resnet50`): the smooth L1 of beta = theta - alpha,
    theta being a constant, weighted by 0.1 + 0.4 sigmoid(10 (progress - 0.5)).

A plain network is trained by the cross-entropy alone, so one grid compares all of them.

The truth is the smooth lens of the same Einstein radius as lens and substructure together, with
its shear; the parts of substructure that are no such lens are not in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from deeplense_batch.core.scoring import figures
from deeplense_batch.lensing.macro import in_unit, macro_deflection, macro_of_truth, pixel_grid
from deeplense_batch.lensing.recovery import (
    convergence_correlation,
    deflection_square,
    recovery_scores,
    source_moment,
)
from deeplense_batch.tasks.classification import Classification, logits_of
from deeplense_batch.tasks.task import Arrays, Batch, Frame, Scores

__all__ = ["PhysicsGuided"]

_TRUTH = ("theta_e", "lens", "shear")
_HUBER = 0.1  # where the loss of a parameter turns from square to linear
_CONSTANT_THETA = 0.5  # of reference 003; its head learns this number


class PhysicsGuided(Classification):
    """Classification with weighted terms of physics.

    Without a pixel scale in the data, angles would have no unit: such data with truth are refused.

    Arguments:
        classes: Class names.
        frame: The images as the network sees them.
        deflection: Weight of the mean |alpha - alpha_true|^2 / theta_E^2 within 2 theta_E. The
            mean lens of set `varied` has 0.03, so that 30 makes it weigh what the classes do;
            with 1 the classes drown it (a gain of 1.2 where 30 gives 3).
        parameters: Weight of the Huber loss of the seven numbers, lengths over theta_E.
        relensing: Weight of the mean (I - I_hat)^2 of the normalised image, made again from the
            source that is found. Its least value is at no deflection at all, so it is of use
            beside the truth; with `compactness` alone beside it, the lens was not found.
        compactness: Weight of the second moment of the source over theta_E^2.
        positivity: Weight of the mean of max(-kappa, 0).
        intensity: Weight of the term of reference 002.
        scalar: Factor of the scheduled weight of reference 003.
        truth: Whether the truth of the data is used, in the loss and in the scores. Images must
            then not be moved by augmentation, nor averaged over symmetries.
        label_smoothing, focal: As in task `classification`.
    """

    def __init__(
        self,
        *,
        classes: Sequence[str] | None,
        frame: Frame | None = None,
        deflection: float = 30.0,
        parameters: float = 30.0,
        relensing: float = 0.2,
        compactness: float = 0.1,
        positivity: float = 0.1,
        intensity: float = 0.01,
        scalar: float = 1.0,
        truth: bool = True,
        label_smoothing: float = 0.0,
        focal: float = 0.0,
    ) -> None:
        super().__init__(classes=classes, label_smoothing=label_smoothing, focal=focal)
        self.weights = {
            "deflection": deflection,
            "parameters": parameters,
            "relensing": relensing,
            "compactness": compactness,
            "positivity": positivity,
            "intensity": intensity,
            "scalar": scalar,
        }
        for name, weight in self.weights.items():
            if not 0 <= weight < math.inf:
                raise ValueError(f"{name}: should be 0 or more, got {weight!r}")
        if truth:
            self.spec = replace(self.spec, truth_keys=_TRUTH, fixed_geometry=True)
        #: Half the width of the images, arcsec; NaN where unknown.
        self.half_frame = math.nan if frame is None else frame.size * frame.pixel_scale / 2
        self._mean: list[float] | None = None  # lens of the training slice, arcsec

    def fit_statistics(self, targets: NDArray[np.int64], truth: Arrays) -> None:
        """Take the mean lens of the training slice: what any network has to beat."""
        keys = self.spec.truth_keys
        if not keys or set(keys) - set(truth):
            return
        if not math.isfinite(self.half_frame):
            raise ValueError(
                "the data hold lenses in arcsec and no pixel scale, which physics_guided needs to "
                "place them; pack the images with --pixel_scale, or simulate them"
            )
        lenses = macro_of_truth(*(torch.from_numpy(truth[key]) for key in keys))
        self._mean = lenses.double().mean(0).tolist()

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"mean_lens": self._mean}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._mean = state["mean_lens"]

    def losses(
        self, model: nn.Module, batch: Batch, progress: float | Tensor
    ) -> dict[str, Tensor]:
        output = model(batch.images)
        classified = self.classified(logits_of(output), batch)
        if not isinstance(output, Mapping):
            return {"loss": classified}
        with torch.autocast(batch.images.device.type, enabled=False):
            terms = self._terms(output, batch, progress)
        loss = classified
        for name, term in terms.items():
            loss = loss + self.weights[name] * term
        return {"loss": loss, "cross_entropy": classified} | terms

    def _terms(
        self, output: Mapping[str, Tensor], batch: Batch, progress: float | Tensor
    ) -> dict[str, Tensor]:
        """The physics losses of a network, unweighted, by the name of the weight."""
        if "theta_s" in output:
            alpha, intensity = output["alpha"].float(), output["intensity"].float()
            return {"intensity": (output["theta_s"] - (intensity - alpha)).square().mean()}
        if "angle" in output:
            beta = _CONSTANT_THETA - output["angle"].float()
            late = -10 * (progress - 0.5)
            weight = 0.1 + 0.4 / (1 + (late.exp() if isinstance(late, Tensor) else math.exp(late)))
            return {"scalar": weight * F.smooth_l1_loss(beta, torch.zeros_like(beta))}
        if "parameters" not in output:
            return {}
        return self._lens_terms(output, batch)

    def _lens_terms(self, output: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Those of an ellipsoid in shear."""
        deflection, lens = output["deflection"], output["parameters"]
        bent = deflection + output["correction"]
        terms = {
            "relensing": (output["image"] - output["relensed"]).square().mean(),
            "compactness": source_moment(output["image"], bent, lens[:, 0]).mean(),
            "positivity": F.relu(-output["convergence"]).mean(),
        }
        true = self._true_lens(batch)
        if true is None:
            return terms
        theta_e = true[:, :1]
        error = deflection_square(deflection, true) / theta_e[:, 0].square()
        numbers, true_numbers = in_unit(lens, theta_e), in_unit(true, theta_e)
        return terms | {
            "deflection": error.mean(),
            "parameters": F.smooth_l1_loss(numbers, true_numbers, beta=_HUBER),
        }

    def _true_lens(self, batch: Batch) -> Tensor | None:
        """The seven numbers of the true lenses, (B, 7), in half frames; None without truth."""
        keys = self.spec.truth_keys
        if not keys or set(keys) - set(batch.truth):
            return None
        lens = macro_of_truth(*(batch.truth[key] for key in keys))
        return in_unit(lens, self.half_frame)

    def predict(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Logits and, where they are known, seven numbers and errors of each lens, arcsec."""
        output = model(batch.images)
        predicted = {"logits": logits_of(output)}
        if not isinstance(output, Mapping) or "parameters" not in output:
            return predicted
        unit = self.half_frame if math.isfinite(self.half_frame) else 1.0
        predicted["lens"] = in_unit(output["parameters"], 1 / unit)
        true = self._true_lens(batch)
        if true is None or self._mean is None:
            return predicted
        size = batch.images.shape[-1]
        mean = in_unit(true.new_tensor([self._mean]), unit)
        deflection_of_mean = macro_deflection(mean, *pixel_grid(size, batch.images))
        return predicted | {
            "true_lens": in_unit(true, 1 / unit),
            "deflection_square": unit**2 * deflection_square(output["deflection"], true),
            "mean_deflection_square": unit**2 * deflection_square(deflection_of_mean, true),
            "convergence_correlation": convergence_correlation(output["parameters"], true, size),
        }

    def score(self, outputs: Arrays) -> tuple[Scores, list[str]]:
        scores, notes = super().score(outputs)
        if "lens" not in outputs:
            return scores, [*notes, "physics: the network gives no lens to compare"]
        if "true_lens" not in outputs:
            return scores, [
                *notes,
                "physics: these images have no truth/theta_e, lens and shear, so the lens is not "
                "scored; without them in the training images deflection and parameters are no "
                "part of the loss",
            ]
        if not len(outputs["lens"]):
            return scores, notes
        return scores | recovery_scores(
            outputs["lens"][:, 0],
            outputs["true_lens"][:, 0],
            outputs["deflection_square"],
            outputs["mean_deflection_square"],
            outputs["convergence_correlation"],
        ), notes

    def draw(self, outputs: Arrays, history: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
        drawn = super().draw(outputs, history)
        if "true_lens" in outputs:
            drawn["einstein_radius"] = figures.agreement(
                outputs["true_lens"][:, 0], outputs["lens"][:, 0], "Einstein radius", "arcsec"
            )
        return drawn
