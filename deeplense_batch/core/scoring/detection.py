"""Scores of a search for rare objects, such as lenses among galaxies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_curve

__all__ = ["detection_scores", "purity_at", "threshold_of_purity"]


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
        ``threshold``, ``completeness`` and ``purity`` there. None where undefined, with a note.
    """
    rates = {"recall_fpr_1e-2": 1e-2, "recall_fpr_1e-3": 1e-3, "recall_fpr_1e-4": 1e-4}
    values: dict[str, float | None] = dict.fromkeys(
        ("average_precision", *rates, "tpr0", "tpr10", "threshold", "completeness", "purity")
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
        return values, [*notes, "threshold: none gives the stated purity on the validation slice"]
    called = scores >= threshold
    completeness, rate = float(called[positive].mean()), float(called[~positive].mean())
    values |= {"threshold": threshold, "completeness": completeness}
    values["purity"] = purity_at(completeness, rate, prevalence)
    notes.append(f"purity: where {prevalence:g} of all galaxies are lenses")
    return values, notes


def threshold_of_purity(
    positive: NDArray[np.bool_], scores: NDArray[np.float64], *, purity: float, prevalence: float
) -> float | None:
    """The least threshold with a stated purity, and so the most complete.

    Arguments:
        positive: Whether a sample is a lens, (N,).
        scores: Higher means more likely, (N,).
        purity: At least this, where lenses have the `prevalence`.
        prevalence: Share of lenses among all galaxies.

    Returns:
        A score: what has it or more is called a lens. None where no threshold gives the purity,
        or there are no lenses, or nothing else.
    """
    if positive.all() or not positive.any():
        return None
    false_positive_rate, recall, thresholds = roc_curve(positive, scores, drop_intermediate=False)
    good = [
        (purity_at(r, f, prevalence) or 0.0) >= purity
        for r, f in zip(recall, false_positive_rate, strict=True)
    ]
    return float(thresholds[np.flatnonzero(good)[-1]]) if any(good) else None


def purity_at(recall: float, false_positive_rate: float, prevalence: float) -> float | None:
    """Share of positives among what is called one, where they have this prevalence p.

    P = p TPR / (p TPR + (1 - p) FPR); None where nothing is called one.
    """
    called = prevalence * recall + (1 - prevalence) * false_positive_rate
    return prevalence * recall / called if called else None
