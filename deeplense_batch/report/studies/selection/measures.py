"""What is measured in each bin of a quantity, by what the classes that have it allow.

A search for lenses: its *completeness*, the share of the lenses of a bin that reach the run's own
threshold; where other galaxies have the quantity as well, its *purity*, the share of lenses among
what reaches the threshold in the bin; where they alone have it, the *false positive rate*. The AUC
is that of the lenses of the bin against the others of the bin, or against all of them where they
do not have the quantity.

A classification: accuracy and AUC (macro) of the images of the bin, where every class has the
quantity; else the recall of the classes that do, and the AUC of their evidence (`log_odds`)
against all images of the others.

A regression: of the error, predicted less true, the median, the mean (bias), half the range that
holds 68 %, the mean without signs (MAE), and R2 within the bin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.core.scoring.auc import auc_interval
from deeplense_batch.core.scoring.proportions import wilson
from deeplense_batch.report.predictions import Predictions
from deeplense_batch.report.statistics import bootstrap
from deeplense_batch.report.statistics.bootstrap import Statistic
from deeplense_batch.report.studies.selection.bins import Bins, log_odds

__all__ = ["FEWEST", "TITLES", "InBins", "Measured", "measures"]

FEWEST = 5  # images, of each kind that it compares, that a number needs

TITLES = {
    "completeness": "completeness",
    "purity": "purity",
    "false_positive_rate": "false positive rate",
    "auc": "AUC",
    "accuracy": "accuracy",
    "recall": "recall",
    "psnr": "PSNR (dB)",
    "gain": "gain over fitted bicubic (dB)",
    "ssim": "SSIM",
    "median_error": "median error",
    "scatter": "68 % scatter",
    "bias": "mean error (bias)",
    "mae": "MAE",
    "r2": "R2",
}


@dataclass(frozen=True)
class InBins:
    """The images of a test slice, N, in the bins of a quantity."""

    bins: Bins  # which hold images of the classes that have the quantity alone
    targets: NDArray[np.int64]  # (N,) class numbers; -1 for no label
    have: tuple[int, ...]  # numbers of the classes that have the quantity; of a regression none
    searched: int | None  # number of the class that a detection searches for

    def holds(self, bin_: int) -> NDArray[np.bool_]:
        """Those of one bin, (N,)."""
        return self.bins.numbers == bin_


@dataclass(frozen=True)
class Measured:
    """One number of one bin, of one run."""

    statistic: Statistic
    #: Its 95 % interval by the number of images alone, where all resamples are alike.
    by_size: Callable[[float], tuple[float, float]] | None = None


def measures(samples: Predictions, images: InBins) -> Mapping[str, Sequence[Measured | None]]:
    """What is measured of one run in each of K bins.

    Arguments:
        samples: What it says of the images, N, and which it calls lenses.
        images: The bins.

    Returns:
        By name of `TITLES`, (K,); None of a bin with fewer than `FEWEST` images.
    """
    if samples.numbers is not None:
        return _of_errors(samples.numbers, images)
    if samples.measured is not None:
        return _of_restored(samples.measured, images)
    assert samples.probabilities is not None
    if images.searched is not None:
        return _of_a_search(samples.probabilities, images, images.searched, samples.called)
    return _of_classes(samples.probabilities, images)


def _of_a_search(
    probabilities: NDArray[np.float64],
    images: InBins,
    positive: int,
    called: NDArray[np.bool_] | None,
) -> dict[str, list[Measured | None]]:
    lens, score = images.targets == positive, log_odds(probabilities, [positive])
    other = (images.targets >= 0) & ~lens
    found: dict[str, list[Measured | None]] = {}
    both = positive in images.have and len(images.have) > 1
    if called is not None:
        shares = {"completeness": (lens, called)} if positive in images.have else {}
        shares |= {"purity": (called, lens)} if both else {}
        shares |= {} if shares else {"false_positive_rate": (other, called)}
        for name, (of, hits) in shares.items():
            found[name] = [_share(hits, of & images.holds(k)) for k in range(len(images.bins))]
    inside = [images.holds(k) for k in range(len(images.bins))]
    if images.have == (positive,):
        found["auc"] = _areas(score, [lens & here for here in inside], other)
        return found
    found["auc"] = [_area(score, lens & here if both else lens, other & here) for here in inside]
    return found


def _of_classes(
    probabilities: NDArray[np.float64], images: InBins
) -> dict[str, list[Measured | None]]:
    targets, bins = images.targets, range(len(images.bins))
    there = np.unique(targets[targets >= 0])
    right = probabilities.argmax(1) == targets
    if set(there.tolist()) <= set(images.have):
        return {
            "auc": [_macro(probabilities, targets, images.holds(k), there) for k in bins],
            "accuracy": [_share(right, images.holds(k)) for k in bins],
        }
    evidence = log_odds(probabilities, images.have)
    none = (targets >= 0) & ~np.isin(targets, images.have)
    return {
        "auc": _areas(evidence, [images.holds(k) for k in bins], none),
        "recall": [_share(right, images.holds(k)) for k in bins],
    }


def _of_errors(numbers: NDArray[np.float64], images: InBins) -> dict[str, list[Measured | None]]:
    true, predicted = numbers.T
    found: dict[str, list[Measured | None]] = {}
    for k in range(len(images.bins)):
        here = images.holds(k)
        t, error = true[here], (predicted - true)[here]
        median, low, high = (bootstrap.quantile_of(error, q) for q in (0.5, 0.16, 0.84))
        statistics: dict[str, Statistic] = {
            "median_error": median,
            "scatter": _half_range(low, high),
            "bias": bootstrap.mean_of(error),
            "mae": bootstrap.mean_of(np.abs(error)),
            "r2": bootstrap.r2(t, t + error),
        }
        enough = here.sum() >= FEWEST
        for name, one in statistics.items():
            own = Measured(bootstrap.within(here, one)) if enough else None
            found.setdefault(name, []).append(own)
    return found


def _of_restored(
    measured: Mapping[str, NDArray[np.float64]], images: InBins
) -> dict[str, list[Measured | None]]:
    inside = [images.holds(k) for k in range(len(images.bins))]
    return {
        name: [
            Measured(bootstrap.within(here, bootstrap.mean_of(measured[name][here])))
            if here.sum() >= FEWEST
            else None
            for here in inside
        ]
        for name in ("psnr", "gain", "ssim")
        if name in measured
    }


def _half_range(low: Statistic, high: Statistic) -> Statistic:
    return lambda counts: (high(counts) - low(counts)) / 2


def _share(hits: NDArray[np.bool_], of: NDArray[np.bool_]) -> Measured | None:
    """How many of some images are hits."""
    trials = int(of.sum())
    if trials < FEWEST:
        return None

    def by_size(share: float) -> tuple[float, float]:
        low, high = wilson(share * trials, trials)
        return float(low), float(high)

    return Measured(bootstrap.within(of, bootstrap.mean_of(hits[of])), by_size)


def _area(
    score: NDArray[np.float64], ours: NDArray[np.bool_], others: NDArray[np.bool_]
) -> Measured | None:
    """The area under the ROC curve of some images against others."""
    sizes = int(ours.sum()), int(others.sum())
    if min(sizes) < FEWEST:
        return None
    both = ours | others
    area = bootstrap.within(both, bootstrap.auc(ours[both], score[both]))
    return Measured(area, lambda auc: auc_interval(auc, *sizes))


def _areas(
    score: NDArray[np.float64], parts: Sequence[NDArray[np.bool_]], others: NDArray[np.bool_]
) -> list[Measured | None]:
    """That of each of several parts of the images against the same others."""
    number = int(others.sum())

    def by_size(part: NDArray[np.bool_]) -> Callable[[float], tuple[float, float]]:
        return lambda auc: auc_interval(auc, int(part.sum()), number)

    return [
        Measured(area, by_size(part)) if min(int(part.sum()), number) >= FEWEST else None
        for area, part in zip(bootstrap.areas(parts, others, score), parts, strict=True)
    ]


def _macro(
    probabilities: NDArray[np.float64],
    targets: NDArray[np.int64],
    here: NDArray[np.bool_],
    there: NDArray[np.int64],
) -> Measured | None:
    """The mean over classes of the area of one against the rest, where all classes are there."""
    sizes = [int((targets[here] == k).sum()) for k in there]
    if len(sizes) < 2 or min(sizes) < FEWEST:
        return None
    area = bootstrap.within(here, bootstrap.macro_auc(targets[here], probabilities[here]))
    rarest = min(sizes)
    return Measured(area, lambda auc: auc_interval(auc, rarest, sum(sizes) - rarest))
