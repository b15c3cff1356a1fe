"""Which of many galaxies are lenses: two classes, one of them rare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deeplense_batch.core.job import JobError
from deeplense_batch.core.scoring import calibration, curves, detection, figures, metrics
from deeplense_batch.core.scoring.detection import Found, OperatingCurve
from deeplense_batch.data.listing.layouts import is_lens
from deeplense_batch.tasks.classification import Classification
from deeplense_batch.tasks.task import Arrays, Scores

__all__ = ["Detection"]


class Detection(Classification):
    """Classification of which one class is searched for, with a threshold for a stated purity.

    Slope and offset of its log odds, which make probabilities honest, and the threshold are found
    on the validation slice and then frozen. Purity is that of a sky where lenses have the stated
    prevalence, whatever share they have in the slice. Purity and prevalence change nothing that
    is learnt, and so are no part of a run's identity: `predict` takes others from the same run.

    Arguments:
        classes: Class names, two.
        label_smoothing: As in task `classification`.
        focal: As in task `classification`.
        positive: The class that is searched for; by default the one named ``lens`` or ``lenses``.
        purity: Share of lenses among what is called one, that the threshold is for.
        prevalence: Share of lenses among all galaxies.
    """

    #: Slope and offset of the log odds, for honest probabilities where lenses have the share of
    #: the validation slice; None before `calibrate`, and where that has one class alone.
    slope_and_offset: tuple[float, float] | None = None
    #: The search through the validation slice; None before `calibrate`.
    curve: OperatingCurve | None = None

    def __init__(
        self,
        *,
        classes: Sequence[str] | None,
        label_smoothing: float = 0.0,
        focal: float = 0.0,
        positive: str | None = None,
        purity: float = 0.5,
        prevalence: float = detection.PREVALENCE,
    ) -> None:
        super().__init__(classes=classes, label_smoothing=label_smoothing, focal=focal)
        if classes is not None and len(classes) != 2:
            raise ValueError(f"detection needs two classes, the data have {list(classes)}")
        for name, value in (("purity", purity), ("prevalence", prevalence)):
            if not 0 < value < 1:
                raise ValueError(f"{name}: should be between 0 and 1, got {value!r}")
        self.purity, self.prevalence = purity, prevalence
        self.threshold: float | None = None
        if classes is not None:
            target = _positive(self.classes, positive)
            self.spec = replace(self.spec, target_name=target)
            self._target = self.classes.index(target)

    def calibrate(self, outputs: Arrays) -> None:
        super().calibrate(outputs)
        lens, probability = self._search(outputs)
        self.curve = OperatingCurve.of(lens, probability)
        self.threshold = self.curve.threshold(self.purity, self.prevalence)
        self.slope_and_offset = None
        if 0 < self.curve.share < 1:
            log_odds = self._log_odds(outputs["logits"])
            self.slope_and_offset = calibration.slope_and_offset(lens, log_odds)

    def calibrated_logits(
        self, logits: NDArray[np.floating], prevalence: float | None = None
    ) -> NDArray[np.floating]:
        """Logits, (N, 2), of honest probabilities.

        Arguments:
            logits: Of the network.
            prevalence: Share of lenses among the images; by default that of the validation slice.
                Heeded only where there are slope and offset; else a temperature is all there is.
        """
        if self.slope_and_offset is None or self.curve is None:
            return super().calibrated_logits(logits)
        slope, offset = self.slope_and_offset
        if prevalence is not None:
            log_odds_of = calibration.log_odds_of
            offset += log_odds_of(prevalence) - log_odds_of(self.curve.share)
        honest = np.zeros(logits.shape, np.float64)
        honest[:, self._target] = slope * self._log_odds(logits) + offset
        return honest

    def state_dict(self) -> dict[str, Any]:
        curve = self.curve and {
            "scores": list(self.curve.scores),
            "false_positives": list(self.curve.false_positives),
            "others": self.curve.others,
        }
        return super().state_dict() | {
            "threshold": self.threshold,
            "purity": self.purity,
            "prevalence": self.prevalence,
            "slope_and_offset": self.slope_and_offset and list(self.slope_and_offset),
            "curve": curve,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave, or that of an earlier version: without a curve."""
        super().load_state_dict(state)
        self.threshold = state["threshold"]
        self.purity = state.get("purity", self.purity)
        self.prevalence = state.get("prevalence", self.prevalence)
        fitted, curve = state.get("slope_and_offset"), state.get("curve")
        self.slope_and_offset = fitted and (fitted[0], fitted[1])
        self.curve = curve and OperatingCurve(
            tuple(curve["scores"]), tuple(curve["false_positives"]), curve["others"]
        )

    def score(self, outputs: Arrays) -> tuple[Scores, list[str]]:
        scores, notes = super().score(outputs)
        lens, probability = self._search(outputs)
        own, more = detection.detection_scores(
            lens, probability, threshold=self.threshold, prevalence=self.prevalence
        )
        more += self._threshold_notes()
        if self.slope_and_offset is not None:
            own["slope"], own["offset"] = self.slope_and_offset
            honest = self._honest(outputs)
            own["expected_lenses"] = float(honest.sum())
            more.append(self._told(outputs, honest, lens))
        return scores | own, notes + more

    def carried_notes(self, outputs: Arrays) -> list[str]:
        """What the threshold is worth on images of another set than its own, in sentences.

        Arguments:
            outputs: As in `score`.
        """
        lens, probability = self._search(outputs)
        if self.threshold is None or lens.all() or not lens.any():
            return []
        called = probability >= self.threshold
        here = Found(
            int((called & lens).sum()), int(lens.sum()),
            int((called & ~lens).sum()), int((~lens).sum()),
        )  # fmt: skip
        there = self.curve.at(self.threshold) if self.curve is not None else None
        return [
            detection.carried_note(
                self.threshold, there, here, purity=self.purity, prevalence=self.prevalence
            )
        ]

    def draw(self, outputs: Arrays, history: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
        drawn = super().draw(outputs, history)
        lens, probability = self._search(outputs)
        if lens.all() or not lens.any():
            return drawn
        threshold = None
        if self.threshold is not None and (called := probability >= self.threshold).any():
            right = float((called & lens).sum())
            threshold = self.threshold, right / lens.sum(), right / called.sum()
        average = self.score(outputs)[0]["average_precision"]
        assert average is not None
        return drawn | {
            "precision_recall": figures.precision_recall(
                curves.precision_recall(lens, probability), average, lens.mean(), threshold
            )
        }

    def _draw_calibration(self, outputs: Arrays) -> Figure:
        """How often images are lenses, as trained and with slope and offset."""
        lens, probability = self._search(outputs)
        shown = {self.uncalibrated: probability}
        if self.slope_and_offset is not None:
            slope, offset = self.slope_and_offset
            shown[f"slope {slope:.3g}, offset {offset:.3g}"] = self._honest(outputs)
            if (share := self._other_share(lens)) is not None:
                shown[f"and moved to a share of {share:.3g}"] = self._honest(outputs, share)
        return figures.rare_calibration(
            {name: calibration.rare_reliability(lens, p) for name, p in shown.items()},
            {name: float(p.sum()) for name, p in shown.items()},
            self.classes[self._target],
        )

    def _threshold_notes(self) -> list[str]:
        """That there is no threshold, or that few galaxies stand behind it."""
        if self.temperature is None:
            return ["threshold: none, which a validation slice would have chosen"]
        if self.threshold is None:
            best = self.curve.purest() if self.curve is not None else None
            return [detection.shortfall_note(best, self.purity, self.prevalence)]
        if self.curve is None:
            return []
        found = self.curve.at(self.threshold)
        note = detection.support_note(found, self.purity, self.prevalence)
        return [note] if note else []

    def _told(self, outputs: Arrays, honest: NDArray[np.float64], lens: NDArray[np.bool_]) -> str:
        """Whether calibrated probabilities sum to the number of lenses, in a sentence."""
        assert self.curve is not None
        text = (
            f"expected_lenses: calibrated probabilities sum to {_sum(honest)} where {lens.sum()} "
            f"of {len(lens)} images are of class {self.classes[self._target]}; they hold where a "
            f"share of {self.curve.share:.3g} is, as in the validation slice"
        )
        if (share := self._other_share(lens)) is not None:
            text += f"; moved to {share:.3g}, as here, to {_sum(self._honest(outputs, share))}"
        return text

    def _other_share(self, lens: NDArray[np.bool_]) -> float | None:
        """The share of lenses, where it is not that of the validation slice and its noise."""
        assert self.curve is not None
        share, expected = lens.sum() / max(len(lens), 1), self.curve.share
        noise = np.sqrt(expected * (1 - expected) / max(len(lens), 1))
        return float(share) if 0 < share < 1 and abs(share - expected) > 3 * noise else None

    def _honest(self, outputs: Arrays, prevalence: float | None = None) -> NDArray[np.float64]:
        """Honest probabilities of what is searched for, (N,)."""
        logits = self.calibrated_logits(outputs["logits"], prevalence)
        return metrics.softmax(logits)[:, self._target]

    def _log_odds(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Log odds of what is searched for, (N,)."""
        values = np.asarray(logits, np.float64)
        return values[:, self._target] - values[:, 1 - self._target]

    def _search(self, outputs: Arrays) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Which samples are what is searched for, (N,), and how probable that is, (N,)."""
        probability = metrics.softmax(outputs["logits"])[:, self._target]
        return outputs["targets"] == self._target, probability


def _sum(probabilities: NDArray[np.float64]) -> str:
    """Their sum, and the sd of what it expects."""
    noise = np.sqrt((probabilities * (1 - probabilities)).sum())
    return f"{probabilities.sum():.1f} +- {noise:.1f}"


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
