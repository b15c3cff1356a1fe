"""Which bands of an image are shown as red, green and blue."""

from __future__ import annotations

from collections.abc import Sequence

from deeplense_batch.core.job import nearest
from deeplense_batch.data.formats.filters import band_order, filter_of
from deeplense_batch.data.header import ShardError

__all__ = ["colour_channels"]

_OF_A_CAMERA = {"red", "green", "blue"}
Rgb = tuple[int, int, int]


def colour_channels(bands: Sequence[str], asked: Sequence[str] = ()) -> Rgb | None:
    """Choose the channels that are red, green and blue.

    Arguments:
        bands: Names of the channels; none where they are unknown.
        asked: Bands to show as red, green and blue, by name; by default the three of the longest
            waves, the longest as red.

    Returns:
        Their indices; None where nothing is asked and fewer than three bands are known.

    Raises:
        ShardError: What is asked are not three of these bands.
    """
    if asked:
        return _asked(bands, asked)
    if len(bands) < 3:
        return None
    if {filter_of(band) for band in bands} in (_OF_A_CAMERA, set("rgb")):
        ordered = band_order(bands)  # red, green, blue
    else:
        ordered = band_order(bands)[::-1][:3]
    red, green, blue = (list(bands).index(band) for band in ordered)
    return red, green, blue


def _asked(bands: Sequence[str], asked: Sequence[str]) -> Rgb:
    places = {filter_of(band): place for place, band in enumerate(bands)}
    if not bands:
        raise ShardError(
            "--rgb: the bands of these images have no names; pack them with --bands, such as g,r,i"
        )
    if len(asked) != 3:
        raise ShardError(f"--rgb: expected three bands, got {', '.join(asked)}")
    for name in asked:
        if filter_of(name) not in places:
            raise ShardError(f"--rgb: there is no band '{name}'; {nearest(name, bands)}")
    red, green, blue = (places[filter_of(name)] for name in asked)
    return red, green, blue
