"""What all share that draw with the network of a run, as a generator of sets is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from deeplense_batch.inference.trained import Trained
from deeplense_batch.tasks.generation import Generation

__all__ = ["Drawer"]

_BATCH = {"cpu": 16, "cuda": 128}


@dataclass(frozen=True, kw_only=True)
class Drawer:
    """A network that draws: what `ImageGenerator` says of its images, but not how many there are.

    Arguments:
        trained: The network, which is put on the device.
        task: What it has learnt.
        sampler: Of `samplers.SAMPLERS`.
        steps: Of the sampler.
        device: Where it draws.
    """

    trained: Trained
    task: Generation
    sampler: str
    steps: int
    device: torch.device

    stored: ClassVar[np.dtype] = np.dtype(np.float32)
    dtype: ClassVar[np.dtype] = np.dtype(np.float32)
    known_faults: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        self.trained.model.to(self.device)

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W of an image: as the network sees it."""
        return self.trained.input_shape

    @property
    def bands(self) -> tuple[str, ...]:
        """Those of the images that the network has learnt; none where they are unknown."""
        return self.trained.bands

    @property
    def batch(self) -> int:
        """Images at once."""
        return _BATCH[self.device.type]

    @property
    def pixel_scale(self) -> float:
        """Width of a pixel, arcsec; NaN where unknown."""
        return self.trained.input_pixel_scale

    @property
    def about(self) -> str:
        """What the images come from, in a few words."""
        return f"{self.trained.run.name}, {self.sampler} with {self.steps} steps"
