"""What shards of pairs hold beside their images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.data.encoding import CLEAN, COUNTS, Array
from deeplense_batch.data.header import ratio_of

__all__ = ["PIXELS", "PairArrays"]

PIXELS = ("images", "inputs", "clean")  # data sets of pixels


@dataclass(frozen=True)
class PairArrays:
    """What goes with some images, (n, C, H, W), of a set of pairs, in their order."""

    inputs: Array  # (n, C, h, w), stored form; H / h = W / w is whole
    inputs_scale: NDArray[np.float64] | None = None  # (n, C), beside counts
    clean: NDArray[np.float32] | None = None  # (n, C, H, W), the images without their noise

    def named(self, images: Array) -> dict[str, Array]:
        """The data sets by name, in `images`' order."""
        assert self.inputs.shape[:2] == images.shape[:2]
        assert ratio_of(images.shape[2:], self.inputs.shape[2:])
        assert (self.inputs_scale is not None) == (self.inputs.dtype == COUNTS)
        named: dict[str, Array] = {"inputs": self.inputs}
        if self.inputs_scale is not None:
            named["inputs_scale"] = self.inputs_scale.astype(np.float64)
        if self.clean is not None:
            assert self.clean.shape == images.shape and self.clean.dtype == CLEAN
            named["clean"] = self.clean
        return named
