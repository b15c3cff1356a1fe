"""A posterior of any shape: a normalising flow on what the network says of an image.

A neural spline flow (Durkan et al. 2019, arXiv:1906.04032), by zuko, carries normal random numbers
to those of the image, in the way that its features say; network and flow learn together by the
density of the truth, -log p(y | image) (neural posterior estimation; Papamakarios and Murray 2016,
arXiv:1605.06376).
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor, nn

from deeplense_batch.tasks.extended import Extended
from deeplense_batch.tasks.posteriors.posterior import Posterior, Said

__all__ = ["Flow", "FlowError"]

_FEATURES = 32  # that the network gives for an image: its last layer
_TRANSFORMS = 3
_HIDDEN = (64, 64)  # of the network of each transform


class FlowError(ValueError):
    """The package that makes flows is not installed."""

    exit_code = 3


class Flow(Posterior):
    """A neural spline flow.

    Raises:
        FlowError: The package zuko is not installed.
    """

    def __init__(self, size: int) -> None:
        if importlib.util.find_spec("zuko") is None:
            raise FlowError(
                "task.options.posterior: flow needs the package zuko: pip install "
                "'deeplense-batch[flow]', or choose gaussian"
            )
        super().__init__(size)

    @property
    def num_outputs(self) -> int:
        return _FEATURES

    def wrap(self, network: nn.Module) -> nn.Module:
        return _FlowNetwork(network, self.size)

    def log_prob(self, model: nn.Module, images: Tensor, true: Tensor) -> Tensor:
        return model(images, true)[0]

    def say(
        self, model: nn.Module, images: Tensor, noise: Tensor, true: Tensor | None = None
    ) -> Said:
        log_prob, draws = model(images, true, noise)
        return Said(draws, log_prob)


class _FlowNetwork(Extended):
    """A network whose answer a flow takes for the features of an image."""

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__(network)
        from zuko.flows import NSF  # an extra

        self.flow = NSF(size, _FEATURES, transforms=_TRANSFORMS, hidden_features=_HIDDEN)

    def forward(
        self, images: Tensor, true: Tensor | None = None, noise: Tensor | None = None
    ) -> Any:
        """Features (B, F); or log density of `true` (B, D) and draws of `noise` (B, S, D)."""
        features = self.network(images)
        if true is None and noise is None:
            return features
        with torch.autocast(features.device.type, enabled=False):  # splines need all digits
            posterior = self.flow(features.float())
            log_prob = None if true is None else posterior.log_prob(true)
            if noise is None:
                return log_prob, None
            return log_prob, posterior.transform.inv(noise.movedim(1, 0)).movedim(0, 1)
