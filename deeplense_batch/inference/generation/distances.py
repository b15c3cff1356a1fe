"""How near one set of images is to another in the features of a network: arrays in, numbers out.

A distance of features has no unit and falls with the number of samples: it is read beside that of
two real sets of the same size. One process has all samples; it never waits for another.

References:
    Heusel et al. 2017, arXiv:1706.08500 (FID); Binkowski et al. 2018, arXiv:1801.01401 (KID);
    Kynkäänniemi et al. 2019, arXiv:1904.06991 (precision and recall).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances_argmin_min, pairwise_distances_chunked
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

__all__ = ["copied", "fid", "kid", "nearest", "precision_recall", "spread"]

Floats = NDArray[np.float64]

_SUBSETS, _SUBSET = 100, 1000  # of KID
_NEIGHBOURS = 3
_NEAR = 0.01  # share of the held-out images that are nearer to the training set than this


class _Given(nn.Module):
    """In place of a network: the features are given as they are."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def fid(features: Floats, others: Floats) -> float:
    """Fréchet distance of two normal distributions fitted to features (N, D) and (M, D).

    The root of the product of the covariances is taken by its eigenvalues, in the space that the
    samples span, so that N may be less than D, where the covariances are singular.
    """
    both = np.concatenate([features, others]).astype(np.float64)
    if len(both) < both.shape[1]:
        both = both @ np.linalg.qr(both.T)[0]
    metric = FrechetInceptionDistance(feature=_Given(both.shape[1]), sync_on_compute=False)
    parts = both[: len(features)], both[len(features) :]
    return max(float(_updated(metric, *parts).compute()), 0.0)  # the least are rounding


def kid(features: Floats, others: Floats) -> tuple[float, float]:
    """Squared maximum mean discrepancy, cubic kernel: mean over 100 random subsets, and their sd.

    A subset has 1,000 samples, or half of the smaller set where that is less. Unbiased, so it may
    be below 0.

    Arguments:
        features, others: (N, D) and (M, D), N and M 4 or more.
    """
    size = min(_SUBSET, min(len(features), len(others)) // 2)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=()):
        warnings.filterwarnings("ignore", message=".*will save all extracted features")
        metric = KernelInceptionDistance(
            feature=_Given(features.shape[1]), subsets=_SUBSETS, subset_size=size,
            sync_on_compute=False,
        )  # fmt: skip
        torch.manual_seed(0)  # of the subsets
        mean, sd = _updated(metric, features, others).compute()
    return float(mean), float(sd)


def _updated(metric: Metric, features: Floats, others: Floats) -> Metric:
    for values, real in ((others, True), (features, False)):
        metric.update(torch.from_numpy(np.asarray(values, np.float64)), real=real)
    return metric


def precision_recall(features: Floats, others: Floats) -> tuple[float, float]:
    """Shares of `features`, (N, D), among `others`, (M, D), and of `others` among `features`.

    A sample is among a set if it is nearer to one of its members than the third neighbour of that
    member within the set. A mode that is never drawn lowers the second, the recall.
    """
    return _covered(features, others), _covered(others, features)


def _covered(features: Floats, by: Floats) -> float:
    search = NearestNeighbors(n_neighbors=_NEIGHBOURS, algorithm="brute").fit(by)
    reach = search.kneighbors()[0][:, -1]  # of each member, itself left out

    def inside(distances: Floats, start: int) -> NDArray[np.bool_]:
        return (distances <= reach).any(1)

    parts = pairwise_distances_chunked(features, by, reduce_func=inside)
    return float(np.concatenate(list(parts)).mean())


def spread(features: Floats) -> float:
    """Mean distance between two of some samples, (N, D)."""
    total = sum(float(part.sum()) for part in pairwise_distances_chunked(features))
    return total / (len(features) * (len(features) - 1))


def nearest(
    queries: NDArray[np.floating], pool: Iterable[NDArray[np.floating]]
) -> tuple[Floats, NDArray[np.int64]]:
    """Find the nearest of a pool for each query.

    Arguments:
        queries: (N, D).
        pool: Blocks (M, D), one at a time.

    Returns:
        Distances, (N,), and indices into the whole pool, (N,).
    """
    least = np.full(len(queries), np.inf)
    indices = np.zeros(len(queries), np.int64)
    first = 0
    for block in pool:
        near, distances = pairwise_distances_argmin_min(queries, block)
        better = distances < least
        least[better], indices[better] = distances[better], near[better] + first
        first += len(block)
    return least, indices


def copied(distances: Floats, held_out: Floats) -> dict[str, float]:
    """Whether images are copies of the training set, by their distances to it.

    Arguments:
        distances: Of each image to its nearest training image, (N,).
        held_out: Those of held-out images, which cannot be copies, (M,).

    Returns:
        ``generated`` and ``real``: shares of the images, and of the held-out ones, that are nearer
        than the nearest 1% of the held-out ones; and ``ratio`` of the medians, 1 for new images.
    """
    limit = np.quantile(held_out, _NEAR)
    return {
        "generated": float((distances < limit).mean()),
        "real": float((held_out < limit).mean()),
        "ratio": float(np.median(distances) / np.median(held_out)),
    }
