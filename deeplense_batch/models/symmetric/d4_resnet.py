"""A residual network that the eight symmetries of the square cannot change: D4-equivariant.

A lens looks as much like a lens after a turn by 90 degrees or in a mirror. A plain network learns
this from augmented images; here each layer keeps it exactly. Its features are functions on the
group, eight values for each of its *fields* at each pixel, and a symmetry of the image moves the
pixels and exchanges the eight. A kernel is learnt once and used in its eight orientations:

    (f * k)(x, g) = sum over y, h of f(y, h) k(g^-1 (y - x), g^-1 h)

The mean over the group and the pixels at the end is the same for all eight, to rounding. With 8
fields for 64 channels it computes as much as ResNet-18, with an eighth of its weights.

Written here, since escnn, which has such layers for any group, needs a Fortran compiler to be
installed, and for this group of exact moves of pixels they are what is in this file.

References:
    Cohen and Welling 2016, arXiv:1602.07576, sections 4.3 and 6 (group convolutions, p4m).
    He et al. 2016, arXiv:1512.03385, table 1 (the stages of ResNet-18).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from timm.models import register_model
from torch import Tensor, nn
from torch.nn import functional

from deeplense_batch.models.small import options_unless_pretrained

__all__ = ["D4ResNet", "d4_resnet18", "transformed"]

_ORDER = 8


def transformed(images: Tensor, element: int) -> Tensor:
    """Apply a symmetry of the square to the last two axes: quarter turns after a reflection.

    Arguments:
        images: Of shape (..., S, S).
        element: Of the group: quarter turns, 0 to 3, and 4 more if reflected first.
    """
    mirrored = images.flip(-1) if element >= 4 else images
    return mirrored.rot90(element % 4, (-2, -1))


def _relative(g: int, h: int) -> int:
    """The element g^-1 h: turns of a reflected image go the other way around."""
    turns = (h % 4 - g % 4) % 4
    if g >= 4:
        turns = -turns % 4
    return turns + 4 * ((g >= 4) != (h >= 4))


class _Lift(nn.Module):
    """Convolution of images with kernels in eight orientations, (B, C, H, W) to (B, 8 F, H, W)."""

    def __init__(self, channels: int, fields: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(fields, channels, kernel, kernel))
        nn.init.normal_(self.weight, std=math.sqrt(2 / self.weight[0].numel()))

    def forward(self, images: Tensor) -> Tensor:
        kernels = torch.stack([transformed(self.weight, g) for g in range(_ORDER)], 1)
        return functional.conv2d(images, kernels.flatten(0, 1), padding="same")


class _Convolution(nn.Module):
    """Convolution over pixels and group, (B, 8 F, H, W) to (B, 8 G, H, W)."""

    places: Tensor  # of g^-1 h among the elements h, (8, 8) int64

    def __init__(self, fields: int, out: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out, fields, _ORDER, kernel, kernel))
        nn.init.normal_(self.weight, std=math.sqrt(2 / self.weight[0].numel()))
        places = [[_relative(g, h) for h in range(_ORDER)] for g in range(_ORDER)]
        self.register_buffer("places", torch.tensor(places), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        kernels = torch.stack(
            [transformed(self.weight[:, :, self.places[g]], g) for g in range(_ORDER)], 1
        )
        return functional.conv2d(features, kernels.flatten(0, 1).flatten(1, 2), padding="same")


class _Norm(nn.Module):
    """Batch norm with one mean and one variance for the eight values of a field."""

    def __init__(self, fields: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm3d(fields)

    def forward(self, features: Tensor) -> Tensor:
        return self.norm(features.unflatten(1, (-1, _ORDER))).flatten(1, 2)


class _Block(nn.Module):
    """Two convolutions and a shortcut, on half the pixels where that is asked for."""

    def __init__(self, fields: int, out: int, *, halved: bool) -> None:
        super().__init__()
        self.halved = halved
        self.conv1, self.norm1 = _Convolution(fields, out, 3), _Norm(out)
        self.conv2, self.norm2 = _Convolution(out, out, 3), _Norm(out)
        self.shortcut: nn.Module = nn.Identity()
        if halved or fields != out:
            self.shortcut = nn.Sequential(_Convolution(fields, out, 1), _Norm(out))

    def forward(self, features: Tensor) -> Tensor:
        if self.halved:
            features = _half(features)
        inner = functional.relu(self.norm1(self.conv1(features)))
        return functional.relu(self.norm2(self.conv2(inner)) + self.shortcut(features))


def _half(features: Tensor) -> Tensor:
    """Average to half the size; a stride would take other pixels of a turned image.

    An odd size is averaged around every other pixel, from the first to the last.
    """
    odd = features.shape[-1] % 2
    return functional.avg_pool2d(features, 2 + odd, 2, padding=odd, count_include_pad=False)


class D4ResNet(nn.Module):
    """ResNet of D4-equivariant convolutions; its logits are those of the turned, mirrored image.

    Images have to be square, of any size.

    Arguments:
        in_chans: Channels of the images.
        num_classes: Logits.
        fields: Of each stage, at 1/4, 1/8, ... of the size; a field is eight channels.
        blocks: In each stage, of two convolutions.
        drop_rate: Of the features before the last layer.
    """

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        fields: Sequence[int] = (8, 16, 32, 64),
        blocks: int = 2,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.stem, self.norm = _Lift(in_chans, fields[0], 7), _Norm(fields[0])
        stages = []
        for i, (before, width) in enumerate(pairwise([fields[0], *fields])):
            stages.append(_Block(before, width, halved=i > 0))
            stages.extend(_Block(width, width, halved=False) for _ in range(blocks - 1))
        self.blocks = nn.Sequential(*stages)
        self.dropout = nn.Dropout(drop_rate)
        self.head = nn.Linear(fields[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (B, num_classes), of images (B, in_chans, S, S)."""
        features = _half(_half(functional.relu(self.norm(self.stem(images)))))
        pooled = self.blocks(features).unflatten(1, (-1, _ORDER)).mean((2, 3, 4))
        return self.head(self.dropout(pooled))

    def get_classifier(self) -> nn.Module:
        """The last layer, as timm's models give it."""
        return self.head


@register_model
def d4_resnet18(pretrained: bool = False, **options: Any) -> D4ResNet:
    """ResNet-18 of D4-equivariant convolutions."""
    return D4ResNet(**options_unless_pretrained("d4_resnet18", pretrained, options))
