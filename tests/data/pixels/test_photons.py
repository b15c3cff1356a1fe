"""Photon noise: counts of the Poisson distribution, a function of (seed, epoch, sample)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from deeplense_batch.data.pixels import photons
from deeplense_batch.data.pixels.photons import number_of, observed, poisson

MEANS = (0.0, 0.3, 7.9, 8.0, 12.0, 1000.0)


def drawn(mean, shape=(4, 5000), *, seed=1, epoch=2, index=None):
    index = torch.arange(shape[0]) if index is None else index
    means = torch.full(shape, mean)
    return poisson(means, least=mean, seed=seed, epoch=epoch, index=index)


@pytest.mark.parametrize("mean", MEANS)
def test_a_count_is_the_inverse_of_the_distribution(mean, monkeypatch):
    """Of 2^16 numbers spread evenly over those from 0 to 1, scipy's inverse at each."""
    count = 1 << 16
    numbers = torch.arange(count) * 256 + 127
    bits = numbers[None, : count // 2] << 40 | numbers[None, count // 2 :] << 16
    monkeypatch.setattr(photons, "random_bits", lambda *_: bits)
    found = drawn(mean, (1, count))[0].double().numpy()
    expected = stats.poisson.ppf((numbers.numpy() + 0.5) / 2**24, mean)
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < 5e-4
    if mean < 8:  # summed, and wrong only where float32 rounds a number onto a step
        assert (found != expected).mean() < 1e-4


@pytest.mark.parametrize("mean", [0.0, 0.05, 0.5, 3.0, 7.9, 12.0, 1000.0])
@pytest.mark.parametrize("least", [0.0, 8.0])
def test_the_rarest_counts_are_no_others(mean, least, monkeypatch):
    """The first and the last of the 2^24 numbers, at which float32 rounds to 1."""
    if mean < least:
        return
    count = 64
    numbers = torch.cat([torch.arange(count), torch.arange(2**24 - count, 2**24)])
    bits = numbers[None, :count] << 40 | numbers[None, count:] << 16
    monkeypatch.setattr(photons, "random_bits", lambda *_: bits)
    means = torch.full((1, 2 * count), mean)
    found = poisson(means, least=least, seed=0, epoch=0, index=torch.arange(1))[0].numpy()
    expected = stats.poisson.ppf((numbers.double().numpy() + 0.5) / 2**24, mean)
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("mean", MEANS[1:])
def test_mean_variance_and_single_counts(mean):
    counts = drawn(mean).double().numpy().ravel()
    error = np.sqrt(mean / counts.size)
    assert counts.mean() == pytest.approx(mean, abs=4 * error)
    spread = np.sqrt((2 * mean**2 + mean) / counts.size)  # of the variance of Poisson counts
    assert counts.var() == pytest.approx(mean, abs=4 * spread)
    values, found = np.unique(counts, return_counts=True)
    expected = stats.poisson.pmf(values, mean) * counts.size
    often = expected > 20
    chi2 = ((found - expected)[often] ** 2 / expected[often]).sum()
    assert stats.chi2.sf(chi2, often.sum()) > 1e-3


def test_pixels_and_samples_are_independent():
    counts = drawn(30.0, (6, 4000)).double()
    halves = counts.view(12, 2000)  # two pixels of a sample share 64 bits
    correlation = torch.corrcoef(torch.cat([halves, halves.roll(1, 1)])).numpy()
    assert np.abs(correlation[~np.eye(24, dtype=bool)]).max() < 0.1  # 4.5 standard deviations


def test_noise_is_a_function_of_seed_epoch_and_sample():
    index = torch.tensor([7, 1 << 40, 3])
    means = torch.linspace(10, 200, 3 * 150).view(3, 1, 15, 10)
    options = {"least": 10.0, "seed": 1, "epoch": 2}
    whole = poisson(means, index=index, **options)
    for place in range(3):
        part = slice(place, place + 1)
        assert torch.equal(poisson(means[part], index=index[part], **options), whole[part])
    assert torch.equal(poisson(means.flip(0), index=index.flip(0), **options), whole.flip(0))
    for other in ({"seed": 2}, {"epoch": 3}, {"epoch": -1}):
        assert not torch.equal(poisson(means, index=index, **(options | other)), whole)


def test_the_rarest_numbers_are_finite_and_as_far_from_both_ends():
    ends = photons._normal(torch.tensor([0.0, 2.0**24 - 1, 2.0**23 - 1, 2.0**23]))
    assert ends[0] == -ends[1] and ends[2] == -ends[3]
    assert ends[1] == pytest.approx(stats.norm.isf(2.0**-25), rel=1e-4)


def test_an_observation_is_counts_from_their_least_to_their_largest():
    means = torch.rand(3, 2, 16, 16) * 300
    how = {"seed": 0, "epoch": 0, "index": torch.arange(3)}
    images = observed(means, 10.0, **how)
    counts = poisson(means + 10, least=10.0, **how)
    least, most = (f(counts.flatten(2), -1)[..., None, None] for f in (torch.amin, torch.amax))
    assert torch.equal(images.amin((2, 3)), torch.zeros(3, 2))
    assert torch.equal(images.amax((2, 3)), torch.ones(3, 2))
    assert torch.allclose(images * (most - least) + least, counts, atol=1e-3)
    assert not observed(torch.zeros(1, 1, 4, 4), 0.0, **how | {"index": torch.tensor([0])}).any()


def test_numbers_of_samples_are_those_of_their_ids():
    numbers = number_of(["train/no/1", "train/no/2", "train/no/1"])
    assert numbers.dtype == np.int64 and numbers[0] == numbers[2] != numbers[1]
    assert number_of(["train/no/2"])[0] == numbers[1]
    assert len(set(number_of(map(str, range(10000))))) == 10000
    assert len(number_of([])) == 0
