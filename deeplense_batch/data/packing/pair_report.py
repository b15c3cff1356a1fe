"""What the report of a packing says of the inputs of pairs."""

from __future__ import annotations

import math
from typing import Any

from deeplense_batch.data.formats.parts import same_scale
from deeplense_batch.data.header import ratio_of
from deeplense_batch.data.packing.storage import Storage
from deeplense_batch.data.split import SplitInfo

__all__ = ["about_scales", "inputs_of_split"]


def inputs_of_split(info: SplitInfo) -> dict[str, Any] | None:
    """What the report of a packing keeps of the inputs of a split; None without pairs."""
    if info.inputs is None:
        return None
    own = info.inputs
    return {"shape": own.shape, "dtype": own.dtype.name, "stored": own.stored.name}


def about_scales(storage: Storage) -> list[str]:
    """Warn where headers say that pixels of the inputs are not as wide as those they cover."""
    own = storage.inputs
    if own is None or math.isnan(storage.pixel_scale) or math.isnan(own.pixel_scale):
        return []
    ratio = ratio_of(storage.shape[1:], own.shape[1:]) or 1
    if same_scale(storage.pixel_scale * ratio, own.pixel_scale):
        return []
    return [
        f"by the headers a pixel of the inputs is {own.pixel_scale:g} arcsec wide, and the "
        f"{ratio} of an image along it {storage.pixel_scale * ratio:g}: do both show one field?"
    ]
