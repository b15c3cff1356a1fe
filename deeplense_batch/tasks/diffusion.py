"""The diffusion process: how an image is drowned in noise, and what a network is asked about it.

A noisy image is x = cos(a) x0 + sin(a) e, with images x0 and noise e of variance 1. Its *level*
is the angle a over a right angle: 0 is the image, 1 is noise. Every schedule is a law of levels,
so that one network, one loss and one sampler serve all:

- ``linear`` and ``cosine`` are the 1,000 steps of DDPM, cos(a)^2 being their cumulative product;
- ``edm`` draws ln tan(a) from a normal distribution. There tan(a) is the sigma of EDM, whose
  preconditioned network is the velocity of this one, up to its sign, for data of variance 1.

References:
    Ho et al. 2020, arXiv:2006.11239 (DDPM); Nichol, Dhariwal 2021, arXiv:2102.09672 (cosine);
    Salimans, Ho 2022, arXiv:2202.00512 (velocity, the angle);
    Karras et al. 2022, arXiv:2206.00364 (EDM); Hang et al. 2023, arXiv:2303.09556 (min-SNR).
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

__all__ = ["PREDICTIONS", "SCHEDULES", "STEPS", "Process", "levels_of"]

Schedule = Literal["linear", "cosine", "edm"]
Prediction = Literal["epsilon", "v", "x0"]

SCHEDULES, PREDICTIONS = get_args(Schedule), get_args(Prediction)
STEPS = 1000  # of the schedules of DDPM

_BETAS = {"linear": "linear", "cosine": "squaredcos_cap_v2"}  # as diffusers names them
_EDM_MEAN, _EDM_SD = -1.2 + math.log(2), 1.2  # of ln sigma; EDM's own are for data of sd 1/2


def levels_of(schedule: Schedule) -> Tensor:
    """Levels of the steps of a schedule of DDPM, (1000,) float64, rising."""
    from diffusers import DDPMScheduler

    kept = DDPMScheduler(STEPS, beta_schedule=_BETAS[schedule]).alphas_cumprod.double()
    return torch.arccos(kept.sqrt()) * 2 / math.pi


class Process:
    """Noise of a schedule, and the quantity that a network predicts.

    Arguments:
        schedule: The law of the levels.
        prediction: What the network gives: the noise ``epsilon``, the image ``x0``, or the
            velocity ``v`` = cos(a) e - sin(a) x0.
        min_snr: Clips the weight of an image at this signal-to-noise ratio (5 is usual); None
            weighs all levels alike, by what is predicted.
    """

    def __init__(
        self, schedule: Schedule, prediction: Prediction, min_snr: float | None = None
    ) -> None:
        self.schedule, self.prediction, self.min_snr = schedule, prediction, min_snr
        self._levels = None if schedule == "edm" else levels_of(schedule)

    def draw(self, count: int, device: torch.device) -> Tensor:
        """Draw levels of a training step, (count,) float32, with torch's generator."""
        if self._levels is None:
            sigma = torch.exp(_EDM_MEAN + _EDM_SD * torch.randn(count, device=device))
            return torch.atan(sigma) * 2 / math.pi
        steps = torch.randint(len(self._levels), (count,), device=device)
        return self._levels.to(device, torch.float32)[steps]

    @staticmethod
    def parts(levels: Tensor) -> tuple[Tensor, Tensor]:
        """Shares of image and noise, each (B, 1, 1, 1), at levels (B,)."""
        angle = (levels * math.pi / 2)[:, None, None, None]
        return angle.cos(), angle.sin()

    def noisy(self, images: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """Drown images in noise, both (B, C, H, W), at levels (B,)."""
        signal, rest = self.parts(levels)
        return signal * images + rest * noise

    def target(self, images: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """What the network should give, (B, C, H, W)."""
        if self.prediction == "v":
            signal, rest = self.parts(levels)
            return signal * noise - rest * images
        return noise if self.prediction == "epsilon" else images

    def image(self, output: Tensor, noisy: Tensor, levels: Tensor) -> Tensor:
        """The image that an output implies, (B, C, H, W)."""
        signal, rest = self.parts(levels)
        if self.prediction == "v":
            return signal * noisy - rest * output
        if self.prediction == "epsilon":
            return (noisy - rest * output) / signal.clamp_min(1e-4)
        return output

    def noise(self, image: Tensor, noisy: Tensor, levels: Tensor) -> Tensor:
        """The noise that is left when an image is taken from a noisy one, (B, C, H, W)."""
        signal, rest = self.parts(levels)
        return (noisy - signal * image) / rest.clamp_min(1e-4)

    def weights(self, levels: Tensor) -> Tensor:
        """Weights of the squared error of the prediction, (B,) (Hang et al. 2023, table 1)."""
        if self.min_snr is None:
            return torch.ones_like(levels)
        snr = torch.tan(levels * math.pi / 2).square().reciprocal()
        clipped = snr.clamp_max(self.min_snr)
        return (
            clipped / {"epsilon": snr, "v": snr + 1, "x0": torch.ones_like(snr)}[self.prediction]
        )
