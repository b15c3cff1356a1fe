"""Scores of several numbers, against those of each, and of a mixture against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import r2_score

from deeplense_batch.core.scoring.posteriors.numbers import Several, mixed, scores

NAMES = ("a", "b")


@pytest.fixture
def outputs() -> dict[str, np.ndarray]:
    """Of 400 images with a right Gaussian posterior."""
    random = np.random.default_rng(0)
    predicted, sd = random.normal(size=(400, 2)), np.full((400, 2), (0.5, 0.2))
    true = predicted + sd * random.normal(size=(400, 2))
    return {"true": true, "predicted": predicted, "sd": sd,
            "rank": stats.norm.cdf(true, predicted, sd), "crps": np.abs(true - predicted) / 2,
            "log_prob": stats.norm.logpdf(true, predicted, sd).sum(1),
            "tarp": random.uniform(size=400)}  # fmt: skip


def test_numbers_are_scored_each_and_together(outputs):
    found, notes = scores({name: outputs[name] for name in ("true", "predicted")}, NAMES)
    true, predicted = outputs["true"], outputs["predicted"]
    each = [r2_score(t, p) for t, p in zip(true.T, predicted.T, strict=True)]
    assert [found["r2_a"], found["r2_b"]] == pytest.approx(each) and not notes
    assert found["r2"] == pytest.approx(np.mean(each)) == 1 - found["loss"]
    assert found["rmse_a"] == pytest.approx(np.sqrt(np.mean((predicted - true)[:, 0] ** 2)))
    assert found["mae_b"] == pytest.approx(np.abs(predicted - true)[:, 1].mean())
    assert found["bias_b"] == pytest.approx((predicted - true)[:, 1].mean())


def test_a_right_posterior_has_the_scores_of_one(outputs):
    found, _ = scores(outputs, NAMES)
    assert found["log_prob"] == pytest.approx(outputs["log_prob"].mean()) == -found["nll"]
    assert found["loss"] == found["nll"]
    for name in NAMES:
        assert found[f"coverage68_{name}"] == pytest.approx(0.68, abs=0.07)
        assert found[f"coverage95_{name}"] == pytest.approx(0.95, abs=0.04)
        assert found[f"pull_mean_{name}"] == pytest.approx(0, abs=0.15)
        assert found[f"pull_sd_{name}"] == pytest.approx(1, abs=0.1)
        assert found[f"coverage_error_{name}"] < 1.5 * found["coverage_error_floor"]
    assert found["crps_a"] == pytest.approx(outputs["crps"][:, 0].mean())


def test_error_bars_that_are_half_as_wide_are_seen(outputs):
    narrow = outputs | {"sd": outputs["sd"] / 2}
    narrow["rank"] = stats.norm.cdf(narrow["true"], narrow["predicted"], narrow["sd"])
    found, _ = scores(narrow, NAMES)
    assert found["coverage68_a"] == pytest.approx(0.38, abs=0.06)
    assert found["pull_sd_a"] == pytest.approx(2, abs=0.2)
    assert found["coverage_error_a"] > 3 * found["coverage_error_floor"]


def test_where_a_number_is_unknown(outputs):
    true = outputs["true"].copy()
    true[:100, 0] = np.nan
    plain, notes = scores({"true": true, "predicted": outputs["predicted"]}, NAMES)
    assert notes == ["a: 100 of 400 have no true value"]
    whole, _ = scores({"true": outputs["true"], "predicted": outputs["predicted"]}, NAMES)
    assert plain["r2_b"] == whole["r2_b"] and plain["r2_a"] != whole["r2_a"]
    found, notes = scores(outputs | {"true": true}, NAMES)
    assert notes == ["300 of 400 images have all numbers; a is unknown in 100"]
    rest, _ = scores({name: values[100:] for name, values in outputs.items()}, NAMES)
    assert found == pytest.approx(rest)
    nothing, _ = scores(outputs | {"true": np.full_like(true, np.nan)}, NAMES)
    assert nothing["r2"] is None and nothing["log_prob"] is None and nothing["loss"] is None


def test_numbers_of_the_parts_of_a_split_are_put_together_in_order(outputs):
    assert Several.of({"true": outputs["true"][:, 0]}) is None
    named = outputs | {"quantities": np.array(NAMES)}
    parts = [Several.of(named | {k: outputs[k][some] for k in ("log_prob", "crps", "rank")})
             for some in (slice(200, 400), slice(200))]  # fmt: skip
    whole = Several.joined(parts, np.roll(np.arange(400), 200))
    assert whole.names == NAMES and set(whole.posterior) == {"log_prob", "crps", "rank"}
    for name, values in whole.posterior.items():
        assert np.array_equal(values, outputs[name]), name
    assert Several.joined([parts[0], None], np.arange(200)) is None


def test_a_mixture_is_that_of_the_densities(outputs):
    other = outputs | {"predicted": outputs["predicted"] + 0.5, "sd": outputs["sd"] * 2}
    other["log_prob"] = stats.norm.logpdf(other["true"], other["predicted"], other["sd"]).sum(1)
    other["rank"] = stats.norm.cdf(other["true"], other["predicted"], other["sd"])
    found = mixed([outputs, other])
    assert set(found) == {"predicted", "sd", "log_prob", "rank"}
    both = (np.exp(outputs["log_prob"]) + np.exp(other["log_prob"])) / 2
    assert found["log_prob"] == pytest.approx(np.log(both))
    random, first = np.random.default_rng(1), 7
    drawn = np.concatenate([random.normal(one["predicted"][first], one["sd"][first], (40_000, 2))
                            for one in (outputs, other)])  # fmt: skip
    assert found["predicted"][first] == pytest.approx(drawn.mean(0), abs=0.02)
    assert found["sd"][first] == pytest.approx(drawn.std(0), rel=0.02)
    assert found["rank"][first] == pytest.approx(
        (drawn < outputs["true"][first]).mean(0), abs=0.02
    )
    scored, notes = scores(found | {"true": outputs["true"]}, NAMES)
    assert "crps_a" not in scored and "tarp_error" not in scored
    assert notes == ["of a mixture of posteriors neither CRPS nor TARP is known"]
