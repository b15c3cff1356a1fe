"""What the samples of a shard, or of a whole split, are: their digest."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from deeplense_batch.data.encoding import Array

__all__ = ["Content", "Form", "sha256"]


def sha256(values: Array) -> bytes:
    """Digest of the bytes of an array."""
    return hashlib.sha256(np.ascontiguousarray(values).data).digest()


class Form(NamedTuple):
    """What is true of all samples of a split and changes what is learnt from them."""

    dtype: str  # of the values before packing
    classes: Sequence[str]
    pixel_scale: float | None  # arcsec, None or NaN where unknown
    format: int = 2  # of the shard

    def __str__(self) -> str:
        if self.format == 1:  # which left the pixels' width out
            return f"{self.dtype} {list(self.classes)}"
        known = self.pixel_scale is not None and not math.isnan(self.pixel_scale)
        scale = self.pixel_scale if known else None
        return json.dumps([self.dtype, list(self.classes), scale])


class Content:
    """sha256 of the form of the samples, and name, type, shape, sha256 of each array.

    That of the images is the sha256 of the sha256 of each; that of the ids, of a line each. How
    many samples are added at a time changes nothing.
    """

    def __init__(self, form: Form) -> None:
        self._head = f"{form}\n"
        self._samples = 0
        self._arrays: dict[str, tuple[str, Any]] = {}  # type and shape of a sample; running hash

    def add(self, arrays: Mapping[str, Array], image_digests: Sequence[bytes]) -> None:
        """Go on with samples, whose images have those digests."""
        self._samples += len(arrays["images"])
        for name, values in arrays.items():
            form = f"{values.dtype} {values.shape[1:]}"
            _, running = self._arrays.setdefault(name, (form, hashlib.sha256()))
            if name == "images":
                running.update(b"".join(image_digests))
            elif name == "ids":
                running.update("".join(f"{id_}\n" for id_ in values.tolist()).encode())
            else:
                running.update(np.ascontiguousarray(values).data)

    def hexdigest(self) -> str:
        """Digest of what was added so far."""
        digest = hashlib.sha256(f"{self._head}{self._samples}\n".encode())
        for name, (form, running) in sorted(self._arrays.items()):
            digest.update(f"{name} {form} {running.hexdigest()}\n".encode())
        return digest.hexdigest()
