"""EDSR: residual blocks without batch norm, then a sub-pixel convolution.

Reference:
    Lim et al. 2017, arXiv:1707.02921; by default its baseline of 16 blocks, 64 channels wide.
"""

from __future__ import annotations

from typing import Any

from timm.models import register_model
from torch import Tensor, nn

from deeplense_batch.models.restoring.parts import check_ratio, upsampling
from deeplense_batch.models.small import options_unless_pretrained

__all__ = ["Edsr", "edsr"]


class Edsr(nn.Module):
    """A chain of residual blocks at the size of the input, and one step up.

    Arguments:
        in_chans: Channels of the images.
        ratio: Pixels of the output along a side, for one of the input.
        width: Channels of the features.
        blocks: Residual blocks.
        residual_scale: What a block adds is multiplied by it; 0.1 keeps 256 channels stable.
    """

    def __init__(
        self,
        in_chans: int = 1,
        ratio: int = 2,
        width: int = 64,
        blocks: int = 16,
        residual_scale: float = 1.0,
    ) -> None:
        super().__init__()
        check_ratio(ratio)
        self.head = nn.Conv2d(in_chans, width, 3, padding=1)
        self.body = nn.Sequential(
            *(_Block(width, residual_scale) for _ in range(blocks)),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.tail = upsampling(width, in_chans, ratio)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, ratio x h, ratio x w) of images (B, C, h, w)."""
        features = self.head(images)
        return self.tail(features + self.body(features))


class _Block(nn.Module):
    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, features: Tensor) -> Tensor:
        return features + self.scale * self.layers(features)


@register_model
def edsr(pretrained: bool = False, **options: Any) -> Edsr:
    """EDSR baseline: 16 blocks, 64 channels."""
    return Edsr(**options_unless_pretrained("edsr", pretrained, options, classes=False))
