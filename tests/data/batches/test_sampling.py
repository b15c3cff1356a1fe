"""The order of the samples in an epoch: a function of (seed, epoch) and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplense_batch.data.batches.sampling import (
    balanced,
    balancing_weights,
    drawn,
    each_once,
    expected_draws,
    numbered,
    order,
    share_of,
    shared_out,
    shuffled,
)


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


def test_what_is_evaluated_is_dealt_out_once_and_not_padded():
    parts = [list(each_once(600, rank=rank, world=2)) for rank in range(2)]
    assert [[len(batch) for batch in batches] for batches in parts] == [[256, 44]] * 2
    assert sorted(np.concatenate([*parts[0], *parts[1]])) == list(range(600))


@given(draws=st.integers(0, 1000), weights=st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6))
@settings(deadline=None, max_examples=100)
def test_draws_are_shared_out_to_less_than_one_of_what_is_exact(draws, weights):
    counts = shared_out(draws, weights)
    assert sum(counts) == draws
    exact = draws * np.array(weights) / sum(weights)
    assert (np.abs(np.array(counts) - exact) < 1 + 1e-6).all()


def test_remainders_go_to_the_largest_and_of_equal_ones_to_the_first():
    assert shared_out(10, (1, 1, 1)) == [4, 3, 3] and shared_out(7, (0.1, 0.9)) == [1, 6]


SETS = [np.arange(10), np.arange(10, 50), np.arange(50, 53)]


def test_a_set_is_drawn_by_its_weight_in_full_rounds_and_a_part_of_one():
    draws = drawn(SETS, (3, 1, 2), seed=4, epoch=1)
    counts = np.bincount(draws, minlength=53)
    assert [int(counts[own].sum()) for own in SETS] == [26, 9, 18]  # of 53: 26.5, 8.8, 17.7
    assert set(counts[SETS[0]]) == {2, 3} and set(counts[SETS[1]]) == {0, 1}
    assert set(counts[SETS[2]]) == {6}
    assert np.array_equal(draws, drawn(SETS, (6, 2, 4), seed=4, epoch=1))  # ratios count
    assert not np.array_equal(draws, drawn(SETS, (3, 1, 2), seed=4, epoch=2))


def test_draws_are_those_that_numpy_gives_by_the_rule_of_the_docs():
    random = np.random.default_rng((4, 1))
    rounds = [[random.permutation(SETS[0]) for _ in range(3)], [random.permutation(SETS[1])],
              [random.permutation(SETS[2]) for _ in range(6)]]  # fmt: skip
    joined = [np.concatenate(r)[:n] for r, n in zip(rounds, (26, 9, 18), strict=True)]
    expected = random.permutation(np.concatenate(joined))
    assert np.array_equal(drawn(SETS, (3, 1, 2), seed=4, epoch=1), expected)


def test_draws_of_one_sample_have_numbers_of_their_own():
    """The first that of the sample, so that what is drawn once is what it always was."""
    samples = np.array([4, 2, 4, 0, 4, 2])
    assert numbered(samples, 5).tolist() == [4, 2, 9, 0, 14, 7]
    once = np.random.default_rng(0).permutation(9)
    assert np.array_equal(numbered(once, 9), once)
    draws = drawn(SETS, (3, 1, 2), seed=4, epoch=1)
    numbers = numbered(draws, 53)
    assert np.array_equal(numbers % 53, draws) and len(set(numbers)) == 53
    assert np.bincount(numbers // 53)[-1] == 3  # of the last set all three, the sixth time


def test_classes_are_balanced_within_each_set():
    targets = np.where(np.arange(53) % 5 == 0, 1, 0)  # of the last set one in three
    draws = drawn(SETS, (10, 40, 3), seed=0, epoch=0, targets=targets)
    for own, (zeros, ones) in zip(SETS, ((5, 5), (20, 20), (2, 1)), strict=True):
        of_set = draws[np.isin(draws, own)]
        assert np.bincount(targets[of_set]).tolist() == [zeros, ones]


def test_one_set_alone_is_balanced_as_ever():
    targets = np.arange(40) % 7 // 3
    draws = drawn([np.arange(40)], (1.0,), seed=3, epoch=2, targets=targets)
    assert np.array_equal(draws, balanced(targets, seed=3, epoch=2))


def test_expected_draws_are_the_mean_over_epochs():
    often = expected_draws(SETS, (3, 1, 2), 54)
    assert often.sum() == pytest.approx(53) and often[53] == 0
    orders = [drawn(SETS, (3, 1, 2), seed=0, epoch=e) for e in range(400)]
    mean = np.mean([np.bincount(order, minlength=54) for order in orders], 0)
    np.testing.assert_allclose(mean, often, atol=0.15)


def test_weights_give_each_class_the_same_sum_over_what_is_drawn():
    targets = np.array([0, 0, 0, 1, 1, 2])
    draws = np.array([0.5, 0.5, 0.5, 2, 1, 1.5])
    weights = balancing_weights(targets, draws)
    sums = np.bincount(targets, weights * draws)
    np.testing.assert_allclose(sums, [2, 2, 2], rtol=1e-6)
    plain = balancing_weights(targets)
    np.testing.assert_allclose(np.bincount(targets, plain), [2, 2, 2], rtol=1e-6)
    never = balancing_weights(targets, np.array([1, 1, 1, 1, 1, 0.0]))
    assert never[5] == 0 and (never[:5] > 0).all()
