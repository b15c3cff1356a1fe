"""Files of pairs: images of counts and inputs that are no counts, whose values are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

__all__ = ["arrays", "write_files"]


def arrays(n=6, *, side=16, ratio=2, seed=0):
    """Images (n, 1, side, side) from 0 to 1 in counts, and inputs of half the pixels, float64."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 90, (n, 1, side, side))
    images[:, 0, 0, :2] = 0, 89
    return images / 89, random.normal(size=(n, 1, side // ratio, side // ratio))


def write_files(root: Path, names, images, inputs, *, low="LR", high="HR", low_name=None) -> Path:
    """Write each pair as ``<above>/HR/<name>.npy`` and ``<above>/LR/<name>.npy``."""
    for name, image, own in zip(names, images, inputs, strict=True):
        above, _, last = name.rpartition("/")
        lower = low_name(last) if low_name else last
        for folder, file, values in ((high, last, image), (low, lower, own)):
            path = root / above / folder / f"{file}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, values)
    return root
