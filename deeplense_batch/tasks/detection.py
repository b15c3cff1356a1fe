"""Which of many galaxies are lenses: two classes, one of them rare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deeplense_batch.core.job import JobError
from deeplense_batch.core.scoring import curves, detection, figures, metrics
from deeplense_batch.data.sources.layouts import is_lens
from deeplense_batch.tasks.classification import Classification
from deeplense_batch.tasks.task import Arrays, Scores

__all__ = ["Detection"]


class Detection(Classification):
    """Classification of which one class is searched for, with a threshold for a stated purity.

    The threshold is chosen on the validation slice and then frozen. Purity is that of a sky where
    lenses have the stated prevalence, whatever share they have in the slice.

    Arguments:
        classes: Class names, two.
        label_smoothing: As in task `classification`.
        focal: As in task `classification`.
        positive: The class that is searched for; by default the one named ``lens`` or ``lenses``.
        purity: Share of lenses among what is called one, that the threshold is for.
        prevalence: Share of lenses among all galaxies.
    """

    def __init__(
        self,
        *,
        classes: Sequence[str] | None,
        label_smoothing: float = 0.0,
        focal: float = 0.0,
        positive: str | None = None,
        purity: float = 0.5,
        prevalence: float = 0.01,
    ) -> None:
        super().__init__(classes=classes, label_smoothing=label_smoothing, focal=focal)
        if classes is not None and len(classes) != 2:
            raise ValueError(f"detection needs two classes, the data have {list(classes)}")
        for name, value in (("purity", purity), ("prevalence", prevalence)):
            if not 0 < value < 1:
                raise ValueError(f"{name}: should be between 0 and 1, got {value!r}")
        self.purity, self.prevalence = purity, prevalence
        self._threshold: float | None = None
        if classes is not None:
            target = _positive(self.classes, positive)
            self.spec = replace(self.spec, target_name=target)
            self._target = self.classes.index(target)

    def calibrate(self, outputs: Arrays) -> None:
        super().calibrate(outputs)
        self._threshold = detection.threshold_of_purity(
            *self._search(outputs), purity=self.purity, prevalence=self.prevalence
        )

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"threshold": self._threshold}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._threshold = state["threshold"]

    def score(self, outputs: Arrays) -> tuple[Scores, list[str]]:
        scores, notes = super().score(outputs)
        lens, probability = self._search(outputs)
        own, more = detection.detection_scores(
            lens, probability, threshold=self._threshold, prevalence=self.prevalence
        )
        return scores | own, notes + more

    def draw(self, outputs: Arrays, history: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
        drawn = super().draw(outputs, history)
        lens, probability = self._search(outputs)
        if lens.all() or not lens.any():
            return drawn
        threshold = None
        if self._threshold is not None and (called := probability >= self._threshold).any():
            right = float((called & lens).sum())
            threshold = self._threshold, right / lens.sum(), right / called.sum()
        average = self.score(outputs)[0]["average_precision"]
        assert average is not None
        return drawn | {
            "precision_recall": figures.precision_recall(
                curves.precision_recall(lens, probability), average, lens.mean(), threshold
            )
        }

    def _search(self, outputs: Arrays) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Which samples are what is searched for, (N,), and how probable that is, (N,)."""
        probability = metrics.softmax(outputs["logits"])[:, self._target]
        return outputs["targets"] == self._target, probability


def _positive(classes: tuple[str, ...], asked: str | None) -> str:
    """The class that is searched for: the one asked for, or the one that is named like lenses.

    Raises:
        JobError: There is none of that name, or none was asked for and the names leave it open.
    """
    candidates = [name for name in classes if is_lens(name)] if asked is None else [asked]
    if len(candidates) != 1 or candidates[0] not in classes:
        raise JobError(
            "task.options.positive: expected the class that is searched for, "
            f"{' or '.join(classes)}; got {asked or 'none'}"
        )
    return candidates[0]
