"""The order of the samples in an epoch: a function of (seed, epoch) and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplense_batch.data.batches.sampling import order, share_of, shuffled


@given(samples=st.integers(1, 500), batch=st.integers(1, 64), seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=50)
def test_an_epoch_is_every_sample_once_in_batches_of_nearly_one_size(samples, batch, seed):
    batches = order(shuffled(samples, seed=seed, epoch=3), batch)
    assert sorted(np.concatenate(batches)) == list(range(samples))
    sizes = {len(b) for b in batches}
    assert max(sizes) <= batch and max(sizes) - min(sizes) <= 1
    again = order(shuffled(samples, seed=seed, epoch=3), batch)
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


def test_another_epoch_or_seed_is_another_order():
    first = shuffled(100, seed=0, epoch=0)
    for seed, epoch in ((0, 1), (1, 0)):
        assert not np.array_equal(first, shuffled(100, seed=seed, epoch=epoch))


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_the_ranks_share_a_batch_without_loss(world):
    batch = np.arange(17)
    shares = [share_of(batch, rank=r, world=world) for r in range(world)]
    assert sorted(np.concatenate(shares)) == list(range(17))
