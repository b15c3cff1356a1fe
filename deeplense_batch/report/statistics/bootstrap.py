"""The paired stratified bootstrap over test samples, vectorised over resamples.

A resample is a count for each sample; a *statistic* is a function of such counts. All statistics
of a comparison see the same resamples, so that their differences are paired, and classes keep
their sizes. A statistic sorts its samples once; a resample is then sums over spans of them.

Images of one object or tile are not independent. Where a test set has such groups, whole groups
are drawn instead (the cluster bootstrap), those that hold the same classes among themselves, so
that every resample has every class.

References:
    Efron and Tibshirani 1993, An Introduction to the Bootstrap; Davison and Hinkley 1997,
    Bootstrap Methods and their Application, 3.8 (groups); Cameron, Gelbach and Miller 2008,
    Review of Economics and Statistics 90, 414 (groups; too narrow with few of them).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from deeplense_batch.core.machine import cores
from deeplense_batch.core.scoring.calibration import bins_of

__all__ = [
    "RESAMPLES",
    "Statistic",
    "accuracy",
    "areas",
    "auc",
    "average_precision",
    "bootstrap",
    "calibration_error",
    "grouped",
    "interval",
    "macro_auc",
    "mean_of",
    "quantile_of",
    "r2",
    "recall_at",
    "sign_p_value",
    "within",
]

RESAMPLES = 2000

Counts = NDArray[np.unsignedinteger]  # (N, B): how often a resample holds a sample
Statistic = Callable[[Counts], NDArray[np.float64]]  # (N, B) to (B,)

_CLOSE = 1e-9  # of a place among samples to a whole number
_SHARE = 32  # statistics that a thread computes in one go
_CELLS = 1 << 20  # of counts at once, so that a block stays in the cache


def bootstrap(
    statistics: Sequence[Statistic],
    strata: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Compute statistics on resamples of one test slice.

    Arguments:
        statistics: S of them.
        strata: Kind of each sample, (N,) integers; every resample holds as many of each.
        groups: Name or number of the group of each sample, (N,): whole groups are drawn, and a
            resample holds as many groups with the same kinds.
        resamples: Number B.
        seed: Of the resamples.

    Returns:
        (S, B), the same resample in a column.

    Raises:
        ValueError: There is no sample.
    """
    strata = np.asarray(strata)
    if not len(strata):
        raise ValueError("bootstrap: no sample")
    shares = [statistics[first : first + _SHARE] for first in range(0, len(statistics), _SHARE)]
    drawn, done = np.empty((len(statistics), resamples)), 0
    with ThreadPoolExecutor(cores()) as pool:
        for counts in _resamples(strata, resamples, seed, groups):
            block = slice(done, done := done + counts.shape[1])
            values = pool.map(lambda share, c=counts: [one(c) for one in share], shares)
            for number, row in enumerate(itertools.chain.from_iterable(values)):
                drawn[number, block] = row
    return drawn


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The central 95% interval of resampled scores, (B,), that are defined: their percentiles."""
    tail = (1 - 0.95) / 2
    low, high = np.quantile(values[np.isfinite(values)], (tail, 1 - tail))
    return float(low), float(high)


def sign_p_value(differences: NDArray[np.float64]) -> float:
    """Two-sided p-value of resampled differences, (B,): twice the share on the rarer side of 0.

    One is added to the counts, so that B resamples never claim less than 2 / (B + 1).
    """
    rarer = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (len(differences) + 1))


def macro_auc(targets: ArrayLike, scores: ArrayLike) -> Statistic:
    """The mean over classes of the area under the ROC curve of one class against the rest.

    Arguments:
        targets: Class numbers, (N,).
        scores: (N, K); classes without samples of both kinds are left out.
    """
    targets, scores = np.asarray(targets), np.asarray(scores)
    areas = [
        auc(targets == k, scores[:, k])
        for k in range(scores.shape[1])
        if 0 < (targets == k).sum() < len(targets)
    ]
    if scores.shape[1] == 2 and np.isin(targets, (0, 1)).all() and _mirrored(*scores.T):
        del areas[1:]  # the other is the same
    return lambda counts: np.mean([area(counts) for area in areas], axis=0)


def auc(positive: NDArray[np.bool_], scores: NDArray) -> Statistic:
    """The area under the ROC curve: the share of pairs in which the positive has the higher score.

    Arguments:
        positive: Whether a sample is of the class, (N,) bool; some are and some are not.
        scores: Higher means more likely of the class, (N,). A tie is one half of a pair.
    """
    above, below = _sorted(positive, scores), _sorted(~positive, scores)
    less = np.searchsorted(scores[below], scores[above], "left")
    not_more = np.searchsorted(scores[below], scores[above], "right")
    starts = np.flatnonzero(np.diff(less, prepend=-1) | np.diff(not_more, prepend=-1))
    groups = _spans(above, [*starts[1:], len(above)], len(scores))  # that beat the same samples
    ends = np.unique([*less, *not_more, len(below)])  # the last, for the number of all
    beaten = _spans(below, ends, len(scores))
    low, high = (np.searchsorted(ends, ranks[starts]) for ranks in (less, not_more))
    rows = len(starts)  # of spans that beat a number of their own, where there are no ties

    def area(counts: Counts) -> NDArray[np.float64]:
        sums, beating = np.cumsum(beaten @ counts, axis=0, dtype=np.int64), groups @ counts
        pairs = beating.sum(axis=0, dtype=np.int64) * sums[-1]
        return np.einsum("ib,ib->b", beating, sums[low] + sums[high]) / (2 * pairs)

    def area_without_ties(counts: Counts) -> NDArray[np.float64]:
        sums, beating = np.cumsum(beaten @ counts, axis=0, dtype=np.int64), groups @ counts
        pairs = beating.sum(axis=0, dtype=np.int64) * sums[-1]
        return np.einsum("ib,ib->b", beating, sums[:rows]) / pairs

    return area if (less < not_more).any() else area_without_ties


def areas(
    parts: Sequence[NDArray[np.bool_]], others: NDArray[np.bool_], scores: NDArray
) -> list[Statistic]:
    """`auc` of each of several parts against the same others, which are summed up once for all.

    Arguments:
        parts: Of the samples, (N,) bool each; NaN is the area of one that a resample lacks.
        others: What they are held against, (N,) bool.
        scores: As of `auc`, (N,).
    """
    own, below = _sorted(np.any(parts, axis=0), scores), _sorted(others, scores)
    less, not_more = (np.searchsorted(scores[below], scores[own], s) for s in ("left", "right"))
    ends = np.unique(np.concatenate([less, not_more, [len(below)]]))
    beaten = _spans(below, ends, len(scores))
    low, high = np.searchsorted(ends, less), np.searchsorted(ends, not_more)
    last: tuple[Counts, NDArray[np.int64], NDArray[np.int64]] | None = None

    def summed(counts: Counts) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Twice the others that each sample beats, (P, B), and all others, (B,)."""
        nonlocal last
        known = last  # another thread may go on to the next block
        if known is None or known[0] is not counts:
            sums = np.cumsum(beaten @ counts, axis=0, dtype=np.int64)
            last = known = counts, sums[low] + sums[high], sums[-1]
        return known[1], known[2]

    def of_part(part: NDArray[np.bool_]) -> Statistic:
        rows = np.flatnonzero(part[own])

        def area(counts: Counts) -> NDArray[np.float64]:
            (beating, number), times = summed(counts), counts[own[rows]]
            pairs = times.sum(axis=0, dtype=np.int64) * number
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.einsum("ib,ib->b", times, beating[rows]) / (2 * pairs)

        return area

    return [of_part(part) for part in parts]


