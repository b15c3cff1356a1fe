"""Which of the stored channels a network sees: some of them by name or number, or their mean.

The same choice is made wherever images are decoded, so that what follows, from the measured
statistics to the first layer, knows the chosen channels alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deeplense_batch.core.sections.data import Channels
from deeplense_batch.data.formats.filters import band_as_written
from deeplense_batch.data.header import ShardError

if TYPE_CHECKING:  # `submit` reads shards without torch
    from torch import Tensor

__all__ = ["MEAN", "Choice", "choose"]

MEAN = "mean"  # what a recipe calls the mean of all channels, and the name of that channel


@dataclass(frozen=True)
class Choice:
    """Channels of images that are stored with at least as many."""

    places: tuple[int, ...]  # of the stored channels, in the order in which they are seen
    averaged: bool = False  # into one channel

    def __len__(self) -> int:
        return 1 if self.averaged else len(self.places)

    def __call__(self, images: Tensor) -> Tensor:
        """The chosen channels, (B, len, H, W) float32, of stored ones, (B, C, H, W) float32."""
        if not self.keeps_order(images.shape[1]):
            images = images[:, list(self.places)]
        return self.joined(images)

    def joined(self, images: Tensor) -> Tensor:
        """What is seen, (B, len, H, W) float32, of the channels at `places`, in their order."""
        return images.mean(1, keepdim=True) if self.averaged else images

    def keeps_order(self, stored: int) -> bool:
        """Whether `places` are all of so many stored channels, in their order."""
        return self.places == tuple(range(stored))

    def stored(self, channels: int) -> dict[str, Any]:
        """What the weights of a run keep of it, where images have so many channels."""
        kept = {"of": channels, "places": list(self.places), "averaged": self.averaged}
        return {"channels": kept}

    @classmethod
    def of(cls, best: Mapping[str, Any]) -> tuple[Choice | None, int | None]:
        """The choice that the weights of a run keep, and of how many channels; or None, None."""
        kept = best.get("channels")
        if kept is None:
            return None, None
        return cls(tuple(kept["places"]), bool(kept["averaged"])), int(kept["of"])

    def moments(
        self, mean: Sequence[float], sd: Sequence[float]
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and sd of the chosen channels, from those of all; of an average the sd is NaN."""
        chosen = [[values[place] for place in self.places] for values in (mean, sd)]
        if self.averaged:
            chosen = [[sum(chosen[0]) / len(chosen[0])], [math.nan]]  # which the sds do not give
        return tuple(chosen[0]), tuple(chosen[1])

    def bands(self, stored: Sequence[str]) -> tuple[str, ...]:
        """Names of the chosen channels; none where those of the stored ones are unknown."""
        if self.averaged:
            return (MEAN,)
        return tuple(stored[place] for place in self.places) if stored else ()


def choose(channels: Channels, stored: int, bands: Sequence[str]) -> Choice | None:
    """Find the channels that a recipe names among those that images have.

    Arguments:
        channels: ``data.channels``: bands by name or number, ``mean``, or None for all.
        stored: Channels of the images.
        bands: Their names; none where they are unknown.

    Returns:
        The choice; None where all channels are seen as they are stored.

    Raises:
        ShardError: A channel is not there, or is named twice.
    """
    if channels is None:
        return None
    if isinstance(channels, str):
        return Choice(tuple(range(stored)), averaged=True)
    places = tuple(_place(channel, stored, bands) for channel in channels)
    if len(set(places)) < len(places):
        named = ", ".join(map(str, channels))
        raise ShardError(f"data.channels: {named} name one channel twice; expected each once")
    return Choice(places)


def _place(channel: str | int, stored: int, bands: Sequence[str]) -> int:
    has = ", ".join(bands) if bands else f"{stored} without names, by numbers from 0"
    if isinstance(channel, int):
        if channel >= stored:
            raise ShardError(
                f"data.channels: there is no channel {channel}; the images have {stored}, "
                f"numbered from 0" + f": {has}" * bool(bands)
            )
        return channel
    written = band_as_written(channel, bands)
    if written is None:
        raise ShardError(f"data.channels: there is no band '{channel}'; the images have {has}")
    return list(bands).index(written)
