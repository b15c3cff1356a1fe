"""The diffusion process: how an image is drowned in noise, and what a network is asked about it.

A noisy image is x_t = alpha x_0 + sigma e, with images x_0 and noise e of variance 1, and
alpha = cos(t pi / 2), sigma = sin(t pi / 2): at time t = 0 it is the image, at t = 1 noise. Every
schedule is a distribution of t, so that one network, one loss and one sampler serve all:

- ``linear`` and ``cosine`` are the 1,000 steps of DDPM, alpha^2 being their cumulative product;
- ``edm`` draws ln tan(t pi / 2) from a normal distribution. There sigma / alpha is the sigma of
  EDM, whose preconditioned network is the velocity of this one, up to its sign, for data of
  variance 1.

References:
    Ho et al. 2020, arXiv:2006.11239 (DDPM); Nichol, Dhariwal 2021, arXiv:2102.09672 (cosine);
    Salimans, Ho 2022, arXiv:2202.00512 (velocity, the angle);
    Karras et al. 2022, arXiv:2206.00364 (EDM); Hang et al. 2023, arXiv:2303.09556 (min-SNR).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["PREDICTIONS", "SCHEDULES", "STEPS", "Process", "timesteps"]

SCHEDULES = ("linear", "cosine", "edm")
PREDICTIONS = ("epsilon", "v", "x0")
STEPS = 1000  # of the schedules of DDPM

_BETAS = {"linear": "linear", "cosine": "squaredcos_cap_v2"}  # as diffusers names them
_EDM_MEAN, _EDM_SD = -1.2 + math.log(2), 1.2  # of ln sigma; EDM's own are for data of sd 1/2


def timesteps(schedule: str) -> Tensor:
    """t of the steps of a schedule of DDPM, (1000,) float64, rising."""
    from diffusers import DDPMScheduler

    kept = DDPMScheduler(STEPS, beta_schedule=_BETAS[schedule]).alphas_cumprod.double()
    return torch.arccos(kept.sqrt()) * 2 / math.pi


class Process:
    """Noise of a schedule, and the quantity that a network predicts.

    Arguments:
        schedule: The distribution of t, one of `SCHEDULES`.
        prediction: What the network gives: the noise ``epsilon``, the image ``x0``, or the
            velocity ``v`` = alpha e - sigma x_0.
        min_snr: Clips the weight of an image at this signal-to-noise ratio (5 is usual); None
            weighs all t alike, by what is predicted.

    Raises:
        ValueError: An argument is not one of those possible.
    """

    def __init__(self, schedule: str, prediction: str, min_snr: float | None = None) -> None:
        for name, value, allowed in (
            ("schedule", schedule, SCHEDULES),
            ("prediction", prediction, PREDICTIONS),
        ):
            if value not in allowed:
                raise ValueError(f"{name}: got {value!r}; allowed: {', '.join(allowed)}")
        if min_snr is not None and min_snr <= 0:
            raise ValueError(f"min_snr: should be above 0, got {min_snr!r}")
        self.schedule, self.prediction, self.min_snr = schedule, prediction, min_snr
        self._timesteps = None if schedule == "edm" else timesteps(schedule)
        self._kept: dict[torch.device, Tensor] = {}

    def draw(self, count: int, device: torch.device) -> Tensor:
        """Draw t of a training step, (count,) float32, with torch's generator."""
        if self._timesteps is None:
            sigma = torch.exp(_EDM_MEAN + _EDM_SD * torch.randn(count, device=device))
            return torch.atan(sigma) * 2 / math.pi
        steps = torch.randint(len(self._timesteps), (count,), device=device)
        return self._on(device)[steps]

    def _on(self, device: torch.device) -> Tensor:
        """The steps of the schedule, kept there: to send them makes the host wait."""
        if device not in self._kept:
            assert self._timesteps is not None
            self._kept[device] = self._timesteps.to(device, torch.float32)
        return self._kept[device]

    @staticmethod
    def alpha_sigma(t: Tensor) -> tuple[Tensor, Tensor]:
        """Shares of image and noise, each (B, 1, 1, 1), at t (B,)."""
        angle = (t * math.pi / 2)[:, None, None, None]
        return angle.cos(), angle.sin()

    def add_noise(self, images: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Drown images in noise, both (B, C, H, W), at t (B,)."""
        alpha, sigma = self.alpha_sigma(t)
        return alpha * images + sigma * noise

    def target(self, images: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What the network should give, (B, C, H, W)."""
        if self.prediction == "v":
            alpha, sigma = self.alpha_sigma(t)
            return alpha * noise - sigma * images
        return noise if self.prediction == "epsilon" else images

    def image(self, output: Tensor, noisy: Tensor, t: Tensor) -> Tensor:
        """The image that an output implies, (B, C, H, W)."""
        alpha, sigma = self.alpha_sigma(t)
        if self.prediction == "v":
            return alpha * noisy - sigma * output
        if self.prediction == "epsilon":
            return (noisy - sigma * output) / alpha.clamp_min(1e-4)
        return output

    def weights(self, t: Tensor) -> Tensor:
        """Weights of the squared error of the prediction, (B,) (Hang et al. 2023, table 1)."""
        if self.min_snr is None:
            return torch.ones_like(t)
        snr = torch.tan(t * math.pi / 2).square().reciprocal()
        clipped = snr.clamp_max(self.min_snr)
        return (
            clipped / {"epsilon": snr, "v": snr + 1, "x0": torch.ones_like(snr)}[self.prediction]
        )
