"""Between the image plane and the source plane, with gradients all the way.

Lensing keeps surface brightness: the pixel at theta shows the source at beta = theta - alpha. So
the source is found by laying each pixel's brightness down at its beta, shared bilinearly over the
four source pixels around it,

    S(s) = sum_i w_si I_i / sum_i w_si

and where several images show one point of the source, S is their mean. Read at beta again, the
source gives the image that the lens makes of it. What one lens cannot explain stays as a
residual. (To read the *image* at beta, as published codes do, lenses it twice.)

Both planes are in half frames: -1 to 1 from edge to edge, pixels as `macro.pixel_grid` has them.
Rays that leave the frame of the source are held at its edge. On a GPU the sums are added up in no
fixed order, so runs repeat to rounding there and to the bit on a CPU.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["divergence", "gradient", "relens", "splat"]

_TINY = 1e-6  # of the weight of a source pixel, which is one for one ray


def splat(images: Tensor, beta: Tensor, size: int) -> Tensor:
    """Lay pixels down in the source plane.

    Arguments:
        images: Brightness, (B, C, H, W) float.
        beta: x and y where the light of each pixel left the source, (B, 2, H, W) float, half
            frames. Gradients flow through it.
        size: Pixels along a side of the source plane.

    Returns:
        The source, (B, C, size, size) float; 0 where no ray comes from.
    """
    samples, channels = images.shape[:2]
    position = ((beta.flatten(2) + 1) * (size / 2) - 0.5).clamp(0, size - 1)
    low = position.detach().floor().clamp(max=size - 2)
    share = position - low
    column, row = low.long().unbind(1)
    light = torch.cat([images, torch.ones_like(images[:, :1])], 1).flatten(2)
    total = light.new_zeros(samples, channels + 1, size * size)
    for right in (0, 1):
        for up in (0, 1):
            weight = (share if right else 1 - share)[:, 0] * (share if up else 1 - share)[:, 1]
            pixel = ((row + up) * size + column + right)[:, None].expand_as(light)
            total = total.scatter_add(2, pixel, light * weight[:, None])
    source = total[:, :-1] / (total[:, -1:] + _TINY)
    return source.view(samples, channels, size, size)


def relens(source: Tensor, beta: Tensor) -> Tensor:
    """Read a source, (B, C, S, S), at beta, (B, 2, H, W), half frames: the image, (B, C, H, W)."""
    return F.grid_sample(
        source, beta.permute(0, 2, 3, 1), padding_mode="border", align_corners=False
    )


def gradient(field: Tensor) -> Tensor:
    """Slopes along x and y, by central differences on a frame that repeats itself.

    Differences along x and along y commute to the last bit but for rounding, so the curl of the
    result by the same differences is zero: what is made here is the deflection of some mass.

    Arguments:
        field: (B, H, W) float on the pixels of a square frame, constant along its edges.

    Returns:
        (B, 2, H, W), per half frame.
    """
    return torch.stack([_slope(field, -1), _slope(field, -2)], 1)


def divergence(vectors: Tensor) -> Tensor:
    """Divergence, (B, H, W), of (B, 2, H, W), by the differences of `gradient`."""
    return _slope(vectors[:, 0], -1) + _slope(vectors[:, 1], -2)


def _slope(field: Tensor, axis: int) -> Tensor:
    return (field.roll(-1, axis) - field.roll(1, axis)) * (field.shape[axis] / 4)
