"""Work on a batch in pieces for which a device has room."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

__all__ = ["Room"]

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Room:
    """How many samples go at once: as many as asked, and half whenever memory runs out.

    The number that had room is kept for the batches that follow.

    Arguments:
        most: Samples at once; None for whole batches.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = most

    def pieces(self, count: int, work: Callable[[slice], T]) -> Iterator[T]:
        """Work on pieces of a batch, from the first sample to the last.

        Arguments:
            count: Samples of the batch.
            work: Called with a slice of the samples, a smaller one after memory ran out.

        Raises:
            torch.OutOfMemoryError: There is no room for a single sample.
        """
        first = 0
        while first < count:
            part = slice(first, min(first + (self.most or count), count))
            try:
                done = work(part)
            except torch.OutOfMemoryError as error:
                fault = str(error)
            else:
                yield done
                first = part.stop
                continue
            # Only here are the tensors of the pass that failed gone, and their memory free.
            self._halve(part.stop - first, fault)

    def _halve(self, tried: int, fault: str) -> None:
        if tried == 1:
            raise torch.OutOfMemoryError(fault)
        self.most = math.ceil(tried / 2)
        torch.cuda.empty_cache()
        _log.warning("out of memory: %d samples at a time from here on", self.most)
