"""New images like those of a set, by diffusion: noise is taken away step by step (`sample`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure

from deeplense_batch.core.scoring import figures
from deeplense_batch.tasks.diffusion import PREDICTIONS, SCHEDULES, Process
from deeplense_batch.tasks.task import Arrays, Batch, Frame, Scores, Task

__all__ = ["Generation"]

_WINDOW, _SIGMA = 11, 1.5  # of the structural similarity, pixels (Wang et al. 2004)
_JUDGED = (0.25, 0.5, 0.75, 0.9)  # levels of noise at which the validation images are restored
_LEAST_ERROR = 1e-12
_QUANTILES = 101
_CONDITIONS = ("class", "theta_e")


class Generation(Task):
    """Learn to take noise from images, judged by how well the noise of fixed draws is taken.

    Images are normalised to mean 0 and variance 1 by the loader. Conditions are left out at
    random, so that one network knows how to draw with and without them (classifier-free guidance;
    Ho and Salimans 2022, arXiv:2207.12598).

    Arguments:
        classes: Class names.
        frame: The images.
        schedule: ``linear``, ``cosine`` or ``edm``.
        prediction: ``epsilon``, ``v`` or ``x0``.
        min_snr: Weighting of the levels (`diffusion.Process`).
        ssim: Share of the loss that is 1 - SSIM of the restored image, window 11, sigma 1.5
            (seed 003 has 0.5); the rest is the squared error.
        conditions: What the network is told: ``class``, ``theta_e``, both or nothing.
        drop: Share of the images whose conditions are left out.
    """

    monitor: ClassVar[str] = "snr_db"
    answer: ClassVar[str] = "errors"

    def __init__(
        self,
        *,
        classes: Sequence[str],
        frame: Frame | None = None,
        schedule: str = "cosine",
        prediction: str = "v",
        min_snr: float | None = None,
        ssim: float = 0.0,
        conditions: Sequence[str] = (),
        drop: float = 0.1,
    ) -> None:
        super().__init__(classes=classes, frame=frame)
        for name, value, allowed in (
            ("schedule", schedule, SCHEDULES),
            ("prediction", prediction, PREDICTIONS),
            *(("conditions", value, _CONDITIONS) for value in conditions),
        ):
            if value not in allowed:
                raise ValueError(f"{name}: got {value!r}; allowed: {', '.join(allowed)}")
        if not 0 <= ssim <= 1 or not 0 <= drop < 1:
            raise ValueError(f"ssim and drop: should be in [0, 1], got {ssim!r} and {drop!r}")
        if frame is not None and ssim and frame.size < _WINDOW:
            raise ValueError(f"ssim: needs {_WINDOW} pixels or more, the images have {frame.size}")
        if min_snr is not None and min_snr <= 0:
            raise ValueError(f"min_snr: should be above 0, got {min_snr!r}")
        self.process = Process(schedule, prediction, min_snr)  # type: ignore[arg-type]
        self.ssim, self.drop = ssim, drop
        #: Quantiles of the Einstein radii of the training slice, arcsec, for new images to have.
        self.radii: list[float] = []
        self.told = tuple(name for name in _CONDITIONS if name in conditions)

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        """The Einstein radius, where the network is told it."""
        return ("theta_e",) if "theta_e" in self.told else ()

    @property
    def needs_truth(self) -> bool:  # type: ignore[override]
        """Whether it has to be there."""
        return bool(self.reads)

    @property
    def needs_labels(self) -> bool:  # type: ignore[override]
        """Whether the network is told classes."""
        return "class" in self.told

    @property
    def outputs(self) -> int:
        """Classes that the network is told."""
        return len(self.classes) if "class" in self.told else 0

    def study(self, targets: NDArray[np.int64], truth: Arrays) -> None:
        if "theta_e" not in self.told:
            return
        known = truth["theta_e"][np.isfinite(truth["theta_e"])]
        if not len(known) or known.min() <= 0:
            raise ValueError("conditions: theta_e is unknown, or not above 0, in the images")
        self.radii = np.quantile(known, np.linspace(0, 1, _QUANTILES)).tolist()

    def state_dict(self) -> dict[str, Any]:
        return {"radii": self.radii}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.radii = state["radii"]

    def losses(self, model: nn.Module, batch: Batch, progress: float) -> dict[str, Tensor]:
        images, count = batch.images, len(batch.images)
        levels = self.process.draw(count, images.device)
        noise = torch.randn_like(images)
        dropped = torch.rand(count, device=images.device) < self.drop
        noisy = self.process.noisy(images, noise, levels)
        output = model(noisy, levels, *self._conditions(batch, dropped)).float()
        error = (output - self.process.target(images, noise, levels)).square().mean((1, 2, 3))
        squared = (self.process.weights(levels) * error).mean()
        if not self.ssim:
            return {"loss": squared}
        restored = self.process.image(output, noisy, levels)
        unlike = 1 - similarity(restored, images)
        loss = (1 - self.ssim) * squared + self.ssim * unlike
        return {"loss": loss, "squared": squared, "unlike": unlike}

    def predict(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Mean squared error of each restored image, (B, levels), by noise of its own."""
        noise = torch.stack([_noise(int(i), batch.images[0]) for i in batch.index])
        whole = torch.zeros(len(noise), dtype=torch.bool, device=noise.device)
        told, errors = self._conditions(batch, whole), []
        for level in _JUDGED:
            levels = noise.new_full((len(noise),), level)
            noisy = self.process.noisy(batch.images, noise, levels)
            restored = self.process.image(model(noisy, levels, *told).float(), noisy, levels)
            errors.append((restored - batch.images).square().mean((1, 2, 3)))
        return {"errors": torch.stack(errors, 1)}

    def score(self, outputs: Arrays) -> tuple[Scores, list[str]]:
        errors = np.asarray(outputs["errors"], np.float64).mean(0)
        found = [_decibel(error) for error in errors]
        scores: Scores = {"loss": float(errors.mean()), "snr_db": float(np.mean(found))}
        for level, decibel in zip(_JUDGED, found, strict=True):
            scores[f"snr_db_{level:g}"] = decibel
        return scores, []

    def draw(self, outputs: Arrays, history: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
        return {"history": figures.history(history)}

    def _conditions(self, batch: Batch, dropped: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Class numbers and logarithms of radii, as the network takes them; None if not told."""
        labels = torch.where(dropped, -1, batch.targets) if "class" in self.told else None
        if "theta_e" not in self.told:
            return labels, None
        radii = batch.truth["theta_e"].log()
        return labels, torch.where(dropped, torch.nan, radii)


def similarity(images: Tensor, others: Tensor) -> Tensor:
    """Mean structural similarity (Wang et al. 2004, IEEE TIP 13, 600) of images, a scalar.

    Arguments:
        images: (B, C, H, W).
        others: (B, C, H, W); their range is that of the values.
    """
    span = float(others.max() - others.min())
    value = structural_similarity_index_measure(
        images, others, kernel_size=_WINDOW, sigma=_SIGMA, data_range=max(span, 1e-6)
    )
    assert isinstance(value, Tensor)
    return value


def _noise(index: int, like: Tensor) -> Tensor:
    """Noise of a sample, (C, H, W), the same in every epoch, batch and process."""
    generator = torch.Generator().manual_seed(index)
    return torch.randn(like.shape, generator=generator).to(like)


def _decibel(error: float) -> float:
    """Signal to noise of images of variance 1 with this mean squared error, dB."""
    return -10 * float(np.log10(max(error, _LEAST_ERROR)))
