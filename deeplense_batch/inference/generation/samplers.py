"""From noise to images: samplers over sigma, the noise in units of the image's.

A noisy image is x = x0 + sigma e here, which is that of `diffusion` over its share of image; so
one set of samplers serves every schedule and prediction. They are written out, since those of
diffusers walk on the table of a schedule, and its Heun does not end at the distribution it should
on a normal one.

References:
    Ho et al. 2020, arXiv:2006.11239 (``ddpm``); Song et al. 2021, arXiv:2010.02502 (``ddim``);
    Lu et al. 2022, arXiv:2211.01095 (``dpmpp``, DPM-Solver++ 2M);
    Karras et al. 2022, arXiv:2206.00364 (``heun``, and where the sigmas lie).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["SAMPLERS", "denoise", "sigmas"]

Restore = Callable[[Tensor, float], Tensor]  # of x (B, C, H, W) and sigma, the image in it

_MOST, _LEAST = 80.0, 0.005
_RHO = 7.0


def sigmas(steps: int) -> list[float]:
    """Sigmas of some steps, falling, and 0 (Karras et al. 2022, equation 5)."""
    roots = torch.linspace(_MOST ** (1 / _RHO), _LEAST ** (1 / _RHO), steps, dtype=torch.float64)
    return [*(roots**_RHO).tolist(), 0.0]


def denoise(
    restore: Restore,
    noise: Tensor,
    *,
    sampler: str,
    steps: int,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Take noise away, step by step.

    Arguments:
        restore: Gives the mean of the images that a noisy one may come from.
        noise: Of variance 1, (B, C, H, W).
        sampler: One of `SAMPLERS`.
        steps: Of the sampler; ``heun`` asks `restore` twice in each but the last.
        generators: Of each image, for the noise that ``ddpm`` adds.

    Returns:
        Images, (B, C, H, W).
    """
    return SAMPLERS[sampler](restore, noise * _MOST, sigmas(steps), generators)


def _ddpm(
    restore: Restore, x: Tensor, steps: Sequence[float], generators: Sequence[torch.Generator]
) -> Tensor:
    """Draw every step from its posterior, given the image restored so far."""
    for now, then in itertools.pairwise(steps):
        kept = (then / now) ** 2
        x = torch.lerp(restore(x, now), x, kept)
        if then:
            # Drawn on the host, for the same images on every device, while the network is at work.
            fresh = torch.stack([torch.randn(x.shape[1:], generator=g) for g in generators])
            if x.is_cuda:
                fresh = fresh.pin_memory()
            x = x + then * math.sqrt(1 - kept) * fresh.to(x, non_blocking=True)
    return x


def _ddim(
    restore: Restore, x: Tensor, steps: Sequence[float], generators: Sequence[torch.Generator]
) -> Tensor:
    """Keep the noise, and less of it: Euler's method."""
    for now, then in itertools.pairwise(steps):
        x = torch.lerp(restore(x, now), x, then / now)
    return x


def _dpmpp(
    restore: Restore, x: Tensor, steps: Sequence[float], generators: Sequence[torch.Generator]
) -> Tensor:
    """The same with the restored image led on from the step before; linear in ln sigma."""
    before: tuple[Tensor, float] | None = None
    for now, then in itertools.pairwise(steps):
        image = led = restore(x, now)
        if before is not None and then:
            old, earlier = before
            reach = math.log(now / then) / math.log(earlier / now) / 2
            led = image + reach * (image - old)
        x, before = torch.lerp(led, x, then / now), (image, now)
    return x


def _heun(
    restore: Restore, x: Tensor, steps: Sequence[float], generators: Sequence[torch.Generator]
) -> Tensor:
    """Take the mean of the slopes at both ends of a step."""
    for now, then in itertools.pairwise(steps):
        slope = (x - restore(x, now)) / now
        reached = x + (then - now) * slope
        if then:
            slope = (slope + (reached - restore(reached, then)) / then) / 2
            reached = x + (then - now) * slope
        x = reached
    return x


SAMPLERS = {"ddpm": _ddpm, "ddim": _ddim, "dpmpp": _dpmpp, "heun": _heun}
