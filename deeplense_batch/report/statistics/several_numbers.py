"""Scores of several predicted numbers, and of their posterior, as statistics of resamples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.core.scoring.posteriors.coverage import central
from deeplense_batch.core.scoring.posteriors.numbers import ONE_SIGMA, Several, mixed, scores
from deeplense_batch.report.predictions import Predictions
from deeplense_batch.report.statistics import bootstrap

__all__ = ["as_single", "averaged_numbers", "scored_images", "scores_of", "statistics_of"]


def as_single(samples: Predictions) -> Predictions:
    """Answers that are one number of each image, however the recipe says it, as that number.

    ``targets: [theta_e]`` alone, or the mean of a posterior of ``theta_e``, is as ``target:
    theta_e``; all other answers are as they were.
    """
    if samples.several is None or samples.numbers is None or len(samples.several.names) > 1:
        return samples
    return replace(samples, numbers=samples.numbers[:, :, 0], several=None)


def scored_images(samples: Predictions) -> NDArray[np.bool_]:
    """Images that are scored, (N,): of which all numbers are known, or any without a posterior."""
    assert samples.numbers is not None and samples.several is not None
    known = np.isfinite(samples.numbers[:, 0])
    return np.asarray(known.all(1) if samples.several.posterior else known.any(1))


def statistics_of(samples: Predictions) -> dict[str, bootstrap.Statistic]:
    """Scores that get an interval, by their names in `metrics.json`.

    They are statistics of the images of `scored_images`.
    """
    assert samples.numbers is not None and samples.several is not None
    names, posterior = samples.several.names, samples.several.posterior
    scored = scored_images(samples)
    true, predicted = samples.numbers[scored].swapaxes(0, 1)  # (N, D) each
    found: dict[str, bootstrap.Statistic] = {}
    squares: list[bootstrap.Statistic] = []
    for d, name in enumerate(names):
        known = np.isfinite(true[:, d])
        if not known.any() or np.ptp(true[known, d]) == 0:
            continue
        t, p = true[known, d], predicted[known, d]
        squares.append(bootstrap.within(known, bootstrap.r2(t, p)))
        error = bootstrap.mean_of(np.abs(p - t))
        found |= {f"r2_{name}": squares[-1], f"mae_{name}": bootstrap.within(known, error)}
    if len(squares) == len(names):
        found["r2"] = lambda counts: np.mean([one(counts) for one in squares], axis=0)
    kept = {name: values[scored] for name, values in posterior.items()}
    if "log_prob" in kept:
        found["log_prob"] = bootstrap.mean_of(kept["log_prob"])
    for d, name in enumerate(names):
        if "crps" in kept:
            found[f"crps_{name}"] = bootstrap.mean_of(kept["crps"][:, d])
        if "rank" in kept:
            inside = central(kept["rank"][:, d]) <= ONE_SIGMA
            found[f"coverage{100 * ONE_SIGMA:.0f}_{name}"] = bootstrap.mean_of(inside)
    return found


def scores_of(samples: Predictions) -> dict[str, float | None]:
    """The scores ``r2`` and, of a posterior, ``log_prob``."""
    assert samples.numbers is not None and samples.several is not None
    names, posterior = samples.several.names, samples.several.posterior
    scored = scored_images(samples)
    true, predicted = samples.numbers[scored].swapaxes(0, 1)
    found, _ = scores({"true": true, "predicted": predicted}, names)
    one: dict[str, float | None] = {"r2": found["r2"]}
    if "log_prob" in posterior:
        one["log_prob"] = float(posterior["log_prob"][scored].mean())
    return one


def averaged_numbers(members: Sequence[Predictions]) -> Predictions:
    """The mean answer of several runs to the same images, with the density of the mixture."""
    first, several = members[0], [one.several for one in members if one.several is not None]
    numbers = np.stack([one.numbers for one in members if one.numbers is not None])
    kept: dict[str, NDArray] = {}
    if all("log_prob" in one.posterior for one in several):
        made = mixed(
            [
                {"predicted": own[:, 1], "sd": np.ones_like(own[:, 1]), **one.posterior}
                for own, one in zip(numbers, several, strict=True)
            ]
        )
        kept = {name: made[name] for name in ("log_prob", "rank")}
    mean = np.stack([numbers[0, :, 0], numbers[:, :, 1].mean(0)], axis=1)
    return replace(first, numbers=mean, several=Several(several[0].names, kept))
