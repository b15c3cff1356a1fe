"""What the runs of a comparison predicted, and their scores on the same resamples of its samples.

All that a comparison says of noise is of these resamples (`bootstrap`), so that whatever is
compared is paired: models with the best, and an ensemble with its members.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.core.scoring.auc import auc_interval
from deeplense_batch.report.compare import ModelRuns
from deeplense_batch.report.predictions import (
    Predictions,
    PredictionsError,
    in_order,
    predictions_of,
)
from deeplense_batch.report.statistics import bootstrap
from deeplense_batch.report.statistics.several_numbers import scored_images, statistics_of
from deeplense_batch.report.statistics.variance import bounded_interval

__all__ = ["Resamples"]

# Beginnings of the names of scores that are no shares of samples or pairs.
_ANY_SIZE = ("r2", "mae", "nll", "ece", "log_prob", "crps", "psnr", "gain", "mse")
_NOT_BELOW_0 = ("nll", "ece", "mae_", "crps", "mse")
_OF_IMAGES = ("psnr", "ssim", "mse", "gain", "psnr_clean", "ssim_clean", "gain_clean")
_ROUNDING = 1e-9

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Resamples:
    """Predictions of the runs of a comparison, and their scores on the same resamples."""

    predictions: Mapping[str, Predictions]  # by folder of the run; of a model all its, or none
    scores: Mapping[str, Mapping[str, Array]]  # (B,) by folder of the run and name
    faults: Mapping[str, Sequence[str]]  # why there are none, and of which models, by label
    seed: int = 0  # of the resamples

    @classmethod
    def of(
        cls, models: Sequence[ModelRuns], *, only: str | None = None, seed: int = 0
    ) -> Resamples:
        """Read what every run predicted, and score it on resamples.

        Arguments:
            models: Of one comparison.
            only: Name of the one score that is wanted; by default all that get an interval.
            seed: Of the resamples: those of two test slices are independent with one for each.
        """
        drawn = cls.unscored(models, seed=seed)
        predictions = drawn.predictions
        wanted = [
            (run, name, statistic)
            for run, own in predictions.items()
            for name, statistic in _statistics(own)
            if only in (None, name)
        ]
        scores: dict[str, dict[str, Array]] = {run: {} for run in predictions}
        values = drawn.draw([one for _, _, one in wanted])
        for (run, name, _), row in zip(wanted, values, strict=True):
            scores[run][name] = row
        return replace(drawn, scores=scores)

    @classmethod
    def unscored(cls, models: Sequence[ModelRuns], *, seed: int = 0) -> Resamples:
        """Read what every run predicted, and score nothing yet; arguments as of `of`."""
        predictions, faults = _predictions(models)
        return cls(predictions, {}, faults, seed)

    def draw(self, statistics: Sequence[bootstrap.Statistic]) -> Array:
        """Further statistics of the samples that are scored, on the same resamples, (S, B)."""
        if not statistics:
            return np.empty((0, bootstrap.RESAMPLES))
        strata, groups = self._drawn_from
        return bootstrap.bootstrap(statistics, strata, groups=groups, seed=self.seed)

    @cached_property
    def samples(self) -> Predictions:
        """Those of the first run, with the groups of the samples if any run has kept them."""
        first, *others = self.predictions.values()
        kept = (one.grouping for one in (first, *others) if one.grouping is not None)
        return replace(first, grouping=next(kept, None))

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Samples that are scored, (N,): of a regression those whose true number is known."""
        return _scored(self.samples)

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the noise of the test sample: samples, or groups, less strata."""
        strata, groups = self._drawn_from
        if groups is None:
            strata = self.samples.targets
        else:
            strata, _ = bootstrap.grouped(strata, groups)
        return max(len(strata) - len(np.unique(strata)), 1)

    def limits(
        self, name: str, value: float, half: float, drawn: Array
    ) -> tuple[float, float] | None:
        """The 95% interval of a score; None where all resamples are alike, which say nothing.

        A score that is a share has it on the scale of the logit; at 0 and 1, where that has no
        place for one, an area has that of the number of samples, since all resamples of a sample
        without a fault are without one, and other scores that of their percentiles.

        Arguments:
            name: Of the score.
            value: The score.
            half: Half the width of its interval, as if it were symmetric.
            drawn: The score on every resample, (B,).
        """
        if name.startswith(_ANY_SIZE):
            low = value - half
            bounds = max(low, 0.0) if name.startswith(_NOT_BELOW_0) else low, value + half
        elif (found := bounded_interval(value, half)) is not None:
            bounds = found
        elif name == "auc":
            counts = np.unique(self.samples.targets, return_counts=True)[1].tolist()
            bounds = auc_interval(value, min(counts), sum(counts) - min(counts))
        else:
            bounds = bootstrap.interval(drawn)
        return bounds if bounds[1] - bounds[0] > _ROUNDING else None

    @cached_property
    def _drawn_from(self) -> tuple[NDArray, NDArray | None]:
        """Stratum and, where there are groups, group of each sample that is scored."""
        samples, scored = self.samples, self.scored
        strata = samples.targets if samples.probabilities is not None else np.zeros(scored.sum())
        return strata, None if samples.grouping is None else samples.grouping.values[scored]


def _predictions(
    models: Sequence[ModelRuns],
) -> tuple[dict[str, Predictions], dict[str, list[str]]]:
    """The predictions of every run, by its folder; and why models have none, with their labels."""
    predictions: dict[str, Predictions] = {}
    faults: dict[str, list[str]] = {}
    first: Predictions | None = None
    for model in models:
        own = {}
        try:
            for run in model.runs:
                samples = predictions_of(run)
                if not _scored(samples).any():
                    raise PredictionsError("what it predicts is known of none of its test images")
                first = first or samples
                samples = in_order(samples, first.classes)
                _check_same(samples, first)
                own[run["run"]] = replace(samples, ids=first.ids, targets=first.targets)
        except PredictionsError as error:
            faults.setdefault(str(error), []).append(model.label)
            continue
        predictions |= own
    return predictions, faults


def _check_same(samples: Predictions, first: Predictions) -> None:
    same = (samples.ids, first.ids), (samples.targets, first.targets)
    if not all(np.array_equal(one, other) for one, other in same):
        raise PredictionsError("its test samples are not those of the others")


def _statistics(samples: Predictions) -> list[tuple[str, bootstrap.Statistic]]:
    """The scores that get an interval, by name."""
    targets, scores = samples.targets, samples.probabilities
    if samples.measured is not None:
        measured = samples.measured
        own = [name for name in _OF_IMAGES if name in measured]
        return [(name, bootstrap.mean_of(measured[name])) for name in own]
    if scores is None:
        assert samples.numbers is not None
        if samples.several:
            return [*statistics_of(samples).items()]
        true, predicted = samples.numbers[_scored(samples)].T
        return [
            ("r2", bootstrap.r2(true, predicted)),
            ("mae", bootstrap.mean_of(np.abs(predicted - true))),
        ]
    statistics = [("accuracy", bootstrap.accuracy(targets, scores))]
    if len(np.unique(targets)) > 1:
        statistics.append(("auc", bootstrap.macro_auc(targets, scores)))
    if scores.shape[1] == 2 and 0 < targets.sum() < len(targets):
        positive, ranked = targets == samples.positive, scores[:, samples.positive]
        area = bootstrap.average_precision(positive, ranked)
        statistics.append(("average_precision", area))
        tenth = 9 / (~positive).sum()  # of fewer than ten false positives
        rates = {"tpr0": 0.0, "tpr10": tenth} | {f"recall_fpr_1e-{n}": 10.0**-n for n in (2, 3, 4)}
        for name, rate in rates.items():
            statistics.append((name, bootstrap.recall_at(positive, ranked, rate)))
    return statistics


def _scored(samples: Predictions) -> NDArray[np.bool_]:
    """Samples that are scored, (N,)."""
    if samples.numbers is None:
        return np.ones(len(samples.ids), bool)
    if samples.several:
        return scored_images(samples)
    return np.isfinite(samples.numbers[:, 0])
