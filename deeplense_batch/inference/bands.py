"""Whether images have the bands that a network has learnt, in the order of its channels.

A network takes channels by their place: r, g, i instead of g, r, i gives numbers, and wrong ones.
A run keeps the names of its bands beside its weights; where either side has none, nothing is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deeplense_batch.data.formats.filters import filter_of
from deeplense_batch.data.header import ShardError
from deeplense_batch.models import checkpoint
from deeplense_batch.training.trainer import BEST

__all__ = ["about_other_bands", "check_bands"]

Bands = Sequence[str]


def check_bands(place: object, came: Bands, learnt: Bands, run: object) -> None:
    """Make sure that images have the bands of a network.

    Arguments:
        place: Where the images are.
        came: Their bands, in the order of the channels; none where they are unknown.
        learnt: Those of the images that the network was trained on.
        run: Its run directory.

    Raises:
        ShardError: They have others, or the same in another order.
    """
    if _same(came, learnt):
        return
    in_order = sorted(map(filter_of, came)) == sorted(map(filter_of, learnt))
    what = "in this order " * in_order
    raise ShardError(
        f"{place}: the channels are the bands {', '.join(came)}; {run} has learnt "
        f"{', '.join(learnt)} {what}and would take one band for another"
    )


def about_other_bands(init: Path, bands: Bands) -> str:
    """Say that a training starts from weights of other bands; nothing where it does not.

    Arguments:
        init: What `train.init` names: a run directory, or a file of weights.
        bands: Of the images that are trained on.
    """
    best = init / BEST if init.is_dir() else init
    if best.name != BEST or not best.is_file():
        return ""
    learnt = checkpoint.load(best).get("bands", ())
    if _same(bands, learnt):
        return ""
    return (
        f"it starts from {init.name}, which has learnt the bands {', '.join(learnt)}; these "
        f"images have {', '.join(bands)}"
    )


def _same(one: Bands, other: Bands) -> bool:
    unknown = not one or not other
    return unknown or [*map(filter_of, one)] == [*map(filter_of, other)]