def average_precision(positive: ArrayLike, scores: ArrayLike) -> Statistic:
    """The mean over positives of the precision at their score.

    Arguments:
        positive: Whether a sample is of the class, (N,) bool.
        scores: Higher means more likely of the class, (N,).
    """
    positive, falling = np.asarray(positive, bool), -np.asarray(scores)
    own, others = _sorted(positive, falling), _sorted(~positive, falling)
    right = np.searchsorted(falling[own], falling[own], "right")  # called with it, or before
    wrong = np.searchsorted(falling[others], falling[own], "right")
    ends = np.unique(wrong)
    false = _spans(others, ends, len(falling))
    wrong = np.searchsorted(ends, wrong)

    def precision(counts: Counts) -> NDArray[np.float64]:
        positives = counts[own]
        true = np.cumsum(positives, axis=0, dtype=np.int64)[right - 1]
        called = true + np.cumsum(false @ counts, axis=0, dtype=np.int64)[wrong]
        precisions = np.einsum("ib,ib->b", positives, true / np.maximum(called, 1))
        return precisions / positives.sum(axis=0)

    return precision


def recall_at(positive: ArrayLike, scores: ArrayLike, rate: float) -> Statistic:
    """The largest share of positives found with so few false positives.

    Arguments:
        positive: Whether a sample is of the class, (N,) bool.
        scores: Higher means more likely of the class, (N,).
        rate: Of false positives, as a share of the negatives; the count may be at most this.
    """
    positive, falling = np.asarray(positive, bool), -np.asarray(scores)
    own, others = _sorted(positive, falling), _sorted(~positive, falling)
    before = np.searchsorted(falling[own], falling[others], "left")  # found with less than each

    def recall(counts: Counts) -> NDArray[np.float64]:
        true = np.cumsum(counts[own], axis=0, dtype=np.int64)
        negatives = counts.sum(axis=0, dtype=np.int64) - true[-1]
        allowed = np.floor(rate * negatives + 1e-9)
        kept = min(len(others), 4 * int(allowed.max()) + 64)
        while True:  # the first negative that is one too many, of most resamples among the first
            false = np.cumsum(counts[others[:kept]], axis=0, dtype=np.int64)
            if kept == len(others) or (false[-1] > allowed).all():
                break
            kept = len(others)
        too_many = (false <= allowed).sum(axis=0)
        found = np.concatenate([before, [len(own)]])[np.minimum(too_many, len(others))]
        drawn = np.take_along_axis(true, np.maximum(found - 1, 0)[None], axis=0)[0]
        return np.where(found > 0, drawn, 0) / true[-1]

    return recall


