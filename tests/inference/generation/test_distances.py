"""Distances of sets of features, against closed forms and counts by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deeplense_batch.inference.generation import distances


def test_fid_of_normal_features_is_that_of_their_moments():
    """Against |m - m'|^2 + tr(C + C' - 2 sqrt(C C')), with covariances that commute."""
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 4000, 3)) * ([[1, 2, 3]], [[2, 2, 1]]) + [[[0.0]], [[1.0]]]
    expected = 3 + (1 - 2) ** 2 + 0 + (3 - 1) ** 2
    assert distances.fid(a, b) == pytest.approx(expected, rel=0.1)
    turned = np.concatenate([a, np.zeros((4000, 9000))], 1)[:50]  # fewer samples than features
    other = np.concatenate([b, np.zeros((4000, 9000))], 1)[:50]
    assert distances.fid(turned, other) == pytest.approx(distances.fid(a[:50], b[:50]), rel=1e-6)


def test_kid_is_the_same_every_time():
    a, b = np.random.default_rng(0).normal(size=(2, 50, 8))
    before = torch.get_rng_state()
    assert distances.kid(a, b) == distances.kid(a, b)
    assert torch.equal(torch.get_rng_state(), before)


def test_one_process_of_several_finds_them_alone(monkeypatch, tmp_path):
    """The others have ended, and would be waited for in vain."""
    a, b = np.random.default_rng(0).normal(size=(2, 20, 4))
    alone = distances.fid(a, b), distances.kid(a, b)
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        monkeypatch.setattr(torch.distributed, "barrier", lambda **_: pytest.fail("waits"))
        assert (distances.fid(a, b), distances.kid(a, b)) == alone
    finally:
        torch.distributed.destroy_process_group()


SQUARE = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


def test_precision_and_recall_counted_by_hand():
    """Each corner reaches sqrt(2), as far as its third neighbour."""
    near, far = np.array([[0.5, 0.5]] * 3 + [[0.6, 0.5]]), np.array([[9.0, 9.0]])
    precision, recall = distances.precision_recall(np.concatenate([near, far]), SQUARE)
    assert precision == pytest.approx(4 / 5)
    assert recall == 1 / 4  # the far one reaches (0.5, 0.5), and on the way one corner
    _, recall = distances.precision_recall(near, SQUARE)
    assert recall == 0  # they reach 0.1


def test_spread_is_the_mean_over_pairs():
    assert distances.spread(SQUARE) == pytest.approx((4 + 2 * 2**0.5) / 6)


def test_the_nearest_is_found_whatever_block_it_is_in():
    queries = np.array([[0.1, 0.0], [5.0, 5.0], [0.9, 1.2]])
    pool = np.concatenate([SQUARE, [[5.0, 4.0]]])
    least, places = distances.nearest(queries, iter([pool[:3], pool[3:]]))
    assert places.tolist() == [0, 4, 3]
    assert least == pytest.approx([0.1, 1.0, 0.05**0.5])


def test_copies_are_nearer_than_the_nearest_held_out():
    held_out = np.arange(1.0, 102.0)  # of which 1% are below 2
    found = distances.copied(np.array([0.5, 1.0, 1.9, 51.0, 102.0]), held_out)
    assert found["generated"] == pytest.approx(3 / 5) and found["real"] == pytest.approx(1 / 101)
    assert found["ratio"] == pytest.approx(1.9 / 51)
