"""A network whose features of unlabelled images are made like those of the labelled ones.

The features are what its classifier is given, (B, F), whatever the network. Labelled and
unlabelled images go through it as one batch, so that batch norm sees both: part of what adaptation
gains comes of statistics of both (Li et al. 2016, arXiv:1603.04779). The classes are learnt from
the labelled ones alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from deeplense_batch.core.sections.adapt import Adaptation
from deeplense_batch.tasks.adaptation.adversary import Discriminator, reversal_at
from deeplense_batch.tasks.adaptation.distances import coral, mmd
from deeplense_batch.tasks.extended import Extended

__all__ = ["Adapted"]

_DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"coral": coral, "mmd": mmd}


class Adapted(Extended):
    """A network, and what measures how far apart its features of two sets are.

    Arguments:
        network: Maps images to logits, and tells its classifier as timm's networks do.
        adaptation: The method.

    Raises:
        ValueError: It does not tell its classifier.
    """

    trains_only = True

    def __init__(self, network: nn.Module, adaptation: Adaptation) -> None:
        super().__init__(network)
        features = _width(_classifier(network))
        self.discriminator = Discriminator(features) if adaptation.by == "dann" else None
        self._distance = _DISTANCES.get(adaptation.by)

    def forward(
        self, images: Tensor, unlabelled: Tensor | None = None, progress: float | Tensor = 0.0
    ) -> Any:
        """What the network answers; beside unlabelled images also the loss of the method.

        Arguments:
            images: (B, C, H, W) float32.
            unlabelled: As many of the target.
            progress: Share of the training that is over.

        Returns:
            The answer to `images`; with `unlabelled` that and a scalar.
        """
        if unlabelled is None:
            return self.network(images)
        count, given = len(images), []
        classifier = _classifier(self.network)
        hook = classifier.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
        try:
            answer = self.network(torch.cat([images, unlabelled]))
        finally:
            hook.remove()
        # A difference of means of many numbers, which half precision would round away.
        with torch.autocast(images.device.type, enabled=False):
            source, target = given[0].flatten(1).float().tensor_split([count])
            gap = self._gap(source, target, progress)
        return _first(answer, count), gap

    def _gap(self, source: Tensor, target: Tensor, progress: float | Tensor) -> Tensor:
        if self._distance is not None:
            return self._distance(source, target)
        assert self.discriminator is not None
        return self.discriminator(source, target, reversal_at(progress))


def _classifier(network: nn.Module) -> nn.Module:
    """The last layer of a network.

    Raises:
        ValueError: It does not tell it, or has two.
    """
    get = getattr(network, "get_classifier", None)
    found = get() if callable(get) else None
    if not isinstance(found, nn.Module) or isinstance(found, nn.Identity):
        kind = type(network).__name__
        raise ValueError(
            f"task.options.adapt: a {kind} does not tell one layer as its classifier, whose input "
            "is made alike; expected a network that does, such as those of timm, or null"
        )
    return found


def _width(classifier: nn.Module) -> int:
    """How many numbers a classifier is given of an image.

    Raises:
        ValueError: It has no layer that says so.
    """
    for layer in classifier.modules():
        if isinstance(layer, nn.Linear):
            return layer.in_features
        if isinstance(layer, nn.Conv2d):
            return layer.in_channels
    raise ValueError(
        f"task.options.adapt: the classifier of this network, {type(classifier).__name__}, has no "
        "linear layer; expected one, or null"
    )


def _first(answer: Tensor | Mapping[str, Tensor], count: int) -> Tensor | dict[str, Tensor]:
    """The answer to the first of the images; a network with physics gives several tensors."""
    if isinstance(answer, Tensor):
        return answer[:count]
    return {name: values[:count] for name, values in answer.items()}
