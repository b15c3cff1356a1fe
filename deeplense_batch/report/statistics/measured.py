"""What is measured of each restored image, as a run has kept it: its scores are the means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["all_end_to_end", "end_to_end", "measured_of"]

_QUALITY = ("psnr", "ssim", "mse")  # begin the names

Array = NDArray[np.float64]


def measured_of(arrays: Mapping[str, NDArray]) -> dict[str, Array]:
    """Quality of restored images and of baselines, (N,) by name, and gains over the fitted one.

    Arguments:
        arrays: Of `outputs.npz` of a restoration.
    """
    found = {
        name: np.asarray(values, np.float64)
        for name, values in arrays.items()
        if name.startswith(_QUALITY)
    }
    for end in ("", "_clean"):
        if f"psnr{end}" in found and f"psnr_fitted{end}" in found:
            found[f"gain{end}"] = found[f"psnr{end}"] - found[f"psnr_fitted{end}"]
    return found


def end_to_end(parts: Sequence[NDArray | None], order: NDArray[np.int64]) -> NDArray | None:
    """Arrays of all parts of a split, one after another, ordered; None where one lacks.

    Arguments:
        parts: Of each part, (n, ...).
        order: Places of the samples of the split among those of all parts, (N,).
    """
    known = [part for part in parts if part is not None]
    return np.concatenate(known)[order] if len(known) == len(parts) else None


def all_end_to_end(
    parts: Sequence[Mapping[str, Array] | None], order: NDArray[np.int64]
) -> dict[str, Array] | None:
    """What is known in all parts by name, each as `end_to_end`; None where a part has nothing."""
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts):
        return None
    names = [name for name in known[0] if all(name in part for part in known)]
    return {name: np.concatenate([part[name] for part in known])[order] for name in names}
