"""Small arrays that several test files need."""

from __future__ import annotations

import numpy as np
import torch
from conftest import make_images

from deeplense_batch.core.scoring.metrics import softmax


def outputs(samples=500, seed=0, classes=3):
    """Class numbers (N,) and logits (N, K) float32 that know something of them."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, classes, samples)
    logits = random.normal(size=(samples, classes)).astype(np.float32)
    logits[np.arange(samples), targets] += 1.2
    return targets, logits


def sample(classes=3, each=40, *, seed=0, levels=None):
    """Class numbers (N,), as many of each, and probabilities (N, K), in `levels` if given."""
    random = np.random.default_rng(seed)
    targets = np.repeat(np.arange(classes), each)
    logits = random.normal(size=(len(targets), classes)) + 1.2 * np.eye(classes)[targets]
    scores = softmax(logits)
    return targets, np.round(scores * levels) / levels if levels else scores


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def numbers(*values: float) -> list[torch.Tensor]:
    return [number(value) for value in values]


def rings(count, seed, classes=(0, 1, 2)):
    """Images (N, 1, 24, 24) float32 in [0, 1] of some classes, and these, (N,)."""
    counts, targets = make_images(3 * count, seed)
    chosen = np.flatnonzero(np.isin(targets, classes))[:count]
    images = counts[chosen] / counts.max((2, 3), keepdims=True)[chosen]
    return images.astype(np.float32), targets[chosen]