def _mirrored(one: NDArray, other: NDArray) -> bool:
    """Whether samples that rise in one score, (N,), fall in the other, ties included."""
    rising = np.argsort(one, kind="stable")
    up, down = np.diff(one[rising]), -np.diff(other[rising])
    return bool((np.sign(up) == np.sign(down)).all())


def _sorted(chosen: NDArray[np.bool_], scores: NDArray) -> NDArray[np.intp]:
    """Indices of the chosen samples, by rising score."""
    indices = np.flatnonzero(chosen)
    return indices[np.argsort(scores[indices], kind="stable")]


def _spans(indices: NDArray[np.intp], ends: ArrayLike, samples: int) -> csr_array:
    """The matrix that sums counts over spans of indices, each up to its end: (spans, N)."""
    ends = np.asarray(ends)
    kept = indices[: ends[-1]]
    content = np.ones(len(kept), _type_of(samples)), kept, np.concatenate([[0], ends])
    return csr_array(content, shape=(len(ends), samples))


def _type_of(samples: int) -> type[np.unsignedinteger]:
    """The smallest type that holds any sum of counts: a product without conversion is fastest."""
    return np.uint16 if samples < 1 << 16 else np.uint32


def accuracy(targets: ArrayLike, scores: ArrayLike) -> Statistic:
    """The share of samples whose true class, (N,), has the highest of the scores, (N, K)."""
    right = np.flatnonzero(np.asarray(scores).argmax(axis=1) == np.asarray(targets))
    samples = len(np.asarray(targets))
    row = _spans(right, [len(right)], samples)
    return lambda counts: (row @ counts)[0] / counts.sum(axis=0, dtype=np.int64)


def mean_of(values: ArrayLike) -> Statistic:
    """The mean of a number of every sample, (N,)."""
    row = csr_array(np.asarray(values, np.float64)[None])
    return lambda counts: (row @ counts)[0] / counts.sum(axis=0, dtype=np.int64)


def calibration_error(targets: ArrayLike, probabilities: ArrayLike, bins: int = 15) -> Statistic:
    """The expected calibration error, as `calibration.expected_calibration_error` has it.

    Arguments:
        targets: Class numbers, (N,).
        probabilities: (N, K), rows of sum 1.
        bins: Number of bins of equal width.
    """
    values = np.asarray(probabilities, np.float64)
    confidence, right = values.max(axis=1), values.argmax(axis=1) == np.asarray(targets)
    places = bins_of(confidence, bins), np.arange(len(values))
    gaps = csr_array((right - confidence, places), shape=(bins, len(values)))
    return lambda counts: np.abs(gaps @ counts).sum(axis=0) / counts.sum(axis=0, dtype=np.int64)


