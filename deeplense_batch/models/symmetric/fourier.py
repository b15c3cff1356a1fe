"""A Fourier neural operator that classifies: convolutions as wide as the image, few weights.

Each layer takes the lowest Fourier modes of its features, multiplies each with a matrix of its
own, and adds a layer that looks at single pixels:

    v' = gelu(norm(F^-1 (R F v) + W v))

What it learns is a function of the function that the pixels sample: a cyclic shift of the image
changes nothing, and a finer sampling little. No coordinates are given to it, since those would
end both.

Reference: Li et al. 2021, arXiv:2010.08895, equations 4 and 5, figure 2.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.models import register_model
from torch import Tensor, nn
from torch.nn import functional

from deeplense_batch.models.small import options_unless_pretrained

__all__ = ["FourierOperator", "fno_small"]


class _Spectral(nn.Module):
    """A matrix for each of the lowest modes, (B, C, H, W) to (B, C, H, W)."""

    def __init__(self, width: int, modes: int) -> None:
        super().__init__()
        self.modes = modes
        # Of frequencies 1 - modes to modes - 1 down, 0 to modes - 1 across; real and imaginary.
        shape = (2 * modes - 1, modes, width, width, 2)
        self.weight = nn.Parameter(torch.randn(shape) * (0.5 / width) ** 0.5)

    def forward(self, features: Tensor) -> Tensor:
        size = features.shape[-2:]
        modes = min(self.modes, (min(size) + 1) // 2)  # what so few pixels hold
        spectrum = torch.fft.rfft2(features.float(), norm="forward")  # half floats have none
        low = spectrum.roll(modes - 1, -2)[..., : 2 * modes - 1, :modes]
        edge = self.modes - modes
        kept = self.weight[edge : self.weight.shape[0] - edge, :modes]
        weight = torch.view_as_complex(kept.float().contiguous())
        mixed = torch.einsum("bihw,hwio->bohw", low, weight)
        rest = (0, spectrum.shape[-1] - modes, 0, size[0] - (2 * modes - 1))
        mixed = functional.pad(mixed, rest).roll(1 - modes, -2)
        return torch.fft.irfft2(mixed, size, norm="forward")


class _Layer(nn.Module):
    def __init__(self, width: int, modes: int) -> None:
        super().__init__()
        self.spectral, self.local = _Spectral(width, modes), nn.Conv2d(width, width, 1)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, features: Tensor) -> Tensor:
        return functional.gelu(self.norm(self.spectral(features) + self.local(features)))


class FourierOperator(nn.Module):
    """A Fourier neural operator and the mean of what it makes of the image.

    Arguments:
        in_chans: Channels of the images.
        num_classes: Logits.
        width: Channels of its features.
        modes: Frequencies kept along each axis, in cycles an image, the mean among them.
        layers: How many, one after the other.
        drop_rate: Of the features before the last layer.
    """

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        width: int = 24,
        modes: int = 12,
        layers: int = 4,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.lift = nn.Conv2d(in_chans, width, 1)
        self.layers = nn.Sequential(*(_Layer(width, modes) for _ in range(layers)))
        self.hidden = nn.Linear(width, 4 * width)
        self.dropout = nn.Dropout(drop_rate)
        self.head = nn.Linear(4 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (B, num_classes), of images (B, in_chans, H, W)."""
        features = self.layers(self.lift(images)).permute(0, 2, 3, 1)
        pooled = functional.gelu(self.hidden(features)).mean((1, 2))
        return self.head(self.dropout(pooled))

    def get_classifier(self) -> nn.Module:
        """The last layer, as timm's models give it."""
        return self.head


@register_model
def fno_small(pretrained: bool = False, **options: Any) -> FourierOperator:
    """Fourier neural operator of four layers."""
    return FourierOperator(**options_unless_pretrained("fno_small", pretrained, options))
