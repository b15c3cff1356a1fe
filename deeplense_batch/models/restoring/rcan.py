"""RCAN: residual groups whose blocks weigh their channels by what the whole image shows.

Reference:
    Zhang et al. 2018, arXiv:1807.02758; by default its 10 groups of 20 blocks, 64 channels wide.
"""

from __future__ import annotations

from typing import Any

from timm.models import register_model
from torch import Tensor, nn

from deeplense_batch.models.restoring.parts import check_ratio, upsampling
from deeplense_batch.models.small import options_unless_pretrained

__all__ = ["Rcan", "rcan"]


class Rcan(nn.Module):
    """Groups of blocks with channel attention, each group and the whole with a shortcut.

    Arguments:
        in_chans: Channels of the images.
        ratio: Pixels of the output along a side, for one of the input.
        width: Channels of the features.
        groups: Residual groups.
        blocks: Of each group.
        reduction: Channels are weighed by so many times fewer numbers.
    """

    def __init__(
        self,
        in_chans: int = 1,
        ratio: int = 2,
        width: int = 64,
        groups: int = 10,
        blocks: int = 20,
        reduction: int = 16,
    ) -> None:
        super().__init__()
        check_ratio(ratio)
        if reduction > width:
            raise ValueError(f"reduction: expected at most width, {width}, got {reduction}")
        self.head = nn.Conv2d(in_chans, width, 3, padding=1)
        self.body = _Residual(
            *(
                _Residual(*(_block(width, reduction) for _ in range(blocks)), _conv(width))
                for _ in range(groups)
            ),
            _conv(width),
        )
        self.tail = upsampling(width, in_chans, ratio)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, ratio x h, ratio x w) of images (B, C, h, w)."""
        return self.tail(self.body(self.head(images)))


class _Residual(nn.Sequential):
    """Layers that add to what they are given."""

    def forward(self, features: Tensor) -> Tensor:
        return features + super().forward(features)


class _Attention(nn.Module):
    """Channels multiplied by weights from 0 to 1, which their means over the image give."""

    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, width // reduction, 1),
            nn.ReLU(),
            nn.Conv2d(width // reduction, width, 1),
            nn.Sigmoid(),
        )

    def forward(self, features: Tensor) -> Tensor:
        return features * self.weigh(features)


def _block(width: int, reduction: int) -> _Residual:
    return _Residual(_conv(width), nn.ReLU(), _conv(width), _Attention(width, reduction))


def _conv(width: int) -> nn.Conv2d:
    return nn.Conv2d(width, width, 3, padding=1)


@register_model
def rcan(pretrained: bool = False, **options: Any) -> Rcan:
    """RCAN: 10 groups of 20 blocks, 64 channels."""
    return Rcan(**options_unless_pretrained("rcan", pretrained, options, classes=False))
