"""Distances of features, against the same by NumPy, pair by pair."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deeplense_batch.tasks.adaptation.distances import coral, mmd


def features(seed, count=12, size=5, scale=1.0, shift=0.0):
    drawn = np.random.default_rng(seed).normal(size=(count, size)) * scale + shift
    return torch.from_numpy(drawn)


def test_coral_is_the_distance_of_two_covariances():
    x, y = features(0), features(1, scale=2.0)
    difference = np.cov(x.numpy().T) - np.cov(y.numpy().T)
    assert float(coral(x, y)) == pytest.approx((difference**2).sum() / (4 * 5**2))
    assert float(coral(x, x + 3)) == pytest.approx(0, abs=1e-12)  # a shift has no covariance


def test_mmd_is_the_mean_over_pairs_of_two_images():
    x, y = features(2), features(3, shift=1.0)
    both = torch.cat([x, y]).numpy()
    n, total = len(x), len(both)
    squares = ((both[:, None] - both[None]) ** 2).sum(2)
    mean = squares.sum() / (total * (total - 1))

    def kernel(i, j):
        return np.mean([np.exp(-squares[i, j] / (u * mean)) for u in (0.25, 0.5, 1, 2, 4)])

    within = [kernel(i + o, j + o) for o in (0, n) for i in range(n) for j in range(n) if i != j]
    across = [kernel(i, j + n) for i in range(n) for j in range(n)]
    expected = sum(within) / (n * (n - 1)) - 2 * np.mean(across)
    assert float(mmd(x, y)) == pytest.approx(expected, abs=1e-12)
    assert float(mmd(x + 1e3, y + 1e3)) == pytest.approx(expected, abs=1e-9)


def test_mmd_is_nought_on_average_of_one_distribution_and_not_of_two():
    same = [float(mmd(features(2 * s, 16), features(2 * s + 1, 16))) for s in range(200)]
    error = np.std(same) / 200**0.5
    assert abs(np.mean(same)) < 4 * error and min(same) < 0  # it is unbiased
    apart = [float(mmd(features(s, 16), features(s + 999, 16, shift=1.0))) for s in range(20)]
    assert np.mean(apart) > max(same)


@pytest.mark.parametrize("distance", [coral, mmd])
def test_a_step_against_the_gradient_brings_features_closer(distance):
    x, y = features(4).requires_grad_(), features(5, scale=2.0, shift=1.0)
    before = distance(x, y)
    (gradient,) = torch.autograd.grad(before, x)
    x, before = x.detach(), before.detach()
    assert float(distance(x - 0.1 * gradient / gradient.abs().max(), y)) < float(before)


@pytest.mark.parametrize("distance", [coral, mmd])
def test_images_that_are_one_or_all_alike_give_finite_numbers(distance):
    one, alike = features(6, count=1), torch.ones(4, 3)
    assert torch.isfinite(distance(one, features(7, count=1)))
    assert float(distance(alike, alike)) == pytest.approx(0, abs=1e-6)
