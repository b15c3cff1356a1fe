"""What is kept of a posterior, against scipy and against distributions whose scores are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from deeplense_batch.core.scoring.posteriors.coverage import central, coverage_error, error_floor
from deeplense_batch.tasks.posteriors.posterior import LEVELS, Said, random_of, summary


def crps_by_integral(mean: float, sd: float, true: float) -> float:
    """The integral of (F(y) - [y >= true])^2, of which the score is the value."""

    def square(y: float) -> float:
        return (stats.norm.cdf(y, mean, sd) - (y >= true)) ** 2

    low, high = (integrate.quad(square, *ends)[0] for ends in ((-20, true), (true, 20)))
    return low + high


def test_a_normal_posterior_is_scored_exactly():
    mean, sd = torch.tensor([[0.3, -1.0]]), torch.tensor([[0.5, 2.0]])
    true = torch.tensor([[0.9, 1.0]])
    noise, points = random_of(torch.tensor([0]), 2)
    said = Said(mean[:, None] + noise * sd[:, None], torch.tensor([-1.0]), mean, sd)
    kept = summary(said, points, true)
    for d, (m, s, t) in enumerate(zip(mean[0].tolist(), sd[0].tolist(), true[0].tolist(),
                                      strict=True)):  # fmt: skip
        assert kept["crps"][0, d].item() == pytest.approx(crps_by_integral(m, s, t), rel=1e-4)
        assert kept["rank"][0, d].item() == pytest.approx(stats.norm.cdf(t, m, s), rel=1e-5)
        assert kept["quantiles"][0, d].numpy() == pytest.approx(
            stats.norm.ppf(LEVELS, m, s), rel=1e-5
        )


def test_draws_are_scored_as_the_distribution_that_they_are_of():
    """With many draws their score is that of the distribution."""
    noise, points = random_of(torch.tensor([3]), 1, 20_000)
    kept = summary(Said(0.3 + 0.5 * noise, torch.zeros(1)), points, torch.tensor([[0.9]]))
    assert kept["crps"].item() == pytest.approx(crps_by_integral(0.3, 0.5, 0.9), rel=0.03)
    assert kept["rank"].item() == pytest.approx(stats.norm.cdf(0.9, 0.3, 0.5), abs=0.01)
    assert kept["predicted"].item() == pytest.approx(0.3, abs=0.02)
    assert kept["sd"].item() == pytest.approx(0.5, rel=0.03)
    expected = stats.norm.ppf(LEVELS, 0.3, 0.5)
    assert kept["quantiles"][0, 0].numpy() == pytest.approx(expected, abs=0.03)


def test_the_score_of_few_draws_is_right_on_average():
    noise, points = random_of(torch.arange(4000), 1, 8)
    kept = summary(Said(noise, torch.zeros(4000)), points, torch.full((4000, 1), 0.7))
    error = 3 * kept["crps"].std().item() / 4000**0.5
    assert kept["crps"].mean().item() == pytest.approx(crps_by_integral(0, 1, 0.7), abs=error)


def of_many(scale: float, shear: float, images: int = 2000) -> dict[str, np.ndarray]:
    """Correlated numbers, and a posterior of a scaled width and another correlation."""
    random = torch.Generator().manual_seed(1)
    mean = torch.randn(images, 2, generator=random)
    factor = torch.tensor([[1.0, 0.0], [0.95, (1 - 0.95**2) ** 0.5]])
    true = mean + torch.randn(images, 2, generator=random) @ factor.T
    own = torch.tensor([[1.0, 0.0], [shear, (1 - shear**2) ** 0.5]])
    noise, points = random_of(torch.arange(images), 2)
    draws = mean[:, None] + scale * noise @ own.T
    kept = summary(Said(draws, torch.zeros(images)), points, true)
    return {name: values.numpy() for name, values in kept.items()}


def test_a_right_posterior_covers_and_a_wrong_one_does_not():
    floor = error_floor(2000)
    right, narrow, twisted = of_many(1.0, 0.95), of_many(0.6, 0.95), of_many(1.0, -0.95)
    for probabilities in (right["tarp"], central(right["rank"][:, 0])):
        assert coverage_error(probabilities) < floor
    assert coverage_error(central(narrow["rank"][:, 1])) > 5 * floor
    assert coverage_error(narrow["tarp"]) > 3 * floor
    # Each number alone is right; that their correlation is wrong is seen by TARP alone.
    assert coverage_error(central(twisted["rank"][:, 1])) < floor
    assert coverage_error(twisted["tarp"]) > 1.5 * floor


def test_an_image_without_all_numbers_has_no_score():
    noise, points = random_of(torch.arange(2), 2, 16)
    true = torch.tensor([[0.1, torch.nan], [0.1, 0.2]])
    kept = summary(Said(noise, torch.zeros(2)), points, true)
    for name in ("log_prob", "crps", "rank", "tarp"):
        values = kept[name].reshape(2, -1)
        assert values[0].isnan().all() and values[1].isfinite().all(), name
    assert kept["predicted"].isfinite().all()
    assert set(summary(Said(noise), points)) == {"predicted", "sd", "quantiles"}


def test_random_numbers_go_with_the_place_of_an_image():
    whole, points = random_of(torch.arange(6), 3)
    some, others = random_of(torch.tensor([4, 1]), 3)
    assert torch.equal(some, whole[[4, 1]]) and torch.equal(others, points[[4, 1]])
    noise = random_of(torch.arange(400), 1, 64)[0].numpy().ravel()
    assert stats.kstest(noise, "norm").pvalue > 0.01
    _, points = random_of(torch.arange(4000), 1)
    assert stats.kstest(points.numpy().ravel(), "uniform", (-(3**0.5), 2 * 3**0.5)).pvalue > 0.01
