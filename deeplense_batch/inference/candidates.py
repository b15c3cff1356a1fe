"""Which images a search calls lenses: a threshold for any stated purity, of a run that is done.

A run leaves its search through the validation slice (`scoring.detection.OperatingCurve`), so that
another purity or another sky takes no new training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.core.scoring.detection import Found, shortfall_note, support_note
from deeplense_batch.data.formats.counted import counted_of
from deeplense_batch.inference.ensembles.ensemble import Ensemble
from deeplense_batch.inference.trained import Trained, TrainedError
from deeplense_batch.tasks.detection import Detection

__all__ = ["Candidates", "candidates_of", "candidates_of_ensemble"]


@dataclass(frozen=True)
class Candidates:
    """What is called a lens, and what that is worth."""

    name: str  # of the class that is searched for
    purity: float  # that is asked for
    prevalence: float  # share of lenses on the sky, for the purity
    threshold: float | None  # of the score of that class; None: none gives the purity
    found: Found | None  # what the threshold finds in the validation slice
    best: Found | None  # what the purest finds there; None: unknown
    prior: float | None  # share of lenses that calibrated scores hold for; None: unknown
    stated: bool  # whether that is a stated prevalence, and not the share in the validation slice
    averaged: bool = False  # of an ensemble, whose scores are a mean of calibrated ones

    @property
    def honest(self) -> str:
        """The column of the table whose sum is a number of lenses to expect."""
        return f"{'score' if self.averaged else 'calibrated'}_{self.name}"

    def called(self, scores: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether samples are called lenses, (N,), by the score of their class, (N,)."""
        return scores >= (np.inf if self.threshold is None else self.threshold)

    @property
    def question(self) -> dict[str, Any]:
        """What makes a table of other candidates another table."""
        calibrated = self.prior if self.stated or self.prior is None else "as validated"
        return {"purity": self.purity, "prevalence": self.prevalence, "calibrated_at": calibrated}

    @property
    def details(self) -> dict[str, Any]:
        """What a reader of the table may want to know."""
        numbers = self.found.numbers(self.prevalence) if self.found else {}
        return {
            "searched": self.name,
            "threshold": self.threshold,
            "purity": self.purity,
            "prevalence": self.prevalence,
            "expected": numbers,  # completeness and purity on the validation slice, and intervals
            "calibrated_prevalence": self.prior,
            "calibrated_as": "stated" if self.stated else "the validation slice has it",
            "notes": self.notes,
        }

    @property
    def notes(self) -> list[str]:
        """What a reader of the candidates should know, in sentences."""
        notes = []
        if self.threshold is None:
            notes.append(shortfall_note(self.best, self.purity, self.prevalence))
        if self.found and (note := support_note(self.found, self.purity, self.prevalence)):
            notes.append(note)
        if self.prior is None and not self.averaged:
            notes.append(
                f"calibrated_{self.name}: by a temperature alone, which leaves what balance "
                "shifts: the validation slice had one class alone, or an earlier version trained "
                "the run, which 'run RUN --force' trains again"
            )
        return notes

    def told(self, count: int, rows: int, expected: float) -> str:
        """The candidates of a table, in sentences.

        Arguments:
            count: Of the candidates.
            rows: Of the table.
            expected: The sum of the column `honest`.
        """
        sky = (
            f"for a purity of {self.purity:g} where class {self.name} is {self.prevalence:g} of "
            "all"
        )
        if self.threshold is None:
            lines = [f"no candidates {sky}"]
        else:
            lines = [
                f"{counted_of(count, rows, 'row', 'is a candidate', 'are candidates')}: "
                f"score_{self.name} of {self.threshold:.6g} or more, {sky}"
            ]
        if self.found:
            numbers = self.found.numbers(self.prevalence)
            lines.append(
                "expected of them, 95 % by the validation slice: completeness "
                f"{_interval(numbers, 'completeness')}, purity {_interval(numbers, 'purity')}"
            )
        if self.prior is not None:
            whose = "stated" if self.stated else "in the validation slice"
            whose += "" if self.stated or self.averaged else "; --prevalence moves it"
            lines.append(
                f"{self.honest} sums to {expected:.1f}, what to expect where class "
                f"{self.name} is {self.prior:.3g} of all, as {whose}"
            )
        return "\n".join([*lines, *self.notes])


