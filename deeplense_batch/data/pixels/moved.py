"""Images moved by parts of a pixel, each by its own shift, on the device."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["moved"]


def moved(images: Tensor, shifts: Tensor) -> Tensor:
    """Images whose content lies further by their shifts; the mirror image comes in.

    By the Fourier transform of the image and its mirror images: the size of the noise stays, where
    interpolation between neighbours would smooth it, and a shift of whole pixels changes no value
    but for rounding.

    Arguments:
        images: (B, C, H, W) float32.
        shifts: Along rows and columns, (B, 2) float32, pixels.

    Returns:
        (B, C, H, W) float32.
    """
    for axis in (-2, -1):
        images = _along(images, shifts[:, axis], axis)
    return images


def _along(images: Tensor, shift: Tensor, axis: int) -> Tensor:
    count = images.shape[axis]
    waves = torch.fft.rfft(torch.cat([images, images.flip(axis)], axis), dim=axis)
    frequency = torch.fft.rfftfreq(2 * count, device=images.device)
    phase = -2 * math.pi * frequency * shift[:, None]
    turn = torch.polar(torch.ones_like(phase), phase)
    # The fastest wave is real in both halves of the spectrum, and can only shrink.
    turn = torch.cat([turn[:, :-1], turn[:, -1:].real.to(turn.dtype)], 1)
    shape = (len(images), 1, -1, 1) if axis == -2 else (len(images), 1, 1, -1)
    back = torch.fft.irfft(waves * turn.view(shape), n=2 * count, dim=axis)
    return back.narrow(axis, 0, count)
