"""Nothing of a step makes the host wait for a GPU, and a batch has few kernels."""

from __future__ import annotations

import pytest
import torch

from benchmarks.step_counts import (
    AUGMENTATIONS,
    CASES,
    META,
    batch_counts,
    counting,
    step_counts,
)


@pytest.mark.parametrize("name", [name for name in CASES])
def test_no_step_waits_for_the_device_or_copies(name):
    if name.startswith("generation"):
        pytest.importorskip("diffusers")
    counts = step_counts(name, batch=4)
    assert (counts.waits, counts.copies) == (0, 0), counts.operations
    assert counts.launches > 50


@pytest.mark.parametrize("name", [name for name in AUGMENTATIONS])
def test_a_batch_has_at_most_twenty_kernels(shards, name):
    counts = batch_counts(shards, AUGMENTATIONS[name], batches=16, batch=4)
    assert 0 < counts.launches / 16 <= 20, counts.operations
    assert counts.waits <= 1  # the indices of all batches are sent at once


def test_what_is_counted():
    values = torch.ones(3, device=META)
    with counting() as counts:
        (values * 2).view(3)[1:].add_(1)
        assert (counts.launches, counts.copies, counts.waits) == (2, 0, 0)
        float(values.sum())
        assert (counts.launches, counts.copies, counts.waits) == (3, 0, 1)
        values.cpu()
        torch.ones(3).to(META)
        assert (counts.launches, counts.copies, counts.waits) == (3, 2, 3)
        counts.clear()
        assert (counts.launches, counts.copies, counts.waits) == (0, 0, 0)
