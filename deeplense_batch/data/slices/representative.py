"""Which images stand for all of a slice, where not all of them are looked at.

The first do, since a slice is shuffled. Where the data are packed in groups, images of one object
or tile lie side by side, so that the first may be of one tile alone: one image is then drawn from
each of as many equal stretches of the slice. Taken at equal steps, all could be of one class where
classes alternate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["representative"]


def representative(samples: int, most: int, *, in_groups: bool) -> NDArray[np.int64]:
    """Places of images that stand for all, in rising order, always the same ones.

    Arguments:
        samples: N, of the slice or of one of its classes, in packed order.
        most: How many are wanted; all, if there are fewer.
        in_groups: Whether images of one group lie together.

    Returns:
        (min(N, most),), none of them twice.
    """
    count = min(samples, most)
    if not in_groups:
        return np.arange(count)
    edges = np.arange(count + 1) * samples // max(count, 1)
    return np.random.default_rng(0).integers(edges[:-1], edges[1:])
