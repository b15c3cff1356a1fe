"""How far the features of two sets of images are from each other: a scalar, 0 where alike.

Of source features x_i and target features y_i of d numbers, n of each:

    coral   |C_x - C_y|_F^2 / (4 d^2), C being the covariances        (Sun and Saenko 2016)
    mmd     mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{ij} k(x_i, y_j)
            k(a, b) = mean_u exp(-|a - b|^2 / (u s)), u = 1/4, 1/2, 1, 2, 4  (Long et al. 2015)

mmd is the unbiased estimate of all pairs (Gretton et al. 2012, JMLR 13, eq. 3), which may be below
0. Long et al. weigh the kernels and take s from the median; here they weigh the same, and s is the
mean of the squared distances of all pairs of both sets, through which no gradient goes.

References:
    Deep CORAL: Correlation Alignment for Deep Domain Adaptation, Sun and Saenko 2016,
    arXiv:1607.01719. Learning Transferable Features with Deep Adaptation Networks, Long et al.
    2015, arXiv:1502.02791.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["coral", "mmd"]

_WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
_LEAST = 1e-12  # of s: features that are all one


def coral(source: Tensor, target: Tensor) -> Tensor:
    """The distance of two covariances, a scalar; 0 of one image each.

    Arguments:
        source: Features, (B, F) float32.
        target: Of other images, (B, F) float32.
    """
    difference = _covariance(source) - _covariance(target)
    return difference.square().sum() / (4 * source.shape[1] ** 2)


def mmd(source: Tensor, target: Tensor) -> Tensor:
    """The squared maximum mean discrepancy of two sets, a scalar.

    Arguments:
        source: Features, (B, F) float32.
        target: Of other images, (B, F) float32.
    """
    count, both = len(source), torch.cat([source, target])
    both = both - both.detach().mean(0)  # which no distance sees; squares are rounded less
    norms = both.square().sum(1)
    squares = (norms[:, None] + norms - 2 * both @ both.T).clamp_min(0)
    # No pair is of an image and itself: their distance is 0 but for rounding.
    squares = squares.masked_fill(torch.eye(2 * count, dtype=torch.bool, device=both.device), 0.0)
    mean = squares.detach().sum() / (2 * count * (2 * count - 1))
    scaled = squares / mean.clamp_min(_LEAST)
    kernel = torch.stack([torch.exp(-scaled / width) for width in _WIDTHS]).mean(0)
    pairs = max(count * (count - 1), 1)
    within = kernel[:count, :count].sum() + kernel[count:, count:].sum() - 2 * count
    return within / pairs - 2 * kernel[:count, count:].mean()


def _covariance(features: Tensor) -> Tensor:
    """Covariances of features, (F, F)."""
    centred = features - features.mean(0)
    return centred.T @ centred / max(len(features) - 1, 1)
