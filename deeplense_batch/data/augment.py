"""Random changes of training images: batched, on the device, and a function of the sample.

What happens to a sample depends on (seed, epoch, sample) alone: it is the same whatever the batch,
the number of processes, or the number of times a run was cut off. The random numbers come from a
counter-based generator, splitmix64 (Steele, Lea, Flood 2014), evaluated for all samples at once.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from deeplense_batch.job import Augment

__all__ = ["apply", "uniforms"]

_DRAWS = 8


def uniforms(seed: int, epoch: int, index: Tensor, count: int) -> Tensor:
    """Draw numbers for each sample.

    Arguments:
        seed: Seed of the run.
        epoch: Number of the epoch.
        index: Places of the samples in their slice, (B,) int64.
        count: Numbers a sample.

    Returns:
        Uniform in [0, 1), (B, count) float32.
    """
    stream = _mix(torch.tensor(seed * 1_000_003 + epoch, dtype=torch.int64)).to(index.device)
    draw = torch.arange(count, device=index.device, dtype=torch.int64)
    state = _mix(stream + index[:, None] * _GOLDEN) + draw * _GOLDEN
    return (_mix(state) >> 40 & 0xFFFFFF).to(torch.float32) / float(1 << 24)


def apply(images: Tensor, augment: Augment, *, seed: int, epoch: int, index: Tensor) -> Tensor:
    """Augment a batch.

    Arguments:
        images: (B, C, H, W) float32.
        augment: What may happen to an image.
        seed: Seed of the run.
        epoch: Number of the epoch.
        index: Places of the samples in their slice, (B,) int64.

    Returns:
        Images of the same shape.
    """
    if augment == Augment():
        return images
    u = uniforms(seed, epoch, index, _DRAWS)
    if augment.flips or augment.dihedral:
        images = _reflect(images, u[:, :3] < 0.5, transpose=augment.dihedral)
    if augment.degrees or augment.translate or augment.scale != (1.0, 1.0):
        images = _affine(images, augment, u[:, 3:7])
    return images


def _reflect(images: Tensor, bits: Tensor, *, transpose: bool) -> Tensor:
    """Optional reflections, with the transpose all 8 symmetries; no pixel value changes."""
    swap, vertical, horizontal = (bits[:, i, None, None, None] for i in range(3))
    if transpose and images.shape[-1] == images.shape[-2]:
        images = torch.where(swap, images.transpose(-1, -2), images)
    images = torch.where(vertical, images.flip(-2), images)
    return torch.where(horizontal, images.flip(-1), images)


def _affine(images: Tensor, augment: Augment, u: Tensor) -> Tensor:
    """Turn, shift and zoom by one bilinear resampling; the outside mirrors the sky inside."""
    signed = 2 * u - 1
    angle = signed[:, 0] * math.radians(augment.degrees)
    shift = signed[:, 1:3] * 2 * augment.translate  # grid coordinates span 2
    low, high = augment.scale
    zoom = low + u[:, 3] * (high - low)
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    theta = torch.stack(
        [torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1
    )
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed number


def _mix(state: Tensor) -> Tensor:
    """The output function of splitmix64; int64 arithmetic wraps as its uint64 does."""
    state = state + _GOLDEN
    state = (state ^ _shift(state, 30)) * -4658895280553007687  # 0xBF58476D1CE4E5B9
    state = (state ^ _shift(state, 27)) * -7723592293110705685  # 0x94D049BB133111EB
    return state ^ _shift(state, 31)


def _shift(state: Tensor, bits: int) -> Tensor:
    """Shift right without the sign."""
    return state >> bits & ((1 << (64 - bits)) - 1)
