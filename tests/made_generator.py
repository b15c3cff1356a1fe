"""A generator of small images whose pixels say what they are."""

from __future__ import annotations

import numpy as np

from deeplense_batch.data.encoding import COUNTS
from deeplense_batch.data.generate import GeneratedBatch


class Numbers:
    """Images of 4 x 5 pixels: seed, index and length of the split's name, then random ones."""

    classes = ("no", "vort")
    folders = "{split}/{name}"
    shape = (1, 4, 5)
    stored, dtype = COUNTS, np.dtype(np.float64)
    batch = 3
    pixel_scale = 0.05
    about = "numbers"
    bands = ()
    known_faults = ()

    def __init__(self, *, about: str = "numbers", fails_at: int | None = None) -> None:
        self.about, self.fails_at = about, fails_at
        self.made: list[int] = []  # indices, in the order in which they were asked for

    def described(self) -> dict[str, object]:
        return {"about": self.about}

    def make(self, split, indices, *, seed: int) -> GeneratedBatch:
        for index in indices:
            if index == self.fails_at:
                raise KeyboardInterrupt
            self.made.append(index)
        images = np.stack([self.image(split, index, seed) for index in indices])
        truth = {"index": np.array(indices, float)}
        return GeneratedBatch(images, np.full((len(images), 1), 100.0), truth)

    @staticmethod
    def image(split: str, index: int, seed: int) -> np.ndarray:
        image = np.random.default_rng([seed, len(split), index]).integers(0, 100, (1, 4, 5))
        image[0, 0, :3] = seed, len(split), index
        return image.astype(COUNTS)
