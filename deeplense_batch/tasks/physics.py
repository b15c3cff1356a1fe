"""Classes, with the lens equation beside them: how well is the lens itself recovered?

The network is judged as a classifier, and its physics enters the loss. Which physics, its outputs
say:

``parameters``
    An ellipsoid in shear (`models.lens_pinn`). Where the data hold the truth, deflection and
    parameters are held to it; the others need none.
``theta_s``
    The intensity equations of seed 002 (`models.lens_vit_pinn`): the mean of
    (theta_S - (I - alpha))^2, weighted by 0.01.
``angle``
    The two angles of seed 003 (`models.physics_resnet50`): the smooth L1 of beta = theta - alpha,
    theta being a constant, weighted by 0.1 + 0.4 sigmoid(10 (progress - 0.5)).

A plain network is trained by the cross-entropy alone, so one grid compares all of them.

The truth is the smooth lens of the same Einstein radius as lens and substructure together, with
its shear; the parts of substructure that are no such lens are not in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from deeplense_batch.core.scoring import figures
from deeplense_batch.lensing.macro import (
    in_unit,
    macro_convergence,
    macro_deflection,
    macro_of_truth,
    pixel_grid,
)
from deeplense_batch.tasks.classification import Classification, logits_of
from deeplense_batch.tasks.task import Arrays, Batch, Frame, Scores

__all__ = ["PhysicsGuided"]

_REACH = 2.0  # Einstein radii, within which deflections are compared
_CORE = 2.0  # pixels around the middle of the lens, left out where convergences are compared
_HUBER = 0.1  # where the loss of a parameter turns from square to linear
_CONSTANT_THETA = 0.5  # of seed 003; its head learns this number


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
        intensity: Weight of the term of seed 002.
        scalar: Factor of the scheduled weight of seed 003.
        truth: Whether the truth of the data is used, in the loss and in the scores. Images must
            then not be moved by augmentation, nor averaged over symmetries.
        label_smoothing, focal: As `Classification` has them.
    """

    reads: ClassVar[tuple[str, ...]] = ("theta_e", "lens", "shear")

    def __init__(
        self,
        *,
        classes: Sequence[str],
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
        super().__init__(
            classes=classes, frame=frame, label_smoothing=label_smoothing, focal=focal
        )
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
        self.truth = truth
        self._mean: list[float] | None = None  # lens of the training slice, arcsec

    @property
    def fixed_pixels(self) -> bool:
        return self.truth

    @property
    def half_frame(self) -> float:
        """Half the width of the images, arcsec; NaN where unknown."""
        return math.nan if self.frame is None else self.frame.size * self.frame.pixel_scale / 2

    def study(self, targets: NDArray[np.int64], truth: Arrays) -> None:
        """Take the mean lens of the training slice: what any network has to beat."""
        if not self.truth or set(self.reads) - set(truth):
            return
        if not math.isfinite(self.half_frame):
            raise ValueError(
                "the data hold lenses in arcsec and no pixel_scale, which physics_guided needs to "
                "place them; pack or simulate the images with one"
            )
        lenses = macro_of_truth(*(torch.from_numpy(truth[name]) for name in self.reads))
        self._mean = lenses.double().mean(0).tolist()

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"mean_lens": self._mean}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._mean = state["mean_lens"]

    def losses(self, model: nn.Module, batch: Batch, progress: float) -> dict[str, Tensor]:
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
        self, output: Mapping[str, Tensor], batch: Batch, progress: float
    ) -> dict[str, Tensor]:
        """What the physics of a network asks of it, unweighted, by the name of the weight."""
        if "theta_s" in output:
            alpha, intensity = output["alpha"].float(), output["intensity"].float()
            return {"intensity": (output["theta_s"] - (intensity - alpha)).square().mean()}
        if "angle" in output:
            beta = _CONSTANT_THETA - output["angle"].float()
            weight = 0.1 + 0.4 / (1 + math.exp(-10 * (progress - 0.5)))
            return {"scalar": weight * F.smooth_l1_loss(beta, torch.zeros_like(beta))}
        if "parameters" not in output:
            return {}
        terms = {
            "relensing": (output["image"] - output["relensed"]).square().mean(),
            "compactness": _spread(output).mean(),
            "positivity": F.relu(-output["convergence"]).mean(),
        }
        lens = self._truth(batch)
        return terms if lens is None else terms | _supervised(output, lens)

    def _truth(self, batch: Batch) -> Tensor | None:
        """The seven numbers of the true lenses, (B, 7), in half frames; None without truth."""
        if not self.truth or set(self.reads) - set(batch.truth):
            return None
        lens = macro_of_truth(*(batch.truth[name] for name in self.reads))
        return in_unit(lens, self.half_frame)

    def predict(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Logits and, where they are known, seven numbers and errors of each lens, arcsec."""
        output = model(batch.images)
        predicted = {"logits": logits_of(output)}
        if not isinstance(output, Mapping) or "parameters" not in output:
            return predicted
        unit = self.half_frame if math.isfinite(self.half_frame) else 1.0
        predicted["lens"] = in_unit(output["parameters"], 1 / unit)
        lens = self._truth(batch)
        if lens is None or self._mean is None:
            return predicted
        x, y = pixel_grid(batch.images.shape[-1], batch.images)
        mean = in_unit(lens.new_tensor([self._mean]), unit)
        error = _square_error(output["deflection"], lens, x, y)
        mean_error = _square_error(macro_deflection(mean, x, y), lens, x, y)
        return predicted | {
            "true_lens": in_unit(lens, 1 / unit),
            "deflection_square": unit**2 * error,
            "mean_deflection_square": unit**2 * mean_error,
            "convergence_correlation": _correlation(output["parameters"], lens, x, y),
        }

    def score(self, outputs: Arrays) -> tuple[Scores, list[str]]:
        scores, notes = super().score(outputs)
        if "lens" not in outputs:
            return scores, [*notes, "physics: the network gives no lens to compare"]
        if "true_lens" not in outputs:
            return scores, [
                *notes,
                "physics: without truth/theta_e, lens and shear the lens is not scored, and "
                "deflection and parameters were no part of the loss",
            ]
        if not len(outputs["lens"]):
            return scores, notes
        theta_e = outputs["true_lens"][:, 0].astype(np.float64)
        off = outputs["lens"][:, 0] - theta_e
        relative = off / theta_e
        spread = np.median(np.abs(relative - np.median(relative)))
        error, mean_error = (
            float(np.sqrt(outputs[name].mean(dtype=np.float64)))
            for name in ("deflection_square", "mean_deflection_square")
        )
        return scores | {
            "deflection_error": error,
            "deflection_error_of_mean": mean_error,
            "deflection_gain": mean_error / error if error else None,
            "einstein_radius_error": float(np.median(np.abs(off))),
            "einstein_radius_bias": float(np.median(relative)),
            "einstein_radius_nmad": float(1.4826 * spread),
            "convergence_correlation": float(
                outputs["convergence_correlation"].mean(dtype=np.float64)
            ),
        }, notes

    def draw(self, outputs: Arrays, history: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
        drawn = super().draw(outputs, history)
        if "true_lens" in outputs:
            drawn["einstein_radius"] = figures.agreement(
                outputs["true_lens"][:, 0], outputs["lens"][:, 0], "Einstein radius", "arcsec"
            )
        return drawn


def _supervised(output: Mapping[str, Tensor], lens: Tensor) -> dict[str, Tensor]:
    """Terms that need the true lenses, (B, 7), half frames."""
    x, y = pixel_grid(output["deflection"].shape[-1], lens)
    theta_e = lens[:, :1]
    error = _square_error(output["deflection"], lens, x, y) / theta_e[:, 0].square()
    predicted, true = in_unit(output["parameters"], theta_e), in_unit(lens, theta_e)
    return {
        "deflection": error.mean(),
        "parameters": F.smooth_l1_loss(predicted, true, beta=_HUBER),
    }


def _square_error(deflection: Tensor, lens: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Mean |alpha - alpha_true|^2 within 2 theta_E of each lens, (B,), half frames squared."""
    square = (deflection - macro_deflection(lens, x, y)).square().sum(1)
    inside = _distance(lens, x, y) < _REACH * lens[:, 0, None, None]
    return (square * inside).sum((1, 2)) / inside.sum((1, 2)).clamp_min(1)


def _correlation(predicted: Tensor, lens: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Correlation of kappa of two lenses within 2 theta_E and outside the core, (B,)."""
    distance = _distance(lens, x, y)
    core = 2 * _CORE / x.shape[-1]
    used = (distance > core) & (distance < _REACH * lens[:, 0, None, None])
    fields = []
    for numbers in (predicted, lens):
        field = macro_convergence(numbers, x, y)
        mean = (field * used).sum((1, 2), keepdim=True) / used.sum((1, 2), keepdim=True)
        fields.append((field - mean) * used)
    a, b = (field.flatten(1) for field in fields)
    return F.cosine_similarity(a, b, dim=1)


def _distance(lens: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """From the middle of each lens, (B, H, W), half frames."""
    return torch.hypot(x - lens[:, 3, None, None], y - lens[:, 4, None, None])


def _spread(output: Mapping[str, Tensor]) -> Tensor:
    """Second moment, over theta_E^2, of where the light came from in the source plane, (B,).

    Light is what is brighter than the edges of the frame. The theta_E that it is measured by gets
    no gradient, or a larger lens would do.
    """
    image = output["image"].mean(1)
    edges = [image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]]
    light = F.relu(image - torch.cat(edges, 1).mean(1)[:, None, None])
    light = light / light.sum((1, 2), keepdim=True).clamp_min(1e-6)
    x, y = pixel_grid(image.shape[-1], image)
    alpha = output["deflection"] + output["correction"]
    moment = torch.zeros_like(light[:, 0, 0])
    for beta in (x - alpha[:, 0], y - alpha[:, 1]):
        middle = (light * beta).sum((1, 2), keepdim=True)
        moment = moment + (light * (beta - middle).square()).sum((1, 2))
    return moment / output["parameters"][:, 0].detach().square()
