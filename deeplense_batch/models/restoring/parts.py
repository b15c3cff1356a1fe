"""What restoring networks share: the layers that make more pixels.

Reference:
    Shi et al. 2016, arXiv:1609.05158 (sub-pixel convolution).
"""

from __future__ import annotations

from torch import nn

__all__ = ["check_ratio", "upsampling"]


def check_ratio(ratio: int) -> None:
    """Make sure that a network can give images so many times as large.

    Raises:
        ValueError: It cannot.
    """
    if ratio < 1:
        raise ValueError(f"ratio: expected a whole number from 1 on, got {ratio!r}")


def upsampling(width: int, channels: int, ratio: int) -> nn.Sequential:
    """Layers that make images (B, channels, ratio x h, ratio x w) of features (B, width, h, w).

    A ratio of 4 is reached in two steps of 2, as EDSR and RCAN do; of 1 there is no step.
    """
    layers: list[nn.Module] = []
    while ratio > 1:
        step = 2 if ratio % 2 == 0 else ratio
        layers += [nn.Conv2d(width, width * step**2, 3, padding=1), nn.PixelShuffle(step)]
        ratio //= step
    return nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1))
