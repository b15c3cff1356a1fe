"""A discriminator that tells source from target by the features, and a network that misleads it.

Both learn by one loss, the cross-entropy of the discriminator: to the features its gradient comes
with the other sign, times lambda, which rises from 0 to 1 with the progress p of the training, so
that a discriminator that knows nothing yet does no harm:

    lambda = 2 / (1 + exp(-10 p)) - 1 = tanh(5 p)

References:
    Domain-Adversarial Training of Neural Networks, Ganin et al. 2016, arXiv:1505.07818.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Discriminator", "reversal_at"]

_HIDDEN = 256


def reversal_at(progress: float | Tensor) -> float | Tensor:
    """Lambda, in [0, 1), at a share of the training that is over, in [0, 1)."""
    if isinstance(progress, Tensor):
        return torch.tanh(5 * progress)
    return math.tanh(5 * progress)


class Discriminator(nn.Module):
    """Two layers that tell source from target.

    Arguments:
        features: Numbers of an image.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(features, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, 1))

    def forward(self, source: Tensor, target: Tensor, reversal: float | Tensor) -> Tensor:
        """The cross-entropy of telling them apart, a scalar: log 2 where they cannot be.

        Arguments:
            source: Features, (B, F) float32.
            target: Of other images, (B, F) float32.
            reversal: Lambda, by which the gradient of the features is multiplied, negated.
        """
        both = _Reversed.apply(torch.cat([source, target]), reversal)
        is_source = torch.zeros(len(both), 1, device=both.device)
        is_source[: len(source)] = 1.0
        return functional.binary_cross_entropy_with_logits(self.layers(both), is_source)


class _Reversed(torch.autograd.Function):
    """What is given; its gradient times -lambda."""

    @staticmethod
    def forward(context: Any, features: Tensor, reversal: float | Tensor) -> Tensor:
        context.reversal = reversal
        return features.view_as(features)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -context.reversal * gradients[0], None