def r2(true: ArrayLike, predicted: ArrayLike) -> Statistic:
    """1 less the squared error over that of the mean, of predicted numbers, (N,)."""
    true = np.asarray(true, np.float64)
    centred = true - true.mean()
    error, mean, square = (
        mean_of(values) for values in ((np.asarray(predicted) - true) ** 2, centred, centred**2)
    )

    def score(counts: Counts) -> NDArray[np.float64]:
        with np.errstate(divide="ignore", invalid="ignore"):  # one sample alone was drawn
            return 1 - error(counts) / (square(counts) - mean(counts) ** 2)

    return score


def quantile_of(values: ArrayLike, share: float) -> Statistic:
    """A quantile of a number of every sample, (N,): 0.5 is the median, as numpy's.

    Where the share falls between two samples it is their mean ("averaged_inverted_cdf").
    """
    values = np.asarray(values, np.float64)
    rising = np.argsort(values, kind="stable")
    ordered = values[rising]

    def quantile(counts: Counts) -> NDArray[np.float64]:
        up_to = np.cumsum(counts[rising], axis=0, dtype=np.int64)
        place = share * up_to[-1]
        ends = ((up_to < bound).sum(axis=0) for bound in (place - _CLOSE, place + _CLOSE))
        low, high = (ordered[np.minimum(end, len(ordered) - 1)] for end in ends)
        return np.where(up_to[-1] > 0, (low + high) / 2, np.nan)

    return quantile


def within(chosen: ArrayLike, statistic: Statistic) -> Statistic:
    """A statistic of some samples alone, (N,) bool; NaN where a resample has none of a kind."""
    rows = np.flatnonzero(np.asarray(chosen))

    def of_chosen(counts: Counts) -> NDArray[np.float64]:
        with np.errstate(divide="ignore", invalid="ignore"):
            return statistic(counts[rows])

    return of_chosen


def grouped(strata: ArrayLike, groups: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Groups as what is drawn.

    Arguments:
        strata: Kind of each sample, (N,) integers.
        groups: Name or number of the group of each, (N,).

    Returns:
        Stratum of each group, (G,): those that hold the same kinds are of one. And the number of
        the group of each sample, (N,).
    """
    kinds, kind_of = np.unique(np.asarray(strata), return_inverse=True)
    names, group_of = np.unique(np.asarray(groups), return_inverse=True)
    lacks = np.ones((len(names), len(kinds)), bool)
    lacks[group_of, kind_of] = False  # so that pure groups are ordered by their kind
    return np.unique(lacks, axis=0, return_inverse=True)[1].ravel(), group_of


def _resamples(
    strata: NDArray, resamples: int, seed: int, groups: ArrayLike | None = None
) -> Iterator[Counts]:
    """Draw samples, or whole groups of them, within each stratum, in blocks of (N, b)."""
    width = max(1, min(resamples, _CELLS // len(strata)))
    if groups is None:
        yield from _drawn(strata, resamples, seed, width)
        return
    strata, group_of = grouped(strata, groups)
    for counts in _drawn(strata, resamples, seed, width):
        yield counts.astype(np.uint32)[group_of]  # a resample may be longer than the slice


def _drawn(strata: NDArray, resamples: int, seed: int, most: int) -> Iterator[Counts]:
    """Draw with replacement within each stratum, in blocks of (N, b), b at most `most`."""
    random = np.random.default_rng(seed)
    members = [np.flatnonzero(strata == kind) for kind in np.unique(strata)]
    for start in range(0, resamples, most):
        width = min(most, resamples - start)
        counts = np.empty((len(strata), width), _type_of(len(strata)))
        for indices in members:
            size = len(indices)
            drawn = random.integers(0, size, (width, size)) + np.arange(width)[:, None] * size
            times = np.bincount(drawn.ravel(), minlength=width * size).reshape(width, size)
            counts[indices] = times.T
        yield counts
