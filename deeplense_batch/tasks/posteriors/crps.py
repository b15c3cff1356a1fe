"""The continuous ranked probability score of draws, in the unit of what is drawn.

The score of a distribution for a truth y is E|Y - y| - E|Y - Y'| / 2, with Y and Y' drawn from it
on their own: the lower the better, best of the right distribution, and |Y - y| of a single value
(Gneiting and Raftery 2007, JASA 102, 359).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["crps_of_draws"]


def crps_of_draws(draws: Tensor, true: Tensor) -> Tensor:
    """The score, estimated without bias for few draws (Ferro 2014, QJRMS 140, 1917).

    Arguments:
        draws: (B, S, ...) float, S of 2 or more.
        true: (B, ...) float.

    Returns:
        (B, ...): mean |x - y| over the draws x, less half the mean |x - x'| over pairs of them.
    """
    count = draws.shape[1]
    ranks = torch.arange(1, count + 1, device=draws.device, dtype=draws.dtype)
    weights = (2 * ranks - count - 1).view(-1, *[1] * (draws.ndim - 2))
    apart = draws.sort(1).values.mul_(weights).sum(1) / (count * (count - 1))
    return (draws - true[:, None]).abs().mean(1) - apart
