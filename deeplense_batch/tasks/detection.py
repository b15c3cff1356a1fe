"""Which of many galaxies are lenses: two classes, one of them rare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from deeplense_batch import figures, metrics
from deeplense_batch.tasks.classification import Classification
from deeplense_batch.tasks.task import Arrays, Frame, Scores

__all__ = ["Detection"]


class Detection(Classification):
    """Classification whose second class is searched for, with a threshold for a stated purity.

    The threshold is chosen on the validation slice and then frozen. Purity is that of a sky where
    lenses have the stated prevalence, whatever share they have in the slice.

    Arguments:
        classes: Class names, two.
        frame: The images.
        label_smoothing: As in `Classification`.
        focal: As in `Classification`.
        purity: Share of lenses among what is called one, that the threshold is for.
        prevalence: Share of lenses among all galaxies.
    """

    def __init__(
        self,
        *,
        classes: Sequence[str],
        frame: Frame | None = None,
        label_smoothing: float = 0.0,
        focal: float = 0.0,
        purity: float = 0.5,
        prevalence: float = 0.01,
    ) -> None:
        super().__init__(
            classes=classes, frame=frame, label_smoothing=label_smoothing, focal=focal
        )
        if len(self.classes) != 2:
            raise ValueError(f"detection needs two classes, the data have {list(classes)}")
        for name, value in (("purity", purity), ("prevalence", prevalence)):
            if not 0 < value < 1:
                raise ValueError(f"{name}: should be between 0 and 1, got {value!r}")
        self.purity, self.prevalence = purity, prevalence
        self._threshold: float | None = None

    def settle(self, outputs: Arrays) -> None:
        super().settle(outputs)
        scores = metrics.softmax(outputs["logits"])[:, 1]
        self._threshold = metrics.threshold_of_purity(
            outputs["targets"] == 1, scores, purity=self.purity, prevalence=self.prevalence
        )

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"threshold": self._threshold}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._threshold = state["threshold"]

    def draw(self, outputs: Arrays, history: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
        drawn = super().draw(outputs, history)
        lens, probability = outputs["targets"] == 1, metrics.softmax(outputs["logits"])[:, 1]
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
                metrics.precision_recall(lens, probability), average, lens.mean(), threshold
            )
        }

    def score(self, outputs: Arrays) -> tuple[Scores, list[str]]:
        scores, notes = super().score(outputs)
        lens, probability = outputs["targets"] == 1, metrics.softmax(outputs["logits"])[:, 1]
        found, more = metrics.detection_scores(
            lens, probability, threshold=self._threshold, prevalence=self.prevalence
        )
        return scores | found, notes + more
