"""Photon noise: an observation drawn from the expected counts of an image.

A count is the inverse of the Poisson distribution at a number of a counter-based generator, so
that it is a function of (seed, epoch, sample, pixel) alone. The smallest counts are found by
summing the distribution. For the others the inverse is expanded about that of the normal one
(Cornish and Fisher 1938, Revue de l'Institut international de statistique 5, 307): with w normal
and m the expected count,

    count = floor(m + w sqrt(m) + (2 + w^2) / 6 - (2 w + w^3) / (72 sqrt(m))
                  + (3 w^4 + 7 w^2 - 16) / (810 m))

Of 10,000 counts 5 at most are not those of the exact inverse, by one; half of the sum of all
differences of the probabilities is below 2e-4. Random numbers have 24 bits, so that none is
rarer than 6e-8.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeplense_batch.data.augment import random_bits

__all__ = ["number_of", "observed", "poisson"]

_FIRST = 1 << 32  # counter of the first pixel, beyond those of all other random changes
_STEPS = 1 << 24  # of the random numbers
_RAREST = 0.5 / _STEPS  # probability of the ends
_BRIGHT = 8.0  # expected counts from which on the expansion is good but for the rarest counts
_SUMMED, _SUMMED_OF_FAINT = 8, 32  # counts below which the distribution is summed


def poisson(expected: Tensor, *, least: float, seed: int, epoch: int, index: Tensor) -> Tensor:
    """Draw Poisson counts.

    Arguments:
        expected: Mean counts, (B, ...) float32, 0 or more.
        least: A number that none of them is below; from 8 on the work is a third less.
        seed: Of the run.
        epoch: Number of the epoch.
        index: Numbers of the samples, (B,) int64; those of one number get the same noise.

    Returns:
        Whole numbers, float32, of the shape of `expected`.
    """
    mean = expected.flatten(1)
    pixels = mean.shape[1]
    bits = random_bits(seed, epoch, index, _FIRST, (pixels + 1) // 2)  # each is of two pixels
    number = torch.cat([bits >> 40, bits >> 16], 1)[:, :pixels].bitwise_and_(_STEPS - 1).float()
    summed = _SUMMED if least >= _BRIGHT else _SUMMED_OF_FAINT
    counts = _smallest(mean, (number + 0.5) / _STEPS, summed)
    others = _expanded(mean.clamp(min=1e-3), _normal(number)).floor_().clamp_(min=summed)
    return torch.where(counts < summed, counts, others).view(expected.shape)


def observed(expected: Tensor, sky: float, *, seed: int, epoch: int, index: Tensor) -> Tensor:
    """Draw an observation of each image, written as simulated images are: from 0 to 1.

    Arguments:
        expected: Mean counts of whole images without the sky, (B, C, H, W) float32.
        sky: Mean counts of the sky in a pixel.
        seed, epoch, index: As of `poisson`.

    Returns:
        (B, C, H, W) float32; the least count of each channel is 0, the largest 1.
    """
    counts = poisson(expected + sky, least=sky, seed=seed, epoch=epoch, index=index)
    counts -= counts.amin((2, 3), keepdim=True)
    return counts.div_(counts.amax((2, 3), keepdim=True).clamp_(min=1))


def number_of(ids: Iterable[str]) -> NDArray[np.int64]:
    """Numbers of samples that depend on their ids alone, (N,) int64."""
    digests = b"".join(hashlib.blake2b(i.encode(), digest_size=8).digest() for i in ids)
    return np.frombuffer(digests, "<i8").astype(np.int64)


def _normal(number: Tensor) -> Tensor:
    """Normal numbers for whole ones from 0 to 2^24 - 1, float32; the ends are 5.4 sd away."""
    # The odd numbers between -2^24 and 2^24, over 2^24: float32 holds each, and none is 1.
    return torch.erfinv((number - _STEPS // 2).mul_(2).add_(1).div_(_STEPS)).mul_(math.sqrt(2))


def _smallest(mean: Tensor, u: Tensor, below: int) -> Tensor:
    """Counts whose distribution reaches u, where they are smaller than `below`; else `below`.

    In float32 a sum of probabilities may stay below the largest u for ever; of faint pixels no
    count is reached that is rarer than the rarest number.
    """
    probability = torch.exp(-mean)
    reached = probability.clone()
    counts = torch.zeros_like(mean)
    is_bright = mean >= _BRIGHT
    for count in range(1, below + 1):
        probability.mul_(mean).div_(count)  # of this count
        counts += (u >= reached) & (is_bright | (probability > _RAREST))
        reached.add_(probability)
    return counts


def _expanded(mean: Tensor, w: Tensor) -> Tensor:
    """What is rounded down to a count: the expansion above, its terms by powers of w."""
    root = mean.sqrt()
    square = w * w
    third = (square + 2).mul_(w).div_(root).div_(-72)
    fourth = (square * 3).add_(7).mul_(square).sub_(16).div_(mean).div_(810)
    return square.add_(2).div_(6).add_(third).add_(fourth).add_(root.mul_(w)).add_(mean)
