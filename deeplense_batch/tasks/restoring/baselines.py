"""What a restoration has to be better than: interpolation, and a fit of it to the pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional

from deeplense_batch.data.pixels.transform import per_channel

__all__ = ["BASELINES", "NOISE_FREE", "Fitted", "enlarged"]

BASELINES = ("nearest", "bilinear", "bicubic", "fitted")  # the last fits best
_ROUNDING = 1e-10  # of a sum of squares: less is no contrast
NOISE_FREE = "noise_free"  # the truth without its noise, scored as if it was restored


def enlarged(images: Tensor, ratio: int, how: str = "keys") -> Tensor:
    """Images interpolated to more pixels, with the middle of the image where it was.

    Arguments:
        images: (B, C, h, w).
        ratio: Pixels along a side for one.
        how: ``nearest``; ``bilinear``; ``bicubic``, the cubic kernel of a = -0.75 that torch and
            OpenCV have, by which published figures are; or ``keys``, that of a = -0.5, which
            reproduces gradients and is better (Keys 1981, IEEE TASSP 29, 1153; PIL has it).

    Returns:
        (B, C, ratio x h, ratio x w); of ratio 1 the images.
    """
    if ratio == 1:
        return images
    if how == "keys":  # torch has it for images that shrink, where it would blur them too
        return functional.interpolate(
            images, scale_factor=ratio, mode="bicubic", antialias=True, align_corners=False
        )
    return functional.interpolate(images, scale_factor=ratio, mode=how)


class Fitted:
    """gain x (bicubic interpolation, ``keys``) + offset of each channel, by least squares.

    Where the images of a pair come from two telescopes, or each was scaled on its own, plain
    interpolation is far off for a reason that has nothing to do with resolution.

    Arguments:
        channels: Of the images.
    """

    def __init__(self, channels: int) -> None:
        self.gain: list[float] = [1.0] * channels
        self.offset: list[float] = [0.0] * channels
        self._sums = torch.zeros(5, channels, dtype=torch.float64)

    def add(self, inputs: Tensor, images: Tensor, ratio: int) -> None:
        """Take pairs into account: (B, C, h, w), and (B, C, H, W)."""
        x, y = (v.double().movedim(1, 0).flatten(1) for v in (enlarged(inputs, ratio), images))
        count = torch.full_like(x[:, 0], x.shape[1])
        sums = torch.stack([count, x.sum(1), y.sum(1), (x * x).sum(1), (x * y).sum(1)])
        self._sums += sums.cpu()

    def solve(self) -> None:
        """Set gain and offset to those of the pairs so far."""
        n, x, y, xx, xy = self._sums
        spread = xx - x * x / n
        # Inputs without any contrast say nothing: then the mean of the images is all there is.
        varies = spread > _ROUNDING * xx
        gain = torch.where(varies, (xy - x * y / n) / torch.where(varies, spread, 1.0), 0.0)
        self.gain, self.offset = gain.tolist(), ((y - gain * x) / n).tolist()

    def __call__(self, inputs: Tensor, ratio: int) -> Tensor:
        """(B, C, ratio x h, ratio x w) of inputs (B, C, h, w)."""
        numbers = (self.gain, self.offset)
        gain, offset = (per_channel(tuple(values), inputs.device) for values in numbers)
        return enlarged(inputs, ratio) * gain + offset

    def stored(self) -> dict[str, Sequence[float]]:
        """What `of` reads back."""
        return {"gain": self.gain, "offset": self.offset}

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """As it was stored."""
        made = cls(len(stored["gain"]))
        made.gain, made.offset = list(stored["gain"]), list(stored["offset"])
        return made
