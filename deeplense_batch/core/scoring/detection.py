"""Scores of a search for rare objects, such as lenses among galaxies, and its threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_curve

from deeplense_batch.core.scoring.proportions import ratio_interval, wilson

__all__ = [
    "PREVALENCE",
    "Found",
    "OperatingCurve",
    "carried_note",
    "detection_scores",
    "purity_at",
    "shortfall_note",
    "support_note",
]

PREVALENCE = 0.01  # share of lenses among all galaxies, unless another is given

_AT_THRESHOLD = (
    *("completeness", "completeness_low", "completeness_high"),
    *("purity", "purity_low", "purity_high"),
)
_FEW = 10  # false positives, whose rate is then known to a third


@dataclass(frozen=True)
class Found:
    """What a threshold finds in a slice, counted."""

    found: int  # lenses above the threshold
    lenses: int  # of the slice, one or more
    false_positives: int  # other galaxies above it
    others: int  # of the slice, one or more

    @property
    def completeness(self) -> float:
        """Share of the lenses that are found."""
        return self.found / self.lenses

    def completeness_interval(self) -> tuple[float, float]:
        """Its 95 % interval, of Wilson."""
        low, high = wilson(self.found, self.lenses)
        return float(low), float(high)

    def purity(self, prevalence: float) -> float | None:
        """Share of lenses among all that is found, of a sky; None where nothing is found."""
        return purity_at(self.completeness, self.false_positives / self.others, prevalence)

    def purity_interval(self, prevalence: float) -> tuple[float, float]:
        """Its 95 % interval, by that of the rate of false positives over the completeness.

        Both rates have the noise of what was counted; the prevalence is taken as known.
        """
        if not self.found and not self.false_positives:
            return 0.0, 1.0
        low, high = ratio_interval(self.false_positives, self.others, self.found, self.lenses)
        odds = (1 - prevalence) / prevalence
        return 1 / (1 + odds * high), 1 / (1 + odds * low)

    def numbers(self, prevalence: float) -> dict[str, float | None]:
        """``completeness`` and ``purity``, and ``_low`` and ``_high`` of each."""
        completeness, purity = self.completeness_interval(), self.purity_interval(prevalence)
        values = (self.completeness, *completeness, self.purity(prevalence), *purity)
        return dict(zip(_AT_THRESHOLD, values, strict=True))


@dataclass(frozen=True)
class OperatingCurve:
    """A search through a slice at every threshold of use, so that any can be chosen later.

    Those are the scores of its lenses: between two of them false positives come, and no lens.
    """

    scores: tuple[float, ...]  # of the lenses, falling
    false_positives: tuple[int, ...]  # other galaxies of that score or more, for each
    others: int  # galaxies of the slice that are no lenses

    @classmethod
    def of(cls, positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> OperatingCurve:
        """Follow a search.

        Arguments:
            positive: Whether a sample is a lens, (N,).
            scores: Higher means more likely, (N,).
        """
        lenses, others = np.sort(scores[positive])[::-1], np.sort(scores[~positive])
        above = len(others) - np.searchsorted(others, lenses, side="left")
        return cls(tuple(lenses.tolist()), tuple(above.tolist()), len(others))

    @property
    def share(self) -> float:
        """Of lenses, in the slice."""
        return len(self.scores) / max(len(self.scores) + self.others, 1)

    def at(self, threshold: float) -> Found:
        """What one of the thresholds finds."""
        found = int((np.asarray(self.scores) >= threshold).sum())
        above = self.false_positives[found - 1] if found else 0
        return Found(found, len(self.scores), above, self.others)

    def threshold(self, purity: float, prevalence: float) -> float | None:
        """The most complete threshold of a stated purity; of several the purest.

        Arguments:
            purity: At least this, where lenses have the `prevalence`.
            prevalence: Share of lenses among all galaxies.

        Returns:
            A score: what has it or more is called a lens. None where no threshold gives the
            purity, or there are no lenses, or nothing else.
        """
        if not self.scores or not self.others:
            return None
        falling = np.asarray(self.scores)
        found = np.searchsorted(-falling, -falling, side="right")  # equal scores come together
        called = prevalence * found / len(falling)
        wrong = (1 - prevalence) * np.asarray(self.false_positives) / self.others
        good = np.flatnonzero(called >= purity * (called + wrong))
        return float(falling[good[-1]]) if len(good) else None

    def purest(self) -> Found | None:
        """What the purest threshold finds, on any sky; of several the most complete.

        None where there are no lenses, or nothing else.
        """
        if not self.scores or not self.others:
            return None
        falling = np.asarray(self.scores)
        found = np.searchsorted(-falling, -falling, side="right")  # equal scores come together
        wrong = np.asarray(self.false_positives) / found
        return self.at(self.scores[np.flatnonzero(wrong == wrong.min())[-1]])


def detection_scores(
    positive: NDArray[np.bool_],
    scores: NDArray[np.float64],
    *,
    threshold: float | None,
    prevalence: float,
) -> tuple[dict[str, float | None], list[str]]:
    """Score a search for rare objects.

    Arguments:
        positive: Whether a sample is a lens, (N,).
        scores: Higher means more likely, (N,).
        threshold: What has this score or more is called a lens; None for no threshold.
        prevalence: Share of lenses among all galaxies, for the purity.

    Returns:
        ``average_precision``; ``recall_fpr_1e-2``, ``-3``, ``-4``: completeness at those rates of
        false positives; ``tpr0`` and ``tpr10``: at none, and at fewer than ten false positives
        (Metcalf et al. 2019, A&A 625, A119), which depend on the number of non-lenses;
        ``threshold``, ``completeness`` and ``purity`` there, and the ends of their 95 %
        intervals, ``completeness_low`` and so on (`Found`). None where undefined, with a note; of
        a threshold that is None `shortfall_note` tells more.
    """
    rates = {"recall_fpr_1e-2": 1e-2, "recall_fpr_1e-3": 1e-3, "recall_fpr_1e-4": 1e-4}
    values: dict[str, float | None] = dict.fromkeys(
        ("average_precision", *rates, "tpr0", "tpr10", "threshold", *_AT_THRESHOLD)
    )
    if positive.all() or not positive.any():
        return values, ["lenses, or other galaxies, are missing: nothing to find"]
    values["average_precision"] = float(average_precision_score(positive, scores))
    negatives = int((~positive).sum())
    false_positive_rate, recall, _ = roc_curve(positive, scores, drop_intermediate=False)
    counts = np.rint(false_positive_rate * negatives)
    for name, rate in rates.items():
        values[name] = float(recall[false_positive_rate <= rate].max())
    values["tpr0"] = float(recall[counts == 0].max())
    values["tpr10"] = float(recall[counts < 10].max())
    notes = [f"tpr0, tpr10: of {negatives} galaxies that are no lenses"]
    if negatives < 1e4:
        notes.append(f"recall_fpr_1e-4: below one of {negatives} galaxies, so that of none")
    if threshold is None:
        return values, notes
    called = scores >= threshold
    found = Found(
        int(called[positive].sum()), len(scores) - negatives, int(called[~positive].sum()),
        negatives,
    )  # fmt: skip
    values["threshold"] = threshold
    values |= found.numbers(prevalence)
    notes.append(f"purity: where {prevalence:g} of all galaxies are lenses")
    return values, notes


def support_note(found: Found, purity: float, prevalence: float) -> str | None:
    """Say so where a slice has too few non-lenses to know how many of a sky a threshold calls.

    It takes ten false positives where they are as frequent as the purity allows. A slice of so
    many non-lenses with fewer false positives shows that the purity is higher.

    Arguments:
        found: What the threshold finds in the slice that chose it.
        purity: That it was chosen for.
        prevalence: Share of lenses among all galaxies, for the purity.

    Returns:
        A sentence; None for so many non-lenses, or ten false positives.
    """
    rate = prevalence * found.completeness * (1 - purity) / (purity * (1 - prevalence))
    if found.false_positives >= _FEW or found.others * rate >= _FEW:
        return None
    return (
        f"threshold: above it are {found.false_positives} of the non-lenses of the validation "
        f"slice, and fewer than {_FEW} say little: this set cannot support that threshold: "
        f"{found.others:,} non-lenses, where a purity of {purity:g} at a prevalence of "
        f"{prevalence:g} needs about {_rounded(_FEW / rate):,}"
    )


def carried_note(
    threshold: float, there: Found | None, here: Found, *, purity: float, prevalence: float
) -> str:
    """What a threshold that was chosen on one set is worth on another, in a sentence.

    Purity here is the share of lenses among all that is called one of these images, as many of
    which are lenses as are; both shares have the 95 % interval of Wilson.

    Arguments:
        threshold: The score.
        there: What it finds in the validation slice that chose it; None where that is not known.
        here: What it finds in these images.
        purity: That it was chosen for.
        prevalence: Share of lenses among all galaxies, for which it was chosen.
    """
    called, images = here.found + here.false_positives, here.lenses + here.others
    expected = ""
    if there is not None:
        numbers = there.numbers(prevalence)
        low, high = numbers["purity_low"], numbers["purity_high"]
        assert low is not None and high is not None
        expected = (
            f", and expected to be {_percent(there.purity(prevalence) or 0.0, low, high)} with a "
            f"completeness of {_percent(there.completeness, *there.completeness_interval())}"
        )
    pure = "unknown, since nothing is called a lens"
    if called:
        pure = _percent(here.found / called, *map(float, wilson(here.found, called)))
    return (
        f"threshold: at the score {threshold:.3g}, chosen on the validation slice of the training "
        f"for {100 * purity:.3g} % purity where {100 * prevalence:.3g} % of all galaxies are "
        f"lenses{expected}: purity {pure} ({here.found:,} of {called:,} called lenses) and "
        "completeness "
        f"{_percent(here.completeness, *here.completeness_interval())} ({here.found:,} of "
        f"{here.lenses:,} lenses) here, where {100 * here.lenses / images:.3g} % of the images "
        "are lenses"
    )


def shortfall_note(best: Found | None, purity: float, prevalence: float) -> str:
    """Say that no threshold gives a purity, and which purity can be had.

    Arguments:
        best: What the purest threshold finds in the validation slice; None where unknown.
        purity: That was asked for.
        prevalence: Share of lenses among all galaxies, for the purity.
    """
    text = (
        f"threshold: none gives a purity of {purity:g} where {prevalence:g} of all galaxies are "
        "lenses, on the validation slice"
    )
    if best is None:
        return text
    return (
        f"{text}; the highest is {best.purity(prevalence):.3g}, at a completeness of "
        f"{best.completeness:.3g}: {best.found:,} of {best.lenses:,} lenses are found there, and "
        f"{best.false_positives:,} of {best.others:,} non-lenses"
    )


def purity_at(recall: float, false_positive_rate: float, prevalence: float) -> float | None:
    """Share of positives among what is called one, where they have this prevalence p.

    P = p TPR / (p TPR + (1 - p) FPR); None where nothing is called one.
    """
    called = prevalence * recall + (1 - prevalence) * false_positive_rate
    return prevalence * recall / called if called else None


def _percent(share: float, low: float, high: float) -> str:
    """A share with its interval."""
    return f"{100 * share:.3g} % [{100 * low:.3g}, {100 * high:.3g}]"


def _rounded(number: float) -> int:
    """A number to two digits."""
    return int(float(f"{number:.1e}"))
