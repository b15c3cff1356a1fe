"""From noise to images: samplers over sigma, the noise in units of the image's.

A noisy image is x = x0 + sigma e here, which is that of `diffusion` over its share of image; so
one set of samplers serves every schedule and prediction. They are written out, since those of
diffusers walk on the table of a schedule, and its Heun does not end at the distribution it should
on a normal one.

Steps that are too long change the variance. Of normal images of variance 1 that a perfect network
restores, samplers keep (`variance_kept`)

    steps       10      25      50      100     250     500     1000
    ddpm        0.40    0.67    0.81    0.90    0.959   0.979   0.990
    ddim        0.58    0.81    0.90    0.951   0.980   0.990   0.995
    dpmpp       1.29    1.044   1.010   1.002   1.000   1.000   1.000
    heun        1.35    1.040   1.009   1.002   1.000   1.000   1.000

The schedule that a network has learnt with changes none of it: all samplers walk on `sigmas`. The
first two are of first order: ``ddpm`` needs 524 steps to lose no more than 2 %, ``ddim`` 248. The
others gain variance in few steps, less than 5 % from 25 on. Fainter patterns lose more, brighter
ones less: of a variance of 0.01 ``ddpm`` keeps 0.86 in 100 steps, of 25 it keeps 0.92.

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

__all__ = ["SAMPLERS", "denoise", "sigmas", "too_few", "variance_kept"]

Restore = Callable[[Tensor, float], Tensor]  # of x (B, C, H, W) and sigma, the image in it

_MOST, _LEAST = 80.0, 0.005
_RHO = 7.0
_KEPT = (0.98, 1.05)  # shares of the variance that need no warning
_INSTEAD = "dpmpp or heun with 50"  # which keep it to 1 %


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


def variance_kept(sampler: str, steps: int) -> float:
    """The share of their variance that a sampler gives to images, were the network perfect.

    Of normal images of variance 1, of which it restores x / (1 + sigma^2): every step is linear in
    x and in the noise that ``ddpm`` adds, so the result is exact.

    Arguments:
        sampler: One of `SAMPLERS`.
        steps: As of `denoise`.
    """
    if sampler != "ddpm":
        one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
        drawn = denoise(
            lambda x, sigma: x / (1 + sigma**2), one, sampler=sampler, steps=steps, generators=()
        )
        return float(drawn) ** 2
    variance = _MOST**2
    for now, then in itertools.pairwise(sigmas(steps)):
        kept = (then / now) ** 2
        slope = kept + (1 - kept) / (1 + now**2)
        variance = slope**2 * variance + then**2 * (1 - kept)
    return variance


def too_few(sampler: str, steps: int) -> str | None:
    """A warning, if in that many steps images lose 2 % of their variance, or gain 5 %."""
    kept = variance_kept(sampler, steps)
    if _KEPT[0] <= kept <= _KEPT[1]:
        return None
    return (
        f"{sampler} with {steps} steps draws images of {kept:.0%} of the variance that they "
        f"should have, however good the network is; take more steps, or {_INSTEAD}"
    )
