"""A network with parts of a task beside it (`Task.wrap`), such as the flow of a posterior."""

from __future__ import annotations

from torch import nn

__all__ = ["Extended", "answering", "bare"]


class Extended(nn.Module):
    """A network, and parts that are trained, averaged, saved and loaded with it.

    A task's subclass adds the parts as modules of its own and says in ``forward`` what they do
    with the network's answer. All that a recipe says of a network (``train.freeze``,
    ``layer_decay``, ``init``) is about ``network`` alone; ``train.head_lr`` is that of the parts
    too. Called with images alone it gives the answer of the network.

    Arguments:
        network: What `models.build` made.
    """

    trains_only = False  # whether its parts are of use in training alone, and no answer needs them

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @property
    def parts(self) -> list[nn.Module]:
        """What is beside the network."""
        return [part for part in self.children() if part is not self.network]


def bare(model: nn.Module) -> nn.Module:
    """The network without the parts of its task."""
    return model.network if isinstance(model, Extended) else model


def answering(model: nn.Module) -> nn.Module:
    """The network with those parts of its task that an answer needs."""
    return bare(model) if isinstance(model, Extended) and model.trains_only else model
