"""The network of diffusion: a UNet that is given the time and, if asked, what to draw.

References:
    Ho et al. 2020, arXiv:2006.11239; Dhariwal and Nichol 2021, arXiv:2105.05233;
    Saharia et al. 2021, arXiv:2104.07636 (SR3: a poorer image as further channels).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from timm.models import register_model
from torch import Tensor, nn
from torch.nn import functional

from deeplense_batch.data.augment import central
from deeplense_batch.models.small import own_options

__all__ = ["Denoiser", "unet"]

_TIMES = 1000.0  # t as the times that the embedding of diffusers is made for
_GROUP = 8  # channels of a group of the normalisation divide this or more


class Denoiser(nn.Module):
    """diffusers' UNet, with conditions added to its embedding of the time.

    Images of any size are padded by reflection to one that can be halved, and cut again.

    Arguments:
        in_chans: Channels of the images.
        num_classes: Classes that it can be given; 0 for none. One more means no class.
        radius: Whether it can be given the logarithm of the Einstein radius.
        inputs: Whether it is given a poorer image of what to draw, as further channels.
        width: Channels at full size, a multiple of 8.
        multiples: Of the width, at full, half, quarter, ... size.
        blocks: Residual blocks at each size.
        attention: Sizes, counted from the smallest, that have self-attention.
    """

    def __init__(
        self,
        in_chans: int = 1,
        num_classes: int = 0,
        radius: bool = False,
        inputs: bool = False,
        width: int = 64,
        multiples: Sequence[int] = (1, 2, 2, 2),
        blocks: int = 2,
        attention: int = 1,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        from diffusers import UNet2DModel

        count = len(multiples)
        if width % _GROUP or not 0 <= attention <= count:
            raise ValueError(f"width a multiple of {_GROUP}, attention from 0 to {count} expected")
        down = ["DownBlock2D"] * (count - attention) + ["AttnDownBlock2D"] * attention
        up = ["AttnUpBlock2D"] * attention + ["UpBlock2D"] * (count - attention)
        self.network = UNet2DModel(
            in_channels=in_chans * (2 if inputs else 1),
            out_channels=in_chans,
            block_out_channels=tuple(width * multiple for multiple in multiples),
            layers_per_block=blocks,
            down_block_types=tuple(down),
            up_block_types=tuple(up),
            norm_num_groups=_GROUP,
            attention_head_dim=min(width, 64),
            dropout=drop_rate,
            class_embed_type="identity",  # an embedding of ours is added as it is
        )
        nn.init.zeros_(self.network.conv_out.weight)  # what it gives at first is 0
        size = 4 * width * multiples[0]
        self.classes, self.inputs = num_classes, inputs
        self.label = nn.Embedding(num_classes + 1, size) if num_classes else None
        self.radius = (
            nn.Sequential(nn.Linear(2, size), nn.SiLU(), nn.Linear(size, size)) if radius else None
        )
        self._size, self._factor = size, 2 ** (count - 1)

    def forward(
        self,
        images: Tensor,
        t: Tensor | None = None,
        labels: Tensor | None = None,
        radii: Tensor | None = None,
        inputs: Tensor | None = None,
    ) -> Tensor:
        """Predict from noisy images.

        Arguments:
            images: (B, C, H, W).
            t: Time of the noise, (B,) in [0, 1]; None is 1, pure noise.
            labels: Class numbers, (B,) int64; negative for no class.
            radii: Logarithms of Einstein radii in arcsec, (B,); NaN for any.
            inputs: Poorer images in as many pixels, (B, C, H, W); None is 0, the mean.

        Returns:
            (B, C, H, W).
        """
        count = len(images)
        t = images.new_ones(count) if t is None else t
        embedding = images.new_zeros(count, self._size)
        if self.label is not None:
            none = torch.full((count,), self.classes, device=images.device)
            labels = none if labels is None else torch.where(labels < 0, none, labels)
            embedding = embedding + self.label(labels)
        if self.radius is not None:
            radii = images.new_full((count,), torch.nan) if radii is None else radii
            known = torch.isfinite(radii)
            condition = torch.stack([radii.nan_to_num(), known], 1).to(embedding)
            embedding = embedding + self.radius(condition)
        if self.inputs:
            given = torch.zeros_like(images) if inputs is None else inputs
            images = torch.cat([images, given], 1)
        padded = functional.pad(images, self._padding(images), mode="reflect")
        output = self.network(padded, t * _TIMES, class_labels=embedding).sample
        height, width = images.shape[-2:]
        return output[..., central(output.shape[-2], height), central(output.shape[-1], width)]

    def _padding(self, images: Tensor) -> tuple[int, int, int, int]:
        """Pixels to add on the left, right, top and bottom."""
        height, width = (-size % self._factor for size in images.shape[-2:])
        return width // 2, width - width // 2, height // 2, height - height // 2


@register_model
def unet(pretrained: bool = False, **options: Any) -> Denoiser:
    """UNet of four sizes, 64 to 128 channels."""
    return Denoiser(**own_options(options))
