"""The contract between the one loop and what is learnt.

The loop (`run`) knows the methods and names of `Task`; it never learns what is learnt.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["Arrays", "Batch", "Frame", "Scores", "Task"]

Arrays = Mapping[str, NDArray[Any]]
Scores = dict[str, float | None]


@dataclass(frozen=True)
class Frame:
    """The images as the network sees them."""

    channels: int
    size: int  # pixels along a side
    pixel_scale: float  # width of a pixel, arcsec; NaN where unknown


@dataclass(frozen=True)
class Batch:
    """Samples on the device."""

    images: Tensor  # (B, C, H, W) float32, normalised
    targets: Tensor  # (B,) int64 class numbers
    index: Tensor  # (B,) int64 places of the samples in their slice
    weights: Tensor | None = None  # (B,) float32 of mean 1, of the loss of each sample
    partners: Tensor | None = None  # (B,) int64 targets of the images mixed in, by mixup
    partner_weights: Tensor | None = None  # (B,) float32, of the loss of these targets
    share: float = 1.0  # of each image and its own target, where others are mixed in
    truth: Mapping[str, Tensor] = field(default_factory=dict)  # (B, ...) float32, of `Task.reads`


class Task(ABC):
    """One thing to learn."""

    #: Score that picks the best weights; the higher the better.
    monitor: ClassVar[str]
    #: What `predict` calls the network's answer, which has to be finite.
    answer: ClassVar[str] = "logits"
    #: Truth arrays of the shards that the task reads, where they are.
    reads: ClassVar[tuple[str, ...]] = ()
    #: Whether it can do without them.
    needs_truth: ClassVar[bool] = False
    #: Whether it cannot do without classes.
    needs_labels: ClassVar[bool] = True
    #: Whether `settle` is called.
    settles: ClassVar[bool] = False

    def __init__(self, *, classes: Sequence[str], frame: Frame | None = None) -> None:
        self.classes = tuple(classes)
        self.frame = frame

    @property
    def learns(self) -> str | None:
        """Which of the things that tasks of this name may learn: others do not compare.

        Raises:
            ValueError: The data leave it open.
        """
        return None

    @property
    def outputs(self) -> int:
        """Numbers that the network gives for an image."""
        return len(self.classes)

    @property
    def fixed_pixels(self) -> bool:
        """Whether its truth, where there is some, holds only for images that nothing moves."""
        return False

    def study(self, targets: NDArray[np.int64], truth: Arrays) -> None:  # noqa: B027
        """Look at the labels of the training slice once, before anything is learnt.

        Arguments:
            targets: Class numbers, (N,).
            truth: Arrays of `reads`, (N, ...) float64 by name; those that the data have.

        Raises:
            ValueError: Nothing can be learnt from them.
        """

    def usable(self, targets: NDArray[np.int64], truth: Arrays) -> NDArray[np.bool_]:
        """Samples that have what the task learns, (N,); the others are left out of training."""
        return np.ones(len(targets), bool)

    def scored(self, outputs: Arrays) -> int:
        """How many samples have what they are scored by."""
        return len(outputs["ids"])

    def settle(self, outputs: Arrays) -> None:  # noqa: B027
        """Choose what is chosen on the validation slice, with the best weights, before the test.

        Arguments:
            outputs: As in `score`, of the validation slice.
        """

    def state_dict(self) -> dict[str, Any]:
        """What `study` and `settle` found; kept beside the best weights."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Take up what `state_dict` gave."""

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
