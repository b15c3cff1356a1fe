"""The contract between the training loop and what is learnt: four methods and a `TaskSpec`.

The loop never learns what is learnt. A new task is one file that holds a subclass of `Task`, and
its row in `TASKS`; the hooks that `Task` already has a body for are for those that need them.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from deeplense_batch.data.pixels.transform import per_channel

__all__ = ["Arrays", "Batch", "Frame", "Scores", "Task", "TaskSpec", "Unit"]

Arrays = Mapping[str, NDArray[Any]]
Scores = dict[str, float | None]


@dataclass(frozen=True)
class Frame:
    """The images as the network sees them."""

    channels: int
    size: int  # pixels along a side
    pixel_scale: float  # width of a pixel, arcsec; NaN where unknown
    ratio: int = 1  # of pairs: pixels of an image along one of its input

    @property
    def input_size(self) -> int:
        """Pixels along a side of what a network is given: of pairs the inputs, else the images."""
        return self.size // self.ratio


@dataclass(frozen=True)
class Batch:
    """Samples on the device."""

    images: Tensor  # (B, C, H, W) float32, normalised
    targets: Tensor  # (B,) int64 class numbers
    index: Tensor  # (B,) int64 places of the samples in their slice
    weights: Tensor | None = None  # (B,) float32 of mean 1, of the loss of each sample
    partners: Tensor | None = None  # (B,) int64 targets of the images mixed in, by mixup
    partner_weights: Tensor | None = None  # (B,) float32, of the loss of these targets
    # (B,) int64 random numbers, a function of (seed, epoch, draw of the sample): the state of what
    # a loss draws for each sample, where the task says that it draws
    draws: Tensor | None = None
    share: float = 1.0  # of each image and its own target, where others are mixed in
    truth: Mapping[str, Tensor] = field(default_factory=dict)  # (B, ...) float32 by truth key
    #: Of pairs, for tasks that need them: (B, C, h, w) float32, what a network is given, where
    #: `images` is what it is to make; normalised as `images` are, by the mean and sd of these.
    inputs: Tensor | None = None
    clean: Tensor | None = None  # (B, C, H, W) float32, `images` without their noise, if known
    unlabelled: Tensor | None = None  # (B, C, H, W) float32, images to which a task adapts

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with every tensor changed."""
        own = {n: change(value) for n, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(
            self,
            **own,  # type: ignore[arg-type]
            truth={name: change(values) for name, values in self.truth.items()},
        )

    def part(self, samples: slice) -> Batch:
        """Some of the samples."""
        return self.mapped(operator.itemgetter(samples))


@dataclass(frozen=True)
class Unit:
    """What was done to values as packed, for a network to see them: less `mean`, over `sd`."""

    mean: tuple[float, ...]  # (C,)
    sd: tuple[float, ...]  # (C,)

    def undone(self, images: Tensor) -> Tensor:
        """Values as packed, of images that a network sees or makes, both (B, C, H, W)."""
        mean, sd = (per_channel(values, images.device) for values in (self.mean, self.sd))
        return images * sd + mean


@dataclass(frozen=True)
class TaskSpec:
    """What is fixed about a task once its options and the classes are known."""

    monitor: str  # score that picks the best weights; the higher the better
    num_outputs: int  # numbers that the network gives for an image; 0 before classes are known
    primary_output: str = "logits"  # of `predict`: the network's answer, which has to be finite
    #: Which of the things that tasks of this name may learn; runs of others do not compare.
    target_name: str | None = None
    truth_keys: tuple[str, ...] = ()  # truth arrays of the shards that are read, where they exist
    needs_truth: bool = False  # whether all of them have to exist
    #: Numbers that are learnt: each the name of a truth, and which of its numbers of an image,
    #: None where it should have one.
    truth_numbers: tuple[tuple[str, int | None], ...] = ()
    #: Names of the numbers that are predicted, (N, D), where a task has several or a posterior.
    quantities: tuple[str, ...] = ()
    needs_labels: bool = True  # whether the images have to have classes
    mixes_labels: bool = False  # whether its loss heeds `weights` and `partners` of a batch
    draws: bool = False  # whether its loss takes random numbers from the `draws` of a batch
    fixed_geometry: bool = False  # whether the truth holds only for images that nothing moves
    #: Names of what it learns that is a length in the image: a zoom makes another number of it.
    lengths: tuple[str, ...] = ()
    needs_inputs: bool = False  # whether it learns from pairs: batches then have `inputs`
    given_inputs: bool = False  # whether its network is given these in place of the images
    predicts: bool = True  # whether `predict` answers a question about each image
    averages: bool = True  # whether means of outputs over views of an image are outputs too
    calibrates: bool = False  # whether `calibrate` is called; needs `predicts`
    #: Whether `losses` does the same with every batch of a shape, and never looks at a value:
    #: then a GPU may replay it.
    replayable: bool = False

    @property
    def classifies(self) -> bool:
        """Whether the network's answer tells classes apart: then each image has to have one."""
        return self.primary_output == "logits"


class Task(ABC):
    """One thing to learn.

    `build_task` hands a task its options, and of ``classes`` and ``frame`` those that it names
    among its parameters.

    Arguments:
        spec: What is fixed about it.
        classes: Class names of the data in the order of their numbers; None before the data are
            known, when only the options are checked.
    """

    def __init__(self, spec: TaskSpec, classes: Sequence[str] | None) -> None:
        self.spec = spec
        self.classes = tuple(classes or ())

    @abstractmethod
    def losses(
        self, model: nn.Module, batch: Batch, progress: float | Tensor
    ) -> dict[str, Tensor]:
        """Compute what is minimised.

        Arguments:
            model: The network; it may be wrapped, so it is only called.
            batch: Training samples.
            progress: Share of the training that is over, in [0, 1); a scalar on the device where
                the step is recorded, to be replayed with another one.

        Returns:
            Scalars: ``loss``, a mean over the samples of the batch, and its parts.
        """

    @abstractmethod
    def predict(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Compute what is scored: tensors whose first axis is the sample."""

    @abstractmethod
    def score(self, outputs: Arrays) -> tuple[Scores, list[str]]:
        """Score the outputs of a whole slice.

        Arguments:
            outputs: What `predict` gave, gathered, with ``ids`` and ``targets`` (N,).

        Returns:
            Scores by name, None where one is undefined, and notes that say why.
        """

    def score_epoch(self, outputs: Arrays, epoch: int) -> Scores:
        """Score the validation slice after an epoch: by default all scores, after every one.

        Arguments:
            outputs: As in `score`.
            epoch: From 1 on.
        """
        return self.score(outputs)[0]

    @abstractmethod
    def draw(self, outputs: Arrays, history: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
        """Draw the figures of a run from its saved outputs and its epochs."""

    def wrap(self, network: nn.Module) -> nn.Module:
        """Put beside a network what the task trains with it, such as a flow or a second head.

        `losses` and `predict` call what this gives. Its weights are all trained, averaged, saved
        and loaded as one; the state of a task that has no such parts keeps the network's names.

        Arguments:
            network: What `models.build` made, with `TaskSpec.num_outputs` outputs.

        Returns:
            The network itself, or an `extended.Extended` that holds it.
        """
        return network

    def fit_statistics(self, targets: NDArray[np.int64], truth: Arrays) -> None:  # noqa: B027
        """Look at the labels of the training slice once, before anything is learnt.

        Arguments:
            targets: Class numbers, (N,).
            truth: Arrays of `TaskSpec.truth_keys`, (N, ...) float64; those that the data have.

        Raises:
            ValueError: Nothing can be learnt from them.
        """

    def check_truth(self, truth: Arrays, *, scored: bool) -> None:  # noqa: B027
        """Make sure that the truth of a slice can be learnt, or scored by.

        Arguments:
            truth: Arrays of `TaskSpec.truth_keys`, (N, ...) float64; those that the data have.
            scored: Whether samples are scored by it.

        Raises:
            ValueError: It cannot, a sentence that lacks the place.
        """

    def fit_images(self, batches: Iterable[Batch], unit: Unit) -> None:  # noqa: B027
        """Look at the images of the training slice once, before anything is learnt.

        Arguments:
            batches: All of them, as a network sees them, not augmented; made as they are asked
                for.
            unit: What makes their values of those that were packed; linear.
        """

    def assess(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Compute what is scored once, of a test slice: as `predict`, and what takes longer."""
        return self.predict(model, batch)

    def chosen(self, outputs: Arrays) -> NDArray[np.int64]:
        """Places of the samples of a test slice of which figures show images, by its outputs."""
        return np.empty(0, np.int64)

    def images_of(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Images of `chosen` samples, (E, C, H, W) by names that outputs do not have."""
        return {}

    def calibrate(self, outputs: Arrays) -> None:  # noqa: B027
        """Choose what is chosen on the validation slice, with the best weights, before the test.

        Arguments:
            outputs: As in `score`, of the validation slice.
        """

    def trainable_mask(self, targets: NDArray[np.int64], truth: Arrays) -> NDArray[np.bool_]:
        """Samples that have what the task learns, (N,); the others are left out of training."""
        return np.ones(len(targets), bool)

    def num_scored(self, outputs: Arrays) -> int:
        """How many samples have the truth that they are scored by."""
        return len(outputs["ids"])

    def state_dict(self) -> dict[str, Any]:
        """What `fit_statistics` and `calibrate` found; kept beside the best weights."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Take up what `state_dict` gave."""
