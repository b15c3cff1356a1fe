"""Mean and standard deviation of the values of a split, from sums over its samples."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.data.encoding import Array

__all__ = ["Moments", "Sums", "sums_of"]

#: Of ``images`` and of ``inputs``: sums of decoded values and of their squares, (2, C) float64.
Sums = dict[str, NDArray[np.float64]]

_SCALES = {"images": "scale", "inputs": "inputs_scale"}  # beside counts


class Moments:
    """Sums over all samples of a split, of images and, where there are pairs, of inputs."""

    def __init__(self) -> None:
        self._sums: Sums = {}
        self._pixels: dict[str, int] = {}  # of a channel

    def add(self, arrays: Mapping[str, Array], sums: Sums) -> None:
        """Add samples: their arrays, of which only the shapes are looked at, and their sums."""
        for name, own in sums.items():
            self._sums[name] = self._sums.get(name, 0.0) + own
            pixels = len(arrays[name]) * arrays[name][0, 0].size
            self._pixels[name] = self._pixels.get(name, 0) + pixels

    def attributes(self) -> dict[str, NDArray[np.float64]]:
        """``mean`` and ``sd`` of images, ``inputs_mean`` and ``inputs_sd`` of pairs, (C,) each."""
        made = {}
        for name, own in self._sums.items():
            prefix = "" if name == "images" else f"{name}_"
            mean, square = own / max(self._pixels[name], 1)
            made[f"{prefix}mean"] = mean
            made[f"{prefix}sd"] = np.sqrt(np.maximum(square - mean**2, 0.0))
        return made


def sums_of(arrays: Mapping[str, Array]) -> Sums:
    """The sums of some samples, from their arrays as shards hold them."""
    return {
        name: _sums(arrays[name], arrays.get(scale))
        for name, scale in _SCALES.items()
        if name in arrays
    }


def _sums(images: Array, scale: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Of images (N, C, H, W) as stored, and their counts of value 1, (N, C) or None: (2, C)."""
    sums = np.zeros((2, images.shape[1]))
    for i, image in enumerate(images):
        for c, values in enumerate(image.astype(np.float64).reshape(len(image), -1)):
            unit = 1.0 if scale is None else scale[i, c]
            # Not `values @ values`: BLAS takes cores for it that the readers need.
            square = np.einsum("i,i", values, values)
            sums[:, c] += values.sum() / unit, square / unit**2
    return sums
