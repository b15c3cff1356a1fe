"""The density and the draws of a Gaussian posterior, against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from deeplense_batch.tasks.posteriors.gaussian import Gaussian
from deeplense_batch.tasks.posteriors.posterior import random_of

SIZE = 3


@pytest.fixture
def answer() -> torch.Tensor:
    """What a network says of two images."""
    return torch.randn(2, Gaussian(SIZE).num_outputs, generator=torch.Generator().manual_seed(0))


def test_the_density_is_that_of_a_multivariate_normal_distribution(answer):
    posterior, true = Gaussian(SIZE), torch.tensor([[0.1, -0.4, 0.8], [1.0, 2.0, -1.0]])
    mean, factor = posterior.parameters(answer)
    found = posterior.log_prob(nn.Identity(), answer, true)
    for m, f, t, log_prob in zip(mean, factor, true, found.tolist(), strict=True):
        covariance = (f @ f.T).double().numpy()
        expected = stats.multivariate_normal(m.numpy(), covariance).logpdf(t.numpy())
        assert log_prob == pytest.approx(expected, rel=1e-4)
        assert (f.diagonal() > 0).all() and f.triu(1).abs().max() == 0


def test_draws_have_its_mean_and_covariance(answer):
    posterior = Gaussian(SIZE)
    noise, _ = random_of(torch.arange(2), SIZE, 20_000)
    said = posterior.say(nn.Identity(), answer, noise)
    mean, factor = posterior.parameters(answer)
    assert said.log_prob is None and torch.equal(said.mean, mean)
    for draws, m, f, sd in zip(said.draws, mean, factor, said.sd, strict=True):
        covariance = (f @ f.T).numpy()
        assert sd.numpy() == pytest.approx(np.diag(covariance) ** 0.5, rel=1e-5)
        assert draws.mean(0).numpy() == pytest.approx(m.numpy(), abs=0.05 * float(sd.max()))
        scale = 0.05 * float(covariance.max())
        assert np.cov(draws.numpy().T) == pytest.approx(covariance, abs=scale)


def test_a_network_that_says_nothing_has_the_spread_of_all():
    mean, factor = Gaussian(2).parameters(torch.zeros(1, 5))
    assert mean.abs().max() == 0
    assert factor[0].numpy() == pytest.approx(np.eye(2), abs=1e-3)
