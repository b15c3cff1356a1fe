"""New images like those of a set, by diffusion: noise is taken away step by step (`sample`)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from deeplense_batch.core.scoring import figures
from deeplense_batch.data.pixels.transform import per_channel
from deeplense_batch.tasks.diffusion import Process
from deeplense_batch.tasks.restoring.sampled import Sampled
from deeplense_batch.tasks.similarity import WINDOW, ssim
from deeplense_batch.tasks.task import Arrays, Batch, Frame, Scores, Task, TaskSpec, Unit

__all__ = ["Conditions", "Generation"]

_SCORED_T = (0.25, 0.5, 0.75, 0.9)  # of the noise that is taken from the validation images
_LEAST_ERROR = 1e-12
_QUANTILES = 101
_MEASURED = 512  # images, of which the sd of residuals is taken
_CONDITIONS = ("class", "theta_e", "input")

Conditions = tuple[Tensor | None, ...]  # as the network takes them, after the time


class Generation(Task):
    """Learn to take noise from images, judged by how well the noise of fixed draws is taken.

    Images are normalised to mean 0 and variance 1 by the loader. Conditions are left out at
    random, so that one network knows how to draw with and without them (classifier-free guidance;
    Ho and Salimans 2022, arXiv:2207.12598).

    Of pairs the condition may be the ``input``: the bicubic image, fitted to the pairs, is given
    as further channels (Saharia et al. 2021, arXiv:2104.07636), and images that are drawn are
    samples of what the input may have been of. It is never left out: what is drawn by guidance
    beyond 1 is no such sample. With ``residual`` what is drawn is the image less that bicubic one,
    which is most of what the input says (Li et al. 2021, arXiv:2104.14951), over its sd.

    Arguments:
        classes: Class names.
        frame: The images.
        schedule: ``linear``, ``cosine`` or ``edm``.
        prediction: ``epsilon``, ``v`` or ``x0``.
        min_snr: Clips the weight of a noise level at this signal-to-noise ratio, 5 is usual
            (Hang et al. 2023, arXiv:2303.09556); by default all levels weigh alike.
        ssim: Share of the loss that is 1 - SSIM of the restored image, window 11, sigma 1.5
            (reference 003 has 0.5); the rest is the squared error.
        conditions: What the network is given beside the noisy image: some of ``class``,
            ``theta_e`` and, of pairs, ``input``; or nothing.
        drop: Share of the images whose class and radius are left out.
        residual: Of pairs, draw what is to be added to the fitted bicubic image.
        data_range: Of pairs, for PSNR and SSIM of what is drawn, as of task restoration.
    """

    def __init__(
        self,
        *,
        classes: Sequence[str] | None,
        frame: Frame | None = None,
        schedule: str = "cosine",
        prediction: str = "v",
        min_snr: float | None = None,
        ssim: float = 0.0,
        conditions: Sequence[str] = (),
        drop: float = 0.1,
        residual: bool = False,
        data_range: float | None = None,
    ) -> None:
        self.process = Process(schedule, prediction, min_snr)
        for name in conditions:
            if name not in _CONDITIONS:
                raise ValueError(f"conditions: got {name!r}; allowed: {', '.join(_CONDITIONS)}")
        if not 0 <= ssim <= 1 or not 0 <= drop < 1:
            raise ValueError(f"ssim and drop: should be in [0, 1], got {ssim!r} and {drop!r}")
        if frame is not None and ssim and frame.size < WINDOW:
            raise ValueError(f"ssim: needs {WINDOW} pixels or more, the images have {frame.size}")
        by_class, by_radius = "class" in conditions, "theta_e" in conditions
        by_input = "input" in conditions
        for name, value in (("data_range", data_range), ("residual", residual or None)):
            if value is not None and not by_input:
                raise ValueError(f"{name}: is for conditions that have input")
        spec = TaskSpec(
            monitor="snr_db",
            num_outputs=len(classes or ()) if by_class else 0,  # classes that can be asked for
            primary_output="errors",
            predicts=False,
            truth_keys=("theta_e",) if by_radius else (),
            needs_truth=by_radius,
            lengths=("theta_e",) if by_radius else (),
            needs_labels=by_class,
            needs_inputs=by_input,
            replayable=True,
        )
        super().__init__(spec, classes)
        self.conditions = tuple(name for name in _CONDITIONS if name in conditions)
        self.ssim, self.drop = ssim, drop
        self.residual = bool(residual)
        #: Of what the fitted bicubic images lack, in each channel, of normalised values.
        self.residual_sd = (1.0,) * (1 if frame is None else frame.channels)
        #: How samples of what the inputs may have been of are scored; None without inputs.
        self.restoration: Sampled | None = None
        if by_input:
            self.restoration = Sampled(classes=classes, frame=frame, data_range=data_range)
        #: Quantiles of the Einstein radii of the training slice, arcsec, for new images to have.
        self.radii: list[float] = []

    def fit_statistics(self, targets: NDArray[np.int64], truth: Arrays) -> None:
        if "theta_e" not in self.conditions:
            return
        known = truth["theta_e"][np.isfinite(truth["theta_e"])]
        if not len(known) or known.min() <= 0:
            raise ValueError("conditions: theta_e is unknown, or not above 0, in the images")
        self.radii = np.quantile(known, np.linspace(0, 1, _QUANTILES)).tolist()

    def fit_images(self, batches: Iterable[Batch], unit: Unit) -> None:
        if self.restoration is None:
            return
        some: list[Batch] = []
        self.restoration.fit_images(_kept(batches, some), unit)
        if self.residual:
            left = [batch.images - self.restoration.interpolated(batch) for batch in some]
            sd = torch.cat(left).double().std((0, 2, 3))
            if float(sd.min()) <= 0:
                raise ValueError("residual: the fitted bicubic images are the images already")
            self.residual_sd = tuple(sd.tolist())

    def state_dict(self) -> dict[str, Any]:
        fitted = {}
        if self.restoration is not None:
            own = self.restoration.state_dict()
            fitted = {"restoration": own, "residual_sd": list(self.residual_sd)}
        return {"radii": self.radii} | fitted

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.radii = state["radii"]
        if self.restoration is not None:
            self.restoration.load_state_dict(state["restoration"])
            self.residual_sd = tuple(state["residual_sd"])

    def losses(
        self, model: nn.Module, batch: Batch, progress: float | Tensor
    ) -> dict[str, Tensor]:
        images, count = self._learnt(batch), len(batch.images)
        t = self.process.draw(count, images.device)
        noise = torch.randn_like(images)
        dropped = torch.rand(count, device=images.device) < self.drop
        noisy = self.process.add_noise(images, noise, t)
        conditions = self.conditions_of(batch, dropped)
        output = model(noisy, t, *conditions).float()
        error = (output - self.process.target(images, noise, t)).square().mean((1, 2, 3))
        squared = (self.process.weights(t) * error).mean()
        if not self.ssim:
            return {"loss": squared}
        with torch.autocast(images.device.type, enabled=False):  # fp16 has no room for its squares
            image = self.image_of(self.process.image(output, noisy, t), conditions)
            unlike = 1 - ssim(image, batch.images)
        loss = (1 - self.ssim) * squared + self.ssim * unlike
        return {"loss": loss, "squared": squared, "unlike": unlike}

    def predict(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Mean squared error of each restored image, (B, len(_SCORED_T)), by noise of its own."""
        noise, images = _noise(batch.index, batch.images), self._learnt(batch)
        conditions, errors = self.conditions_of(batch), []
        for scored_t in _SCORED_T:
            t = noise.new_full((len(noise),), scored_t)
            noisy = self.process.add_noise(images, noise, t)
            restored = self.process.image(model(noisy, t, *conditions).float(), noisy, t)
            errors.append((restored - images).square().mean((1, 2, 3)))
        return {"errors": torch.stack(errors, 1)}

    def score(self, outputs: Arrays) -> tuple[Scores, list[str]]:
        errors = np.asarray(outputs["errors"], np.float64).mean(0)
        decibels = [_decibel(error) for error in errors]
        scores: Scores = {"loss": float(errors.mean()), "snr_db": float(np.mean(decibels))}
        for t, decibel in zip(_SCORED_T, decibels, strict=True):
            scores[f"snr_db_{t:g}"] = decibel
        return scores, []

    def draw(self, outputs: Arrays, history: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
        scores = {"snr_db": ("SNR of restored images (dB)", "SNR")}
        return {"history": figures.history(history, scores, loss="training loss", alike=False)}

    def conditions_of(self, batch: Batch, dropped: Tensor | None = None) -> Conditions:
        """Class numbers, logarithms of radii and, if it takes them, inputs in as many pixels.

        Arguments:
            batch: The samples.
            dropped: Of which of them class and radius are left out, (B,) bool; None: of none.

        Returns:
            (B,) or (B, C, H, W), as the network takes them; None where one is not given.
        """
        if dropped is None:
            dropped = torch.zeros_like(batch.targets, dtype=torch.bool)
        labels = torch.where(dropped, -1, batch.targets) if "class" in self.conditions else None
        radii = None
        if "theta_e" in self.conditions:
            radii = torch.where(dropped, torch.nan, batch.truth["theta_e"].log())
        if self.restoration is None:
            return labels, radii
        return labels, radii, self.restoration.interpolated(batch)

    def _learnt(self, batch: Batch) -> Tensor:
        """What is learnt to be drawn, (B, C, H, W): the images, or what bicubic ones lack."""
        if not self.residual:
            return batch.images
        assert self.restoration is not None
        sd = per_channel(self.residual_sd, batch.images.device)
        return (batch.images - self.restoration.interpolated(batch)) / sd

    def image_of(self, drawn: Tensor, conditions: Conditions) -> Tensor:
        """Images, (B, C, H, W), normalised, of what was drawn under conditions."""
        if not self.residual:
            return drawn
        (bicubic,) = conditions[2:]
        assert bicubic is not None
        return drawn * per_channel(self.residual_sd, drawn.device) + bicubic

    def restored(
        self, model: nn.Module, x: Tensor, sigma: float, conditions: Conditions = ()
    ) -> Tensor:
        """The mean of what noisy images, x0 + sigma e, may come from; see `image_of`.

        Arguments:
            model: The network.
            x: (B, C, H, W).
            sigma: Of the noise, in units of the images' sd.
            conditions: As of `conditions_of`; none for what is drawn without.
        """
        t = x.new_full((len(x),), math.atan(sigma) * 2 / math.pi)
        noisy = x / math.hypot(1, sigma)
        return self.process.image(model(noisy, t, *conditions).float(), noisy, t)


def _kept(batches: Iterable[Batch], some: list[Batch]) -> Iterator[Batch]:
    """The same batches, of which the first are kept, of `_MEASURED` images or a few more."""
    count = 0
    for batch in batches:
        if count < _MEASURED:
            some.append(batch)
            count += len(batch.images)
        yield batch


def _noise(index: Tensor, images: Tensor) -> Tensor:
    """Noise of samples, (B, C, H, W), the same in every epoch, batch, process and device."""
    noise = torch.empty(images.shape)
    for values, sample in zip(noise, index.tolist(), strict=True):
        torch.randn(values.shape, generator=torch.Generator().manual_seed(sample), out=values)
    return noise.to(images)


def _decibel(error: float) -> float:
    """Signal to noise of images of variance 1 with this mean squared error, dB."""
    return -10 * float(np.log10(max(error, _LEAST_ERROR)))
