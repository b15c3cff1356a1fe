"""A Gaussian posterior with all its correlations: mean mu and covariance L L^T of each image.

The network gives mu and the lower triangle L, whose diagonal is made positive by softplus. It
learns them by the density alone (Nix and Weigend 1994; Dorta et al. 2018, arXiv:1802.07079):

    -log p(y) = |L^-1 (y - mu)|^2 / 2 + sum_d log L_dd + D log(2 pi) / 2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from deeplense_batch.tasks.posteriors.posterior import Posterior, Said

__all__ = ["Gaussian"]

_LEAST = 1e-4  # of a diagonal, in sd of the training slice: a density has a peak of finite height
_START = math.log(math.e - 1)  # softplus of it is 1: what knows nothing yet has the sd of all


class Gaussian(Posterior):
    """A multivariate normal distribution."""

    replayable = True

    @property
    def num_outputs(self) -> int:
        return self.size + self.size * (self.size + 1) // 2

    def log_prob(self, model: nn.Module, images: Tensor, true: Tensor) -> Tensor:
        return _log_density(*self.parameters(model(images)), true)

    def say(
        self, model: nn.Module, images: Tensor, noise: Tensor, true: Tensor | None = None
    ) -> Said:
        mean, factor = self.parameters(model(images))
        with torch.autocast(images.device.type, enabled=False):  # a product of half precision
            draws = mean[:, None] + noise @ factor.mT
        log_prob = None if true is None else _log_density(mean, factor, true)
        return Said(draws, log_prob, mean, factor.square().sum(2).sqrt())

    def parameters(self, answer: Tensor) -> tuple[Tensor, Tensor]:
        """Mean, (B, D), and lower triangle, (B, D, D), of a network's answer, (B, num_outputs).

        The answer holds the mean, then the triangle by rows.
        """
        mean, entries = answer.float().split([self.size, self.num_outputs - self.size], 1)
        rows, columns = torch.tril_indices(self.size, self.size, device=answer.device)
        diagonal = functional.softplus(entries + _START) + _LEAST
        factor = mean.new_zeros(len(mean), self.size, self.size)
        factor[:, rows, columns] = torch.where(rows == columns, diagonal, entries)
        return mean, factor


def _log_density(mean: Tensor, factor: Tensor, true: Tensor) -> Tensor:
    away = (true - mean)[..., None]
    white = torch.linalg.solve_triangular(factor, away, upper=False)[..., 0]
    logs = factor.diagonal(dim1=1, dim2=2).log().sum(1)
    return -0.5 * white.square().sum(1) - logs - 0.5 * mean.shape[1] * math.log(2 * math.pi)
