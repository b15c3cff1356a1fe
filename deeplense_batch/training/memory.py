"""Work on a batch in pieces for which a device has room."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import TypeVar

import torch

__all__ = ["Room"]

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Room:
    """How many samples go at once: all, and half as many whenever memory runs out.

    The number that had room is kept for the batches that follow.
    """

    def __init__(self) -> None:
        self.most: int | None = None  # None while whole batches have room

    def work(self, count: int, on: Callable[[slice], T]) -> list[T]:
        """Work on pieces of a batch, from the first sample to the last.

        Arguments:
            count: Samples of the batch.
            on: Does the work on the samples of a slice; it is begun again, with smaller slices,
                where memory runs out.

        Raises:
            torch.OutOfMemoryError: There is no room for a single sample.
        """
        while True:
            size = min(self.most or count, count)
            try:
                return [on(slice(i, min(i + size, count))) for i in range(0, count, size)]
            except torch.OutOfMemoryError as error:
                fault = str(error)
            # Only here are the tensors of the pass that failed gone, and their memory free.
            if size <= 1:
                raise torch.OutOfMemoryError(fault)
            self.most = math.ceil(size / 2)
            torch.cuda.empty_cache()
            _log.warning("out of memory: %d samples at a time from here on", self.most)
