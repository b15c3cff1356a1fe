"""The UNet of diffusers as a restoring network: it is given the interpolated image."""

from __future__ import annotations

from typing import Any

from timm.models import register_model
from torch import Tensor, nn
from torch.nn import functional

from deeplense_batch.models.restoring.parts import check_ratio
from deeplense_batch.models.small import options_unless_pretrained
from deeplense_batch.models.unet import Denoiser

__all__ = ["RestoringUnet", "restoring_unet"]


class RestoringUnet(nn.Module):
    """The UNet of diffusion without time and conditions, on bicubically enlarged images.

    Arguments:
        in_chans: Channels of the images.
        ratio: Pixels of the output along a side, for one of the input.
        options: Of `models.unet.Denoiser`: width, multiples, blocks, attention, drop_rate.
    """

    def __init__(self, in_chans: int = 1, ratio: int = 2, **options: Any) -> None:
        super().__init__()
        check_ratio(ratio)
        self.ratio = ratio
        self.denoiser = Denoiser(in_chans, **options)
        # The time is always 1: what is learnt of it is a constant.

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, ratio x h, ratio x w) of images (B, C, h, w)."""
        if self.ratio > 1:
            images = functional.interpolate(images, scale_factor=self.ratio, mode="bicubic")
        return self.denoiser(images)


@register_model
def restoring_unet(pretrained: bool = False, **options: Any) -> nn.Module:
    """UNet of four sizes, 64 to 128 channels, on interpolated images."""
    return RestoringUnet(
        **options_unless_pretrained("restoring_unet", pretrained, options, classes=False)
    )
