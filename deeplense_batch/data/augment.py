"""Random changes of training images: batched, on the device, and a function of the sample.

What happens to a sample depends on (seed, epoch, its number) alone: it is the same whatever the
batch, the number of processes, or the number of times a run was cut off. The random numbers come
from a counter-based generator, splitmix64 (Steele, Lea, Flood 2014), evaluated for all samples at
once.

Reflections, turns, shifts, zooms and the resizing to the network's size are one bilinear
resampling where there is any turn, shift or zoom: on a processor, resampling is what costs.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from deeplense_batch.core.job import Augment

__all__ = [
    "apply",
    "central",
    "central_crop",
    "keys_of",
    "random_bits",
    "resize",
    "symmetries",
    "uniforms",
]

Images = TypeVar("Images", Tensor, NDArray[Any])

_DRAWS = 8  # numbers a sample; the counters of its pixels' noise begin there
_OF_A_TASK = -1  # the counter that no change of an image uses
_BLUR_REACH = 3.0  # sigmas to which a Gaussian is summed


def uniforms(seed: int, epoch: int, index: Tensor, count: int) -> Tensor:
    """Draw numbers for each sample.

    Arguments:
        seed: Seed of the run.
        epoch: Number of the epoch.
        index: Numbers of the samples, (B,) int64; those of one number are changed alike.
        count: Numbers a sample.

    Returns:
        Uniform in [0, 1), (B, count) float32.
    """
    return _fraction(random_bits(seed, epoch, index, 0, count) >> 40)


def keys_of(seed: int, epoch: int, index: Tensor) -> Tensor:
    """Random numbers of samples, for `uniforms` of what a task draws: not those of `apply`.

    Arguments:
        seed: Seed of the run.
        epoch: Number of the epoch.
        index: Numbers of the samples, (B,) int64.

    Returns:
        (B,) int64.
    """
    return random_bits(seed, epoch, index, _OF_A_TASK, 1)[:, 0]


def central(edge: int, kept: int) -> slice:
    """The middle pixels of an edge; of an odd margin, the smaller half is left out before them."""
    first = (edge - kept) // 2
    return slice(first, first + kept)


def central_crop(images: Images, size: int | None) -> Images:
    """The middle of images (..., H, W), (..., size, size), in the same memory; None keeps all."""
    if size is None:
        return images
    height, width = images.shape[-2:]
    return images[..., central(height, size), central(width, size)]


def symmetries(images: Tensor) -> list[Tensor]:
    """Images (B, C, H, W) under the 8 symmetries of the square, or the 4 of an oblong one."""
    flips: list[list[int]] = [[], [-1], [-2], [-1, -2]]
    views = [images.flip(axes) for axes in flips]
    if images.shape[-1] == images.shape[-2]:
        views += [view.transpose(-1, -2).contiguous() for view in views]
    return views


def resize(images: Tensor, size: int | None) -> Tensor:
    """Bring images, (B, C, H, W) float32, to (B, C, size, size); bilinear, without aliases."""
    if size is None or images.shape[-2:] == (size, size):
        return images
    shrinks = min(images.shape[-2:]) > size or max(images.shape[-2:]) > size
    return F.interpolate(images, (size, size), mode="bilinear", antialias=shrinks)


def apply(
    images: Tensor,
    augment: Augment,
    *,
    seed: int,
    epoch: int,
    index: Tensor,
    size: int | None = None,
) -> Tensor:
    """Augment a batch, and bring it to the size of the network.

    Arguments:
        images: Normalised, (B, C, H, W) float32.
        augment: What may happen to an image; photons are drawn before (`pixels.photons`).
        seed: Seed of the run.
        epoch: Number of the epoch.
        index: Numbers of the samples, (B,) int64; those of one number are changed alike.
        size: Pixels of the result; None for as they are.

    Returns:
        Images, (B, C, size, size) or (B, C, H, W), float32. Blur and noise are of their pixels.
    """
    if augment.model_copy(update={"photon_noise": False}) == Augment():
        return resize(images, size)
    u = uniforms(seed, epoch, index, _DRAWS)
    images = _move(images, augment, u, size)
    if augment.blur:
        images = _blur(images, u[:, 7] * augment.blur, augment.blur)
    if augment.noise:
        images = images + augment.noise * _normals(images, seed, epoch, index)
    return images


def _move(images: Tensor, augment: Augment, u: Tensor, size: int | None) -> Tensor:
    """Reflect, turn, shift, zoom and resize, by the uniform numbers (B, _DRAWS) of the samples."""
    reflects = augment.flips or augment.dihedral
    transposes = augment.dihedral and images.shape[-1] == images.shape[-2]
    bits = (u[:, :3] < 0.5) & reflects  # swap the axes, flip the vertical one, the horizontal one
    bits[:, 0] &= transposes
    if augment.degrees or augment.translate or augment.scale != (1.0, 1.0):
        if size is None or max(images.shape[-2:]) > size:  # to sample fewer points would alias
            images = resize(images, size)
        return _warp(images, augment, bits, u[:, 3:7], size)
    if reflects:
        images = _reflect(images, bits, transpose=transposes)
    return resize(images, size)


def _reflect(images: Tensor, bits: Tensor, *, transpose: bool) -> Tensor:
    """Optional reflections, with the transpose all 8 symmetries; no pixel value changes."""
    swap, vertical, horizontal = (bits[:, i, None, None, None] for i in range(3))
    if transpose:
        images = torch.where(swap, images.transpose(-1, -2), images)
    images = torch.where(vertical, images.flip(-2), images)
    return torch.where(horizontal, images.flip(-1), images)


def _warp(images: Tensor, augment: Augment, bits: Tensor, u: Tensor, size: int | None) -> Tensor:
    """Turn, shift, zoom and what `_reflect` does, by one resampling to the size of the result.

    The outside mirrors the sky inside, once; beyond that the edge goes on.
    """
    height, width = images.shape[-2:]
    rows, columns = (height, width) if size is None else (size, size)
    matrix = _matrix(augment, bits, u, aspect=rows / columns)
    # A mirrored margin is a tenth of the cost of grid_sample's own reflection, point by point.
    reach = _reach(augment, max(rows / columns, columns / rows))
    down, right = (min(max(math.ceil((reach - 1) * n / 2) + 1, 0), n) for n in (height, width))
    images = _mirrored(_mirrored(images, down, axis=2), right, axis=3)
    x_matrix = matrix[:, 0] * (width / (width + 2 * right))
    y_matrix = matrix[:, 1] * (height / (height + 2 * down))
    x, y = (
        (torch.arange(n, device=images.device, dtype=torch.float32) * 2 + 1) / n - 1
        for n in (columns, rows)
    )
    # Not affine_grid: it is a product of matrices, which TF32 would round to a tenth of a pixel.
    # As complex numbers x + iy, so that the grid is one sum, contiguous, the fastest way there is.
    along = torch.complex(x_matrix[:, :1] * x, y_matrix[:, :1] * x)[:, None, :]
    across = torch.complex(
        x_matrix[:, 1:2] * y + x_matrix[:, 2:], y_matrix[:, 1:2] * y + y_matrix[:, 2:]
    )[:, :, None]
    grid = torch.view_as_real(along + across)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _matrix(augment: Augment, bits: Tensor, u: Tensor, *, aspect: float) -> Tensor:
    """From positions in the result to positions in the images, both in [-1, 1]: (B, 2, 3) float32.

    Rows and columns are (x, y) and (x, y, 1); `aspect` is height / width.
    """
    signed = 2 * u - 1
    angle = signed[:, 0] * math.radians(augment.degrees)
    shift = signed[:, 1:3] * 2 * augment.translate  # the coordinates span 2
    low, high = augment.scale
    zoom = low + u[:, 3] * (high - low)
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    x = torch.stack([cos, -sin * aspect, shift[:, 0]], 1)
    y = torch.stack([sin / aspect, cos, shift[:, 1]], 1)
    swap, vertical, horizontal = (bits[:, i, None] for i in range(3))
    x, y = torch.where(horizontal, -x, x), torch.where(vertical, -y, y)
    return torch.stack([torch.where(swap, y, x), torch.where(swap, x, y)], 1)


def _mirrored(images: Tensor, margin: int, *, axis: int) -> Tensor:
    """Go on beyond both ends of an axis with the mirror image, the last pixel twice."""
    ends = [images.narrow(axis, at, margin) for at in (0, images.shape[axis] - margin)]
    return torch.cat([ends[0].flip(axis), images, ends[1].flip(axis)], axis)


def _reach(augment: Augment, stretch: float) -> float:
    """The largest coordinate that `_matrix` may give; the images end at 1."""
    angle = min(math.radians(augment.degrees), math.atan(stretch))  # where a corner is farthest
    turned = math.cos(angle) + math.sin(angle) * stretch
    return max(turned, 1.0) / min(augment.scale) + 2 * augment.translate


def _blur(images: Tensor, sigma: Tensor, largest: float) -> Tensor:
    """Convolve each image with its own Gaussian; sigma is (B,) float32, pixels."""
    batch, channels, height, width = images.shape
    radius = min(math.ceil(_BLUR_REACH * largest), height, width)
    offset = torch.arange(-radius, radius + 1, device=images.device)
    kernel = torch.exp(-((offset / sigma.clamp(min=1e-3)[:, None]) ** 2) / 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)
    planes = images.reshape(1, batch * channels, height, width)
    for axis, weight in ((3, kernel[:, None, None, :]), (2, kernel[:, None, :, None])):
        wider = _mirrored(planes, radius, axis=axis)
        planes = F.conv2d(wider, weight, groups=batch * channels)
    return planes.reshape(images.shape)


def _normals(images: Tensor, seed: int, epoch: int, index: Tensor) -> Tensor:
    """White noise of unit variance like `images`, by Box and Muller; each number gives two."""
    pixels = images[0].numel()
    bits = random_bits(seed, epoch, index, _DRAWS, (pixels + 1) // 2)
    radius = torch.sqrt(-2 * torch.log(1 - _fraction(bits >> 40)))
    angle = 2 * math.pi * _fraction(bits >> 16)
    normal = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], 1)
    return normal[:, :pixels].reshape(images.shape)


_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed number


def random_bits(seed: int, epoch: int, index: Tensor, first: int, count: int) -> Tensor:
    """Random bits for each sample, which others of another counter do not depend on.

    Arguments:
        seed: Seed of the run.
        epoch: Number of the epoch.
        index: Numbers of the samples, (B,) int64.
        first: The first counter; `uniforms` takes those from 0 on.
        count: Counters a sample.

    Returns:
        (B, count) int64.
    """
    # Filled on the device: to copy a number there would make the host wait for it.
    stream = torch.full((), seed * 1_000_003 + epoch, dtype=torch.int64, device=index.device)
    counter = torch.arange(first, first + count, device=index.device, dtype=torch.int64)
    return _mix(_mix(_mix(stream) + index[:, None] * _GOLDEN) + counter * _GOLDEN)


def _fraction(bits: Tensor) -> Tensor:
    """The lowest 24 bits as a number in [0, 1), float32, which holds no more."""
    return (bits & 0xFFFFFF).to(torch.float32) / float(1 << 24)


def _mix(state: Tensor) -> Tensor:
    """The output function of splitmix64; int64 arithmetic wraps as its uint64 does."""
    state = state + _GOLDEN
    state = (state ^ _shift(state, 30)) * -4658895280553007687  # 0xBF58476D1CE4E5B9
    state = (state ^ _shift(state, 27)) * -7723592293110705685  # 0x94D049BB133111EB
    return state ^ _shift(state, 31)


def _shift(state: Tensor, bits: int) -> Tensor:
    """Shift right without the sign."""
    return state >> bits & ((1 << (64 - bits)) - 1)
