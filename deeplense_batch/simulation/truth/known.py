"""The delta chi^2 of images, from the file of truth that lies beside their shards.

The verb ``truth`` writes it: ``truth DATA DATA/truth.h5``. It holds the digest of the set, so that
a file of other images, or of this set before it was made again, is not taken for its truth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

__all__ = ["FILE", "known_delta_chi2"]

FILE = "truth.h5"


def known_delta_chi2(
    root: Path | str, digest: str, ids: Sequence[str]
) -> tuple[NDArray[np.float64] | None, list[str]]:
    """Look up the delta chi^2 of images.

    Arguments:
        root: Folder of their shards.
        digest: Of the set (`data.shards.data_digest`).
        ids: Names of the images.

    Returns:
        (N,) float64, NaN where the file has no such image; None without a file, or with one that
        cannot be used. And notes: why it cannot be, or how many images it lacks.
    """
    path = Path(root) / FILE
    if not path.is_file():
        return None, []
    try:
        with h5py.File(path, "r", locking=False) as file:
            of = file.attrs.get("data")
            found = [
                float(file[f"{name}/delta_chi2"][()]) if name in file else math.nan for name in ids
            ]
    except (OSError, KeyError, TypeError, ValueError):
        return None, [f"{FILE} beside the shards cannot be read: no scores by delta chi^2"]
    if of != digest:
        other = (
            "does not say of which images it is" if of is None else f"is of other images ({of})"
        )
        return None, [f"{FILE} beside the shards {other}: no scores by delta chi^2"]
    known = np.array(found, np.float64)
    unknown = int(np.isnan(known).sum())
    if unknown == len(known):
        return None, [f"{FILE} beside the shards has none of these images"]
    notes = [f"delta chi^2 is known of {len(known) - unknown} of {len(known)} images"]
    return known, notes if unknown else []
