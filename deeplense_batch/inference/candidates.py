"""Which images a search calls lenses: a threshold for any stated purity, of a run that is done.

A run leaves its search through the validation slice (`scoring.detection.OperatingCurve`), so that
another purity or another sky takes no new training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deeplense_batch.core.scoring.detection import Found, shortfall_note, support_note
from deeplense_batch.data.formats.counted import counted_of
from deeplense_batch.inference.trained import Trained, TrainedError
from deeplense_batch.tasks.detection import Detection

__all__ = ["Candidates", "candidates_of"]


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
        if self.prior is None:
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
            expected: The sum of its calibrated scores.
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
            whose = "stated" if self.stated else "in the validation slice; --prevalence moves it"
            lines.append(
                f"calibrated_{self.name} sums to {expected:.1f}, what to expect where class "
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
    purity, q = purity or task.purity, prevalence or task.prevalence
    threshold = task.threshold
    if curve is not None:
        threshold = curve.threshold(purity, q)
    found = curve.at(threshold) if curve is not None and threshold is not None else None
    best = curve.purest() if curve is not None else None
    prior = (prevalence or curve.share) if curve is not None and fitted else None
    name = str(task.spec.target_name)
    stated = prevalence is not None
    return Candidates(name, purity, q, threshold, found, best, prior, stated)