def _interval(numbers: Mapping[str, float | None], name: str) -> str:
    """A number with the ends of its interval."""
    value, low, high = (numbers[name + end] for end in ("", "_low", "_high"))
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def candidates_of(
    trained: Trained, purity: float | None = None, prevalence: float | None = None
) -> Candidates | None:
    """Choose a threshold.

    Arguments:
        trained: The run.
        purity: Share of lenses among candidates; by default that of the run.
        prevalence: Share of lenses on the sky, for which calibrated scores hold too; by default
            that of the run for the threshold, and for calibrated scores the share of the
            validation slice.

    Returns:
        The candidates; None for a run that searches for no class.

    Raises:
        TrainedError: The run cannot answer: it searches for no class, or it left no search.
    """
    task = trained.task
    asked = [f"--{n}" for n, v in (("purity", purity), ("prevalence", prevalence)) if v]
    if not isinstance(task, Detection):
        if asked:
            raise TrainedError(
                f"{asked[0]}: the task of {trained.run.path}, {trained.job.task.name}, searches "
                "for no class; expected a run of detection"
            )
        return None
    curve, fitted = task.curve, task.slope_and_offset is not None
    if asked and (curve is None or not fitted):
        raise TrainedError(
            f"{asked[0]}: {trained.run.path} left no search through a validation slice of both "
            "classes, by which a threshold is chosen; an earlier version trained it, or that has "
            "one class alone; 'run RUN --force' trains it again"
        )
    return _chosen(task, purity, prevalence)


def candidates_of_ensemble(
    ensemble: Ensemble, purity: float | None = None, prevalence: float | None = None
) -> Candidates | None:
    """Choose a threshold of the mean score, by the members' answers to one validation slice.

    Arguments:
        ensemble: The members.
        purity: Share of lenses among candidates; by default that of the first member.
        prevalence: Share of lenses on the sky, for the threshold; by default as well.

    Returns:
        The candidates; None where the members search for no class, or have no validation slice in
        common.

    Raises:
        TrainedError: A purity or a prevalence is asked for, and there are no candidates.
    """
    asked = [f"--{n}" for n, v in (("purity", purity), ("prevalence", prevalence)) if v]
    task = ensemble.task
    if isinstance(task, Detection) and ensemble.validated is not None:
        return _chosen(task, purity, prevalence, averaged=True)
    if asked and isinstance(task, Detection):
        raise TrainedError(f"{asked[0]}: the mean score has no threshold: {ensemble.why_not}")
    if asked:
        raise TrainedError(
            f"{asked[0]}: the task of the members, {ensemble.members[0].job.task.name}, searches "
            "for no class; expected runs of detection"
        )
    return None


def _chosen(
    task: Detection, purity: float | None, prevalence: float | None, *, averaged: bool = False
) -> Candidates:
    """The candidates of a task that is calibrated."""
    curve, fitted = task.curve, task.slope_and_offset is not None
    purity, q = purity or task.purity, prevalence or task.prevalence
    threshold = task.threshold
    if curve is not None:
        threshold = curve.threshold(purity, q)
    found = curve.at(threshold) if curve is not None and threshold is not None else None
    best = curve.purest() if curve is not None else None
    # The mean of calibrated scores is one already, of the share in the validation slice.
    stated = prevalence if not averaged else None
    prior = (stated or curve.share) if curve is not None and (fitted or averaged) else None
    name = str(task.spec.target_name)
    return Candidates(name, purity, q, threshold, found, best, prior, stated is not None, averaged)
