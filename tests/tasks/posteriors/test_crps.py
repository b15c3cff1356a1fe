"""The score of draws, by its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deeplense_batch.tasks.posteriors.crps import crps_of_draws


@pytest.mark.parametrize("shape", [(3, 5), (2, 4, 3), (2, 2, 1, 4, 4)])
def test_it_is_the_mean_over_draws_less_half_of_that_over_pairs(shape):
    random = np.random.default_rng(0)
    draws, true = random.normal(size=shape), random.normal(size=(shape[0], *shape[2:]))
    count = shape[1]
    pairs = [np.abs(draws[:, i] - draws[:, j]) for i in range(count) for j in range(i)]
    expected = np.abs(draws - true[:, None]).mean(1) - np.mean(pairs, 0) / 2
    given = torch.from_numpy(draws)
    found = crps_of_draws(given, torch.from_numpy(true)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert np.array_equal(given.numpy(), draws)  # which the caller goes on using
