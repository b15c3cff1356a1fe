"""The posterior of an image's numbers, p(y | image): drawn from, and what is kept of each image.

Scores need no more than these few numbers of an image, whatever the distribution (`summary`):

``predicted``, ``sd``, ``quantiles``
    of each number y_d alone (its marginal);
``log_prob``
    log p(y | image) of the true y, the density over all numbers together;
``crps``
    the continuous ranked probability score of each marginal, from draws where it is not known
    exactly (`tasks.posteriors.crps`);
``rank``
    the probability below the true y_d, uniform in [0, 1] where the posterior is right: from S
    draws (r + 1/2) / (S + 1), r of them being lower (Talts et al. 2018, arXiv:1804.06788);
``tarp``
    the probability nearer to a random point than the true y is, uniform too (Lemos et al. 2023,
    arXiv:2302.03026). It tests the distribution of all numbers together.

Draws and random points are a function of the place of an image in its slice: every epoch, batch,
process and run has the same ones.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from deeplense_batch.tasks.posteriors.crps import crps_of_draws

__all__ = ["DRAWS", "LEVELS", "Posterior", "Said", "random_of", "summary"]

DRAWS = 255  # of an image that is scored: 256 ranks, which fall evenly into bins of 16
LEVELS = (0.05, 0.16, 0.5, 0.84, 0.95)  # of the quantiles that are kept

_SPREAD = math.sqrt(3)  # a uniform distribution from -sqrt(3) to it has mean 0 and sd 1


class Said(NamedTuple):
    """What a network says of images, in standardised units."""

    draws: Tensor  # (B, S, D)
    log_prob: Tensor | None = None  # (B,) of the true values, where they are given
    mean: Tensor | None = None  # (B, D), where they are known exactly
    sd: Tensor | None = None  # (B, D)


class Posterior(ABC):
    """A family of distributions of D numbers of mean 0 and sd 1, one for each image.

    Arguments:
        size: D.
    """

    replayable = False  # whether `log_prob` never looks at a value (`TaskSpec.replayable`)

    def __init__(self, size: int) -> None:
        self.size = size

    @property
    @abstractmethod
    def num_outputs(self) -> int:
        """Numbers that the network has to give for an image."""

    def wrap(self, network: nn.Module) -> nn.Module:
        """Put beside a network what is trained with it; as `Task.wrap`."""
        return network

    @abstractmethod
    def log_prob(self, model: nn.Module, images: Tensor, true: Tensor) -> Tensor:
        """The logarithm of the density at some numbers, (B,) nats.

        Arguments:
            model: The network, wrapped; it is only called.
            images: (B, C, H, W).
            true: (B, D), finite.
        """

    @abstractmethod
    def say(
        self, model: nn.Module, images: Tensor, noise: Tensor, true: Tensor | None = None
    ) -> Said:
        """Draw from the posterior of each image.

        Arguments:
            model: As of `log_prob`.
            images: (B, C, H, W).
            noise: Normal random numbers, (B, S, D), which become the draws.
            true: (B, D), finite, where it is known.
        """


def random_of(
    index: Tensor, size: int, draws: int = DRAWS, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Random numbers of images, the same in every batch, process and device.

    Arguments:
        index: Places of the images in their slice, (B,).
        size: D.
        draws: S.
        device: Where they are wanted; by default that of `index`.

    Returns:
        Normal ones, (B, S, D), and points that are uniform between +-sqrt(3), (B, D).
    """
    noise, points = torch.empty(len(index), draws, size), torch.empty(len(index), size)
    generator = torch.Generator()
    for own, point, place in zip(noise, points, index.tolist(), strict=True):
        generator.manual_seed(place)
        point.uniform_(-_SPREAD, _SPREAD, generator=generator)
        own.normal_(generator=generator)
    device = index.device if device is None else device
    return noise.to(device), points.to(device)


def summary(said: Said, points: Tensor, true: Tensor | None = None) -> dict[str, Tensor]:
    """What is kept of each image, in standardised units.

    Arguments:
        said: Of the images.
        points: Random ones, (B, D) (`random_of`).
        true: (B, D); NaN where one is unknown.

    Returns:
        ``predicted`` and ``sd``, (B, D), ``quantiles`` (B, D, 5); and where `true` is given
        ``log_prob`` and ``tarp``, (B,), ``crps`` and ``rank``, (B, D), which are NaN of images
        of which a number is unknown.
    """
    draws = said.draws
    levels = torch.tensor(LEVELS, device=draws.device)
    mean = draws.mean(1) if said.mean is None else said.mean
    sd = draws.std(1) if said.sd is None else said.sd
    exact = said.mean is not None
    normal = torch.distributions.Normal(mean[..., None], sd[..., None], validate_args=False)
    kept = {
        "predicted": mean,
        "sd": sd,
        "quantiles": normal.icdf(levels) if exact else draws.quantile(levels, 1).movedim(0, -1),
    }
    if true is None or said.log_prob is None:
        return kept
    z = (true - mean) / sd
    lower = (draws < true[:, None]).sum(1)
    distances = (draws - points[:, None]).norm(dim=2)
    nearer = (distances < (true - points).norm(dim=1)[:, None]).sum(1)
    share = draws.shape[1] + 1
    scored = {
        "log_prob": said.log_prob,
        "crps": sd * _crps_of_normal(z) if exact else crps_of_draws(draws, true),
        "rank": normal.cdf(true[..., None])[..., 0] if exact else (lower + 0.5) / share,
        "tarp": (nearer + 0.5) / share,
    }
    known = torch.isfinite(true).all(1)
    for name, values in scored.items():
        kept[name] = torch.where(known if values.ndim == 1 else known[:, None], values, torch.nan)
    return kept


def _crps_of_normal(z: Tensor) -> Tensor:
    """Of a normal distribution of sd 1, by the distance of the truth from its mean."""
    normal = torch.distributions.Normal(0.0, 1.0, validate_args=False)
    return (
        z * (2 * normal.cdf(z) - 1)
        + 2 * torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
        - 1 / math.sqrt(math.pi)
    )
