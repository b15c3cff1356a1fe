"""SwinIR in its light form: residual groups of timm's Swin blocks at the size of the input.

Reference:
    Liang et al. 2021, arXiv:2108.10257: 4 groups of 6 blocks, 60 channels, windows of 8.
"""

from __future__ import annotations

from typing import Any

from timm.models import register_model
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn
from torch.nn import functional

from deeplense_batch.models.restoring.parts import check_ratio
from deeplense_batch.models.small import options_unless_pretrained

__all__ = ["SwinIr", "swinir_light"]


class SwinIr(nn.Module):
    """Attention within windows that shift from block to block, and one sub-pixel convolution.

    Images of any size are padded by reflection to whole windows, and cut again.

    Arguments:
        in_chans: Channels of the images.
        ratio: Pixels of the output along a side, for one of the input.
        width: Channels of the features, a multiple of `heads`.
        groups: Residual groups.
        blocks: Swin blocks of each group.
        heads: Of the attention.
        window: Pixels along a side that attend to each other.
        mlp_ratio: Width of the hidden layer of a block, for one channel.
    """

    def __init__(
        self,
        in_chans: int = 1,
        ratio: int = 2,
        width: int = 60,
        groups: int = 4,
        blocks: int = 6,
        heads: int = 6,
        window: int = 8,
        mlp_ratio: float = 2.0,
    ) -> None:
        super().__init__()
        check_ratio(ratio)
        if width % heads:
            raise ValueError(f"width: expected a multiple of heads, {heads}, got {width}")
        self.window, self.ratio = window, ratio
        self.head = nn.Conv2d(in_chans, width, 3, padding=1)
        self.groups = nn.ModuleList(
            _Group(width, blocks, heads, window, mlp_ratio) for _ in range(groups)
        )
        self.norm = nn.LayerNorm(width)
        self.after = nn.Conv2d(width, width, 3, padding=1)
        self.tail = nn.Sequential(
            nn.Conv2d(width, in_chans * ratio**2, 3, padding=1), nn.PixelShuffle(ratio)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, ratio x h, ratio x w) of images (B, C, h, w)."""
        height, width = images.shape[-2:]
        right, below = -width % self.window, -height % self.window
        first = self.head(functional.pad(images, (0, right, 0, below), mode="reflect"))
        features = first.permute(0, 2, 3, 1)
        for group in self.groups:
            features = group(features)
        body = self.after(self.norm(features).permute(0, 3, 1, 2))
        restored = self.tail(first + body)
        return restored[..., : height * self.ratio, : width * self.ratio]


class _Group(nn.Module):
    """Swin blocks and a convolution, which add to what they are given, (B, H, W, C)."""

    def __init__(self, width: int, blocks: int, heads: int, window: int, mlp_ratio: float) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(
                SwinTransformerBlock(
                    width,
                    input_resolution=(window, window),
                    num_heads=heads,
                    window_size=window,
                    shift_size=window // 2 * (i % 2),
                    always_partition=True,  # whatever the size of the images
                    dynamic_mask=True,
                    mlp_ratio=mlp_ratio,
                )
                for i in range(blocks)
            )
        )
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        mixed = self.blocks(features).permute(0, 3, 1, 2)
        return features + self.conv(mixed).permute(0, 2, 3, 1)


@register_model
def swinir_light(pretrained: bool = False, **options: Any) -> SwinIr:
    """SwinIR, light: 4 groups of 6 blocks, 60 channels."""
    return SwinIr(**options_unless_pretrained("swinir_light", pretrained, options, classes=False))
