"""Scores of several numbers on resamples: those of the slice where each image counts once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deeplense_batch.core.scoring.posteriors.numbers import Several, scores
from deeplense_batch.report.predictions import Predictions
from deeplense_batch.report.statistics.several_numbers import (
    as_single,
    averaged_numbers,
    scored_images,
    scores_of,
    statistics_of,
)

NAMES = ("a", "b")


def made(seed: int = 0) -> Predictions:
    random = np.random.default_rng(seed)
    true = np.random.default_rng(5).normal(size=(60, 2))
    true[:10, 0], true[50:, 1] = np.nan, np.nan
    numbers = np.stack([true, true + random.normal(size=(60, 2))], axis=1)
    numbers[:, 1] = np.nan_to_num(numbers[:, 1])
    known = np.isfinite(true).all(1)
    kept = {"log_prob": random.normal(size=60), "crps": random.uniform(size=(60, 2)),
            "rank": random.uniform(size=(60, 2))}  # fmt: skip
    kept = {
        n: np.where(known if v.ndim == 1 else known[:, None], v, np.nan) for n, v in kept.items()
    }
    ids = np.arange(60).astype(str)
    return Predictions(ids, np.zeros(60, np.int64), (), numbers=numbers,
                       several=Several(NAMES, kept))  # fmt: skip


def arrays_of(samples: Predictions) -> dict[str, np.ndarray]:
    kept = dict(samples.several.posterior)
    kept |= {"sd": np.ones((60, 2))} if kept else {}
    return {"true": samples.numbers[:, 0], "predicted": samples.numbers[:, 1]} | kept


@pytest.mark.parametrize("posterior", [True, False])
def test_a_resample_that_has_every_image_once_has_the_scores_of_the_slice(posterior):
    samples = made() if posterior else replace(made(), several=Several(NAMES, {}))
    found, _ = scores(arrays_of(samples), NAMES)
    scored = scored_images(samples)
    assert scored.sum() == (40 if posterior else 60)
    statistics = statistics_of(samples)
    names = {"r2", "r2_a", "mae_b"}
    names |= {"log_prob", "crps_a", "coverage68_b"} if posterior else set()
    assert names <= set(statistics)
    once = np.ones((scored.sum(), 1), np.uint16)
    for name, statistic in statistics.items():
        assert statistic(once)[0] == pytest.approx(found[name]), name
    assert scores_of(samples)["r2"] == pytest.approx(found["r2"])


def test_an_ensemble_has_the_mean_and_the_density_of_the_mixture():
    one, other = made(0), made(1)
    mean = averaged_numbers([one, other])
    numbers, kept = mean.numbers, mean.several.posterior
    assert np.array_equal(numbers[:, 0], one.numbers[:, 0], equal_nan=True)
    assert numbers[:, 1] == pytest.approx((one.numbers[:, 1] + other.numbers[:, 1]) / 2)
    logs = np.exp(one.several.posterior["log_prob"]) + np.exp(other.several.posterior["log_prob"])
    assert kept["log_prob"] == pytest.approx(np.log(logs / 2), nan_ok=True)
    plain = averaged_numbers([replace(m, several=Several(NAMES, {})) for m in (one, other)])
    assert plain.several == Several(NAMES, {})


def test_one_number_is_a_number_whatever_way_it_is_said():
    both = made()
    assert as_single(both) is both
    one = replace(both, numbers=both.numbers[..., :1], several=Several(("a",), {}))
    alone = as_single(one)
    assert alone.several is None and alone.numbers.shape == (60, 2)
    np.testing.assert_array_equal(alone.numbers, both.numbers[..., 0])
    assert as_single(alone) is alone
