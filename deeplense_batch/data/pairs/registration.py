"""By how much the two images of each pair are shifted against each other, measured once.

Two telescopes point a little differently, and a network that is trained on shifted pairs learns to
blur. The shift is where the cross-correlation of input and image is largest, to a fiftieth of a
pixel (Guizar-Sicairos et al. 2008, Opt. Lett. 33, 156, as scikit-image has it), of the image in
pixels of the input, both less their median and faded out towards the edges. It is not normalised
to phases alone, which weighs the noise of every frequency alike: on pairs simulated as of Hubble
and Hyper Suprime-Cam the median error is 0.08 pixels of the input, and 0.6 with phases.

Shifts are (rows, columns), by which the sky lies further in the input than in the image, in pixels
of the input. Images are moved, not inputs: a network is given inputs as they come.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deeplense_batch.core import files
from deeplense_batch.data.formats.counted import counted_of
from deeplense_batch.data.header import ShardError
from deeplense_batch.data.split import Split

__all__ = ["Registration", "check_installed", "register", "write_registrations"]

_FINE = 50  # parts of a pixel to which a shift is found
_FADED = 0.5  # share of each side over which images fade out
_LEAST_CORRELATION = 0.3  # of pairs that show one sky
_MOST_SHIFT = 1 / 8  # of a side
_MUCH = 0.5  # pixels of the input, above which a shift counts as one
_BLOCK = 256  # pairs in memory
_NAMED = 3

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Registration:
    """The shifts of the pairs of a slice."""

    shifts: Floats  # (N, 2), pixels of the inputs; 0 where none was found
    correlations: Floats  # (N,), of input and image where they fit best
    found: NDArray[np.bool_]  # (N,)

    def about(self, ids: Sequence[str]) -> str:
        """Median and range of the shifts, and which pairs are not registered, in a sentence."""
        lengths = np.hypot(*self.shifts[self.found].T)
        said = "no shift could be found"
        if len(lengths):
            share = counted_of(int((lengths > _MUCH).sum()), len(lengths), "shift", "is", "are")
            said = (
                f"shifts of {lengths.min():.2f} to {lengths.max():.2f} pixels of the inputs, "
                f"median {np.median(lengths):.2f}; {share} above {_MUCH:g}"
            )
        if self.found.all():
            return said
        lost = [id_ for id_, found in zip(ids, self.found, strict=True) if not found]
        more = ", ..." * (len(lost) > _NAMED)
        stay = "is" if len(lost) == 1 else "are"
        left = counted_of(len(lost), len(self.found), "pair", "shows", "show")
        named = f"{', '.join(lost[:_NAMED])}{more}"
        return f"{said}; {left} no common sky and {stay} not moved ({named})"


def check_installed() -> None:
    """Make sure that shifts can be measured here.

    Raises:
        ShardError: scikit-image is not installed.
    """
    if importlib.util.find_spec("skimage") is None:
        raise ShardError(
            "data.register: needs scikit-image: pip install 'deeplense-batch[register]'"
        )


def register(split: Split) -> Registration:
    """Measure the shift of each pair of a slice, of the mean of its channels.

    Raises:
        ShardError: It has no pairs, or scikit-image is not installed.
    """
    check_installed()
    measured = [_measured(image, own) for image, own in _pairs(split)]
    shifts, correlations = (np.array(values) for values in zip(*measured, strict=True))
    most = _MOST_SHIFT * min(split.of("inputs").info.shape[1:])
    found = (correlations >= _LEAST_CORRELATION) & (np.abs(shifts).max(1) <= most)
    return Registration(np.where(found[:, None], shifts, 0.0), correlations, found)


def write_registrations(
    path: Path, registered: Mapping[str, tuple[Sequence[str], Registration]]
) -> None:
    """Write a table of all pairs, at once and whole.

    Arguments:
        path: The .csv file.
        registered: Ids and shifts, by slice.
    """
    import pandas as pd  # to plan with pairs needs no tables

    tables = [
        pd.DataFrame(
            {
                "slice": name,
                "id": [*ids],
                "rows": each.shifts[:, 0],
                "columns": each.shifts[:, 1],
                "correlation": each.correlations,
                "registered": each.found,
            }
        )
        for name, (ids, each) in registered.items()
    ]
    files.replace(path, pd.concat(tables).to_csv(index=False, float_format="%.4f"))


def _pairs(split: Split) -> Iterator[tuple[Floats, Floats]]:
    """Image in pixels of its input, and this input, (h, w), of each pair."""
    inputs, ratio = split.of("inputs"), split.info.ratio
    for first in range(0, len(split), _BLOCK):
        part, own = (half.part(first, first + _BLOCK) for half in (split, inputs))
        images, given = (half.images().astype(np.float64).mean(1) for half in (part, own))
        n, height, width = given.shape
        images = images.reshape(n, height, ratio, width, ratio).mean((2, 4))
        yield from zip(images, given, strict=True)


def _measured(image: Floats, given: Floats) -> tuple[Floats, float]:
    """Shift of an input against its image, (2,), and their correlation there."""
    from skimage.registration import phase_cross_correlation

    both = [_faded(values) for values in (image, given)]
    if not all(values.any() for values in both):
        return np.zeros(2), 0.0
    back, error, _ = phase_cross_correlation(*both, upsample_factor=_FINE, normalization=None)
    return -np.asarray(back, np.float64), math.sqrt(max(0.0, 1 - float(error) ** 2))


def _faded(values: Floats) -> Floats:
    """An image less its median, (h, w), that goes to 0 at its edges, of mean 0."""
    from scipy.signal.windows import tukey

    rows, columns = (tukey(side, _FADED) for side in values.shape)
    faded = (values - np.median(values)) * rows[:, None] * columns
    return faded - faded.mean()
