"""Shards of made-up galaxies, which arcs are painted on, and cutouts of galaxies as sources."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from deeplense_batch.data.writer import ShardWriter

PIXEL_SCALE = 0.2
SKY_SD = (4.0, 5.0, 6.0)


def galaxy(
    size: int = 60,
    *,
    flux: float = 4e4,
    centre: tuple[float, float] = (0.0, 0.0),
    sigma: float = 4.0,
    q: float = 0.7,
    phi: float = 0.5,
) -> np.ndarray:
    """A Gaussian galaxy without noise, (size, size); lengths in pixels."""
    axis = np.arange(size) - (size - 1) / 2
    dx, dy = axis[None, :] - centre[0], axis[:, None] - centre[1]
    u = math.cos(phi) * dx + math.sin(phi) * dy
    v = math.cos(phi) * dy - math.sin(phi) * dx
    light = np.exp(-(q * u * u + v * v / q) / (2 * sigma**2))
    return flux * light / light.sum()


def galaxies(count: int, size: int = 60, bands: int = 3, seed: int = 0) -> np.ndarray:
    """Images in nJy, (count, bands, size, size) float32."""
    random = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        shape = {"q": random.uniform(0.5, 1), "phi": random.uniform(0, math.pi)}
        light = galaxy(size, centre=tuple(random.uniform(-0.5, 0.5, 2)), **shape)
        noise = random.standard_normal((bands, size, size))
        ramp = 1 + np.arange(bands)
        sky = np.resize(SKY_SD, bands)[:, None, None]
        images.append(0.3 * ramp[:, None, None] * light + sky * noise)
    return np.array(images, np.float32)


def write_galaxies(
    root: Path,
    splits: dict[str, np.ndarray],
    *,
    bands: tuple[str, ...] = ("g", "r", "i"),
    pixel_scale: float = PIXEL_SCALE,
    classes: tuple[str, ...] = (),
    targets: list[int] | None = None,
    catalogue: dict[str, np.ndarray] | None = None,
    group: str = "",
) -> Path:
    """Write images of each split, (N, C, H, W), with names such as ``train-3``."""
    for split, images in splits.items():
        with ShardWriter(
            root, split=split, shape=images.shape[1:], stored=images.dtype, dtype=images.dtype,
            classes=classes, source="tests", seed=0, pixel_scale=pixel_scale, bands=bands,
            shard_size=16, group=group,
        ) as writer:  # fmt: skip
            writer.append(
                images,
                targets=[-1] * len(images) if targets is None else targets,
                ids=[f"{split}-{i}" for i in range(len(images))],
                catalogue=catalogue,
            )
            writer.publish()
    return root
