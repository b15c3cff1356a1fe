"""The contract between the one loop and what is learnt.

The loop (`run`) knows four methods and one name; it never learns what is learnt.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["Arrays", "Batch", "Scores", "Task"]

Arrays = Mapping[str, NDArray[Any]]
Scores = dict[str, float | None]


@dataclass(frozen=True)
class Batch:
    """Samples on the device."""

    images: Tensor  # (B, C, H, W) float32, normalised
    targets: Tensor  # (B,) int64 class numbers
    index: Tensor  # (B,) int64 places of the samples in their slice
    weights: Tensor | None = None  # (B,) float32 of mean 1, of the loss of each sample
    partners: Tensor | None = None  # (B,) int64 targets of the images mixed in, by mixup
    share: float = 1.0  # of each image and its own target, where others are mixed in


class Task(ABC):
    """One thing to learn."""

    #: Score that picks the best weights; the higher the better.
    monitor: ClassVar[str]

    def __init__(self, *, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)

    @abstractmethod
    def losses(self, model: nn.Module, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Compute what is minimised.

        Arguments:
            model: The network; it may be wrapped, so it is only called.
            batch: Training samples.
            progress: Share of the training that is over, in [0, 1).

        Returns:
            Scalars: ``loss``, a mean over the samples of the batch, and its parts.
        """

    @abstractmethod
    def predict(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Compute what is scored: tensors whose first axis is the sample."""

    @abstractmethod
    def score(self, outputs: Arrays) -> tuple[Scores, list[str]]:
        """Judge the outputs of a whole slice.

        Arguments:
            outputs: What `predict` gave, gathered, with ``ids`` and ``targets`` (N,).

        Returns:
            Scores by name, None where one is undefined, and notes that say why.
        """

    @abstractmethod
    def draw(self, outputs: Arrays, history: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
        """Draw the figures of a run from its saved outputs and its epochs."""
