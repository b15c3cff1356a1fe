"""Intervals of what was counted: a share, and the ratio of two shares."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["ratio_interval", "wilson"]

_Z = 1.959963984540054  # of 95 %, two sides


def wilson(hits: ArrayLike, trials: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The 95 % interval of Wilson (1927) of a share, which holds for few hits and for none.

    Arguments:
        hits: Of the trials, of any shape.
        trials: Above 0, of the same shape.

    Returns:
        Lower and upper ends, in [0, 1].
    """
    hits, trials = np.asarray(hits, np.float64), np.asarray(trials, np.float64)
    centre = (hits + _Z**2 / 2) / (trials + _Z**2)
    half = _Z * np.sqrt(hits * (trials - hits) / trials + _Z**2 / 4) / (trials + _Z**2)
    low = np.where(hits == 0, 0.0, np.maximum(centre - half, 0))
    return low, np.where(hits == trials, 1.0, np.minimum(centre + half, 1))


def ratio_interval(
    hits: int, trials: int, other_hits: int, other_trials: int
) -> tuple[float, float]:
    """The 95 % interval of one share over another, of two samples.

    The ends come of those of Wilson of each (Donner and Zou 2012, Stat. Methods Med. Res. 21,
    347), so that neither needs a hit.

    Returns:
        Lower and upper end; the upper one is infinite where the other share may be 0.
    """
    a, b = hits / trials, other_hits / other_trials
    (a_low, b_low), (a_high, b_high) = wilson([hits, other_hits], [trials, other_trials])
    least = _end(a, b, a_low, b_high, -1)
    return max(least, 0.0), _end(a, b, a_high, b_low, 1) if b_low > 0 else np.inf


def _end(a: float, b: float, a_end: float, b_end: float, sign: int) -> float:
    """One end of a / b, by one end of each."""
    under = (a * b) ** 2 - a_end * b_end * (2 * a - a_end) * (2 * b - b_end)
    return float((a * b + sign * np.sqrt(max(under, 0.0))) / (b_end * (2 * b - b_end)))
