"""The numbers of models in bins: means over their runs, with intervals.

An interval, of 95 %, is the bootstrap's over test images, or over groups of them: one set of
resamples for all numbers of a comparison. It speaks of the networks that were trained, not of
others of the same recipe, whose spread the numbers of single runs show. Where all resamples are
alike, as of a share of 0 or 1, it is that by the number of images (Wilson; `auc.auc_interval`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.report.predictions import Predictions
from deeplense_batch.report.run_table import Row
from deeplense_batch.report.statistics import bootstrap
from deeplense_batch.report.studies.selection.measures import TITLES, InBins, Measured, measures

__all__ = ["Answers", "numbers"]

Answers = Mapping[str, Sequence[Predictions]]  # of each run, by label of its model

_ALIKE = 1e-9  # width of an interval of resamples that do not differ


def numbers(
    answers: Answers, images: InBins, strata: NDArray, groups: NDArray | None
) -> tuple[list[str], list[Row]]:
    """Measure models in bins.

    Arguments:
        answers: Of all their runs.
        images: The bins, K.
        strata, groups: Of the images, (N,), as `bootstrap.bootstrap` takes them.

    Returns:
        Names of what is measured. And JSON of each model: ``label``, ``runs``, and ``numbers`` by
        name, (K,), each null or ``value``, ``low``, ``high`` (null where there is no interval) and
        ``runs``, the value of each run, null of one that has none.
    """
    found = {
        label: [measures(samples, images) for samples in runs] for label, runs in answers.items()
    }
    names = list(dict.fromkeys(n for runs in found.values() for run in runs for n in run))
    names = [name for name in TITLES if name in names]
    wanted = [
        (label, name, k, number, one)
        for label, runs in found.items() for name in names for k in range(len(images.bins))
        for number, run in enumerate(runs)
        if name in run and (one := run[name][k]) is not None
    ]  # fmt: skip
    if not wanted:
        return names, [_row(label, len(runs), {}, names, images) for label, runs in found.items()]
    statistics = [one.statistic for *_, one in wanted]
    resampled = bootstrap.bootstrap(statistics, strata, groups=groups)
    every = np.ones((len(strata), 1), np.uint32)  # each image once: the test slice itself
    cells: dict[tuple[str, str, int], list[_Number]] = {}
    for (label, name, k, number, one), drawn in zip(wanted, resampled, strict=True):
        value = float(one.statistic(every)[0])
        if np.isfinite(value):
            cells.setdefault((label, name, k), []).append(_Number(number, value, drawn, one))
    return names, [_row(label, len(runs), cells, names, images) for label, runs in found.items()]


class _Number(NamedTuple):
    """One number of one run in one bin."""

    run: int  # which of the runs of its model
    value: float
    drawn: NDArray[np.float64]  # (B,) on the resamples
    measured: Measured


def _row(
    label: str,
    runs: int,
    cells: Mapping[tuple[str, str, int], Sequence[_Number]],
    names: Sequence[str],
    images: InBins,
) -> Row:
    """One model of `study`."""
    numbers = {
        name: [_cell(cells.get((label, name, k), ()), runs) for k in range(len(images.bins))]
        for name in names
    }
    return {"label": label, "runs": runs, "numbers": numbers}


def _cell(numbers: Sequence[_Number], runs: int) -> Row | None:
    """The mean over the runs that have a number, and its interval."""
    if not numbers:
        return None
    value = float(np.mean([one.value for one in numbers]))
    low, high = _interval(value, numbers)
    values: list[float | None] = [None] * runs
    for one in numbers:
        values[one.run] = one.value
    return {"value": value, "low": low, "high": high, "runs": values}


def _interval(value: float, numbers: Sequence[_Number]) -> tuple[float | None, float | None]:
    drawn = np.mean([one.drawn for one in numbers], axis=0)
    if np.isfinite(drawn).any():
        low, high = bootstrap.interval(drawn)
        if high - low > _ALIKE:
            return low, high
    by_size = numbers[0].measured.by_size
    return (None, None) if by_size is None else by_size(value)
