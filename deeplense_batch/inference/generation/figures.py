"""Figures of generated images beside real ones: what was measured in, `Figure` out.

Three sets are side by side everywhere: the generated images, as many held-out ones, which they
should be like, and as many training images, which shows how like two real sets are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deeplense_batch.core.scoring.colours import Rgb
from deeplense_batch.core.scoring.figures import BLUE, ORANGE, panels_of, plain
from deeplense_batch.core.scoring.image_grid import contact_sheet
from deeplense_batch.inference.generation.image_statistics import Statistics

__all__ = ["distributions", "neighbour_sheet", "power_spectra", "sample_sheet"]

Distances = Mapping[str, Mapping[str, float | None]]  # by statistic: of `generated` and of `real`

_STYLES: dict[str, dict[str, Any]] = {
    "held-out": {"color": "black", "ls": ":", "lw": 2.2},
    "training": {"color": ORANGE, "ls": "--", "lw": 1.6},
    "generated": {"color": BLUE, "ls": "-", "lw": 1.3},
}
_LEAST_BINS, _MOST_BINS = 8, 40
_TAIL = 0.0005  # share of the pixels beyond each end of their histogram


def sample_sheet(
    rows: Mapping[str, Sequence[NDArray]], title: str, rgb: Rgb | None = None
) -> Figure:
    """Show generated images above held-out ones of the same class, stretched alike.

    Arguments:
        rows: By class, of an empty name where there are none: generated and held-out images, both
            (N, C, H, W). The class with the fewest says how many are shown of each.
        title: Of the sheet.
        rgb: Channels that are red, green and blue, if not as `colours.stretched` chooses.
    """
    filled = {name: pair for name, pair in rows.items() if len(pair[0])}
    columns = min(len(some) for pair in filled.values() for some in pair)
    images, labels = [], []
    for name, pair in filled.items():
        for kind, some in zip(("generated", "held-out"), pair, strict=True):
            images += list(some[:columns])
            labels += [f"{kind} {name}".strip()] * columns
    real = [image for _, held_out in filled.values() for image in held_out[:columns]]
    return contact_sheet(images, labels, title, columns=columns, like=real, rgb=rgb)


def neighbour_sheet(
    images: Sequence[NDArray],
    neighbours: Sequence[NDArray],
    ratios: Sequence[float],
    title: str,
    rgb: Rgb | None = None,
) -> Figure:
    """Show generated images above their nearest training images, stretched alike.

    Each is turned to where it is nearest, among the symmetries that training showed.

    Arguments:
        images, neighbours: Values, (C, H, W), eight or fewer of each.
        ratios: Distance of each pair over the usual distance of a held-out image.
        title: Of the sheet.
        rgb: As in `sample_sheet`.
    """
    labels = [f"generated\nratio {ratio:.2f}" for ratio in ratios]
    labels += ["nearest training"] * len(neighbours)
    return contact_sheet(
        [*images, *neighbours], labels, title, columns=len(images), like=neighbours, rgb=rgb
    )


def power_spectra(sets: Mapping[str, Statistics], away: Distances, pixel_scale: float) -> Figure:
    """Draw mean radial power spectra, and below them their ratios to that of held-out images.

    Arguments:
        sets: By name: ``generated``, ``training``, ``held-out``.
        away: Distances from the held-out images.
        pixel_scale: Width of a pixel, arcsec; NaN where unknown.
    """
    figure, (upper, lower) = panels_of(5.4, 5.2, ratios=(2.4, 1))
    known = np.isfinite(pixel_scale)
    of = sets["held-out"]
    wavenumbers = of.wavenumbers / (pixel_scale if known else 1.0)
    for name, style in _STYLES.items():
        label = _label(name, away["power_spectrum"])
        upper.plot(wavenumbers, sets[name].power, label=label, **style)
        lower.plot(wavenumbers, np.log10(sets[name].power / of.power), **style)
    upper.set(yscale="log", ylabel="power a pixel")
    upper.tick_params(labelbottom=False)
    upper.legend(
        title="rms distance from held-out, dex", loc="upper right", fontsize=8, title_fontsize=8,
        frameon=False,
    )  # fmt: skip
    lower.set_ylabel("dex over held-out")
    lower.set_xlabel(f"wavenumber (cycles per {'arcsec' if known else 'pixel'})")
    return figure


def distributions(sets: Mapping[str, Statistics], away: Distances, pixel_scale: float) -> Figure:
    """Draw how pixels, Einstein radii, fluxes and counts of peaks are distributed.

    Arguments:
        sets, away, pixel_scale: As in `power_spectra`.
    """
    figure, panels = panels_of(8.4, 6.4, columns=2, ratios=(1, 1))
    known = np.isfinite(pixel_scale)
    unit, width = ("arcsec", pixel_scale) if known else ("pixels", 1.0)
    shown = (
        ("pixels", "value of a pixel", "sd of held-out", lambda s: s.pixels),
        ("einstein_radius", f"ring radius ({unit})", unit, lambda s: s.einstein_radii * width),
        ("flux", "flux of an image", "sd of held-out", lambda s: s.fluxes),
        ("peaks", "peaks of an image above 5 sd of the sky", "peaks", lambda s: s.peaks),
    )
    for axes, (name, words, distance, values_of) in zip(panels, shown, strict=True):
        values = {label: np.asarray(values_of(s)) for label, s in sets.items()}
        _histograms(axes, values, away[name])
        axes.set(xlabel=words)
        axes.set_title(f"distance from held-out in {distance}", fontsize=8, loc="left")
        axes.legend(fontsize=8, frameon=False)
    panels[0].set(yscale="log", ylabel="share of the pixels")
    for axes in panels[1:]:
        axes.set_ylabel("share of the images")
    return figure


def _histograms(
    axes: Axes, values: Mapping[str, NDArray[Any]], away: Mapping[str, float | None]
) -> None:
    """Draw one histogram of every set, over the range of all of them."""
    known = {name: some[np.isfinite(some)] for name, some in values.items()}
    ends = [np.quantile(v, (_TAIL, 1 - _TAIL)) for v in known.values() if len(v)]
    low, high = (float(f(e[i] for e in ends)) for i, f in ((0, min), (1, max))) if ends else (0, 1)
    whole = all(np.issubdtype(v.dtype, np.integer) for v in known.values())
    bins = np.clip(2 * np.sqrt(len(values["held-out"])), _LEAST_BINS, _MOST_BINS)
    if whole:
        step = max(round((high - low) / bins), 1)
        edges = np.arange(math.floor(low) - 0.5, high + step + 0.5, step)
    else:
        edges = np.linspace(low, max(high, low + 1e-12), round(bins) + 1)
    for name, style in _STYLES.items():
        counts, _ = np.histogram(known[name], edges)
        shares = counts / max(len(values[name]), 1)
        axes.stairs(shares, edges, baseline=None, label=_label(name, away), **style)


def _label(name: str, away: Mapping[str, float | None]) -> str:
    """A set and how far it is from the held-out images."""
    distance = away.get({"training": "real"}.get(name, name))
    return plain(name if distance is None else f"{name}, {distance:.3g}")
