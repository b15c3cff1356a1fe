"""What networks lose from their own test set to another: one score on two samples of images.

The mean over n networks of their difference d = s(own) - s(other) has the variance

    V = var*(own) + var*(other) + t^2 / n        t^2 = s^2 - p^2

The two test sets hold other images, so their noise is independent: var* is that of the difference
of resamples of each, drawn apart. s^2 is the variance of d over the networks, p^2 what of it the
test images do to a single network alone (`statistics.variance`); t^2 is pooled over the training
sets that are compared on one test set, in units of the room that d has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.report.statistics.variance import Components, Estimates, SampleNoise

__all__ = ["OnBoth", "OnOne", "lost"]

_ALIKE = 1e-12  # sd of resamples that are all alike
_NORMAL = 1.959964  # half the width of 95% of a normal distribution, in sd

Array = NDArray[np.float64]


class OnOne(NamedTuple):
    """Scores of some networks on one test set."""

    scores: Array  # (n,)
    resampled: Array  # (n, B), on resamples of the test set
    freedom: float  # degrees of freedom of the noise of the test set
    room: float  # how far the mean score is from where it cannot vary
    width: float = 0.0  # of the interval of the mean by the number of samples alone

    @property
    def seen(self) -> float:
        """The variance of the mean over resamples."""
        means = self.resampled.mean(axis=0)
        return float(means[np.isfinite(means)].var(ddof=1))

    @property
    def unseen(self) -> float:
        """The variance of the mean where all resamples are alike, as of an area of 1.

        It is that of the interval by the number of samples, which lies on one side.
        """
        return 0.0 if self.seen > _ALIKE**2 else (self.width / _NORMAL) ** 2


class OnBoth(NamedTuple):
    """The same networks, in the same order, on their own test set and on another."""

    own: OnOne
    other: OnOne


def lost(pairs: Sequence[OnBoth]) -> Estimates:
    """What is lost by the networks of each training set on one other test set.

    Arguments:
        pairs: One for each training set. Resamples of the other test set are the same for all,
            those of every own test set are drawn apart from them.

    Returns:
        The mean of the score on the own test set less that on the other, (M,), and its noise.
    """
    scores = [pair.own.scores - pair.other.scores for pair in pairs]
    noise = SampleNoise.of([pair.own.resampled - pair.other.resampled for pair in pairs])
    unseen = np.diag([pair.own.unseen + pair.other.unseen for pair in pairs])
    room = [float(np.hypot(pair.own.room, pair.other.room)) for pair in pairs]
    freedom = np.array([_freedom(pair) for pair in pairs])
    return Components(scores, noise._replace(means=noise.means + unseen), freedom, room).means()


def _freedom(pair: OnBoth) -> float:
    """Degrees of freedom of the noise of two test sets together (Satterthwaite)."""
    parts = [(one.seen + one.unseen, one.freedom) for one in pair]
    whole = sum(noise for noise, _ in parts)
    doubt = sum(noise**2 / freedom for noise, freedom in parts)
    return whole**2 / doubt if doubt else min(freedom for _, freedom in parts)
