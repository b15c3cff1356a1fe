"""Figures of a restoration, from its saved outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deeplense_batch.core.scoring.colours import stretched
from deeplense_batch.core.scoring.figures import BLUE, GREY, ORANGE, PALE, panels_of
from deeplense_batch.core.scoring.images.spectra import wavenumbers
from deeplense_batch.tasks.restoring.lens_physics import PEAK_SD, above_noise
from deeplense_batch.tasks.task import Arrays

__all__ = ["physics", "sheet", "spectrum"]

_STYLES: dict[str, dict[str, Any]] = {
    "restored": {"color": BLUE, "ls": "-", "lw": 1.6},
    "fitted": {"color": ORANGE, "ls": "--", "lw": 1.6},
}
_WORDS = {"restored": "restored", "fitted": "bicubic, fitted"}
_ABOVE: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "frameon": False}
_PANEL = 1.55  # inches
_RESIDUAL_SD = 5.0  # that a full colour is
_TAIL = 0.01  # share of the images beyond each end of a histogram
_BINS = 30

Images = NDArray[np.float32]


def sheet(shown: Arrays, noise_sd: float, names: Sequence[str]) -> Figure:
    """Show some images in rows: input, interpolated, restored, truth and what is left.

    Arguments:
        shown: ``input``, ``fitted``, ``restored``, ``truth`` and perhaps ``clean``, (n, C, h, w).
        noise_sd: Of the mean of the channels; 0 where there is none, then residuals are by the sd
            of those of the interpolated image.
        names: A line for each.
    """
    truth = shown.get("clean", shown["truth"])
    columns = {
        "input": shown["input"],
        "bicubic, fitted": shown["fitted"],
        "restored": shown["restored"],
        "truth": shown["truth"],
        **({"clean (no noise)": shown["clean"]} if "clean" in shown else {}),
    }
    residuals = {name: (shown[name] - truth).mean(1) for name in ("fitted", "restored")}
    unit = noise_sd or float(residuals["fitted"].std()) or 1.0
    of = "noise" if noise_sd else "the residuals of bicubic"
    width = (len(columns) + len(residuals)) * _PANEL
    figure, panels = panels_of(
        width + 0.8, len(names) * _PANEL + 0.7,
        columns=len(columns) + len(residuals), ratios=(1,) * len(names),
    )  # fmt: skip
    rows = np.reshape(np.array(panels, dtype=object), (len(names), -1))
    coloured = None
    for i, (name, row) in enumerate(zip(names, rows, strict=True)):
        for axes, images in zip(row, columns.values(), strict=False):
            picture = stretched(images[i], [shown["truth"][i]])
            axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        for axes, left in zip(row[len(columns) :], residuals.values(), strict=True):
            coloured = axes.imshow(
                left[i] / unit, cmap="RdBu_r", vmin=-_RESIDUAL_SD, vmax=_RESIDUAL_SD,
                interpolation="nearest",
            )  # fmt: skip
        row[0].set_ylabel(name, fontsize=6.5)
    against = "clean" if "clean" in shown else "truth"
    heads = [*columns, *(f"{_WORDS[name]} - {against}" for name in residuals)]
    for axes, head in zip(rows[0], heads, strict=True):
        axes.set_title(head, fontsize=7, pad=3)
    for axes in panels:
        axes.set(xticks=[], yticks=[])
        axes.grid(visible=False)
    assert coloured is not None
    bar = figure.colorbar(coloured, ax=panels, shrink=0.6, aspect=40, pad=0.01)
    bar.set_label(f"residual, sd of {of}", fontsize=7)
    bar.ax.tick_params(labelsize=6)
    return figure


def spectrum(
    outputs: Arrays, size: tuple[int, int], ratio: int, pixel_scale: float, noise_sd: float
) -> Figure:
    """Draw the power of restored and interpolated images over that of the truth.

    Arguments:
        outputs: With ``power_<of>`` (`lens_physics.measure`).
        size: Height and width of the images.
        ratio: Pixels of an image along one of its input.
        pixel_scale: Width of a pixel, arcsec; NaN where unknown.
        noise_sd: Of the mean of the channels: where the truth has less power, the ratio says
            nothing, and is shaded.
    """
    figure, (axes,) = panels_of(5.2, 3.8)
    known = np.isfinite(pixel_scale)
    unit = pixel_scale if known else 1.0
    k = wavenumbers(*size) / unit
    truth = np.asarray(outputs["power_truth"], np.float64).mean(0)
    for name, style in _STYLES.items():
        power = np.asarray(outputs[f"power_{name}"], np.float64).mean(0)
        axes.plot(k, power / truth, label=_WORDS[name], **style)
    axes.axhline(1, color=GREY, lw=0.8, ls=(0, (1, 2)), label="as the truth")
    if ratio > 1:
        reach = 0.5 / ratio / unit
        axes.axvline(reach, color=GREY, lw=0.8, label="finest that pixels of the input show")
    if not (seen := above_noise(truth, noise_sd)).all():
        label = "truth below the noise"
        axes.fill_between(
            k, 0, 1, where=~seen, step="mid", color=PALE, transform=axes.get_xaxis_transform(),
            zorder=0, label=label,
        )  # fmt: skip
    axes.set(yscale="log", ylim=(0.1, 10))
    axes.set_ylabel("power over that of the truth")
    axes.set_xlabel(f"wavenumber (cycles per {'arcsec' if known else 'pixel'})")
    axes.legend(fontsize=8, **_ABOVE)
    return figure


def physics(outputs: Arrays, pixel_scale: float) -> Figure:
    """Draw how gains, ring radii, fluxes and peaks are distributed over the images.

    Arguments:
        outputs: As `lens_physics.measure` and `quality` name them.
        pixel_scale: Width of a pixel, arcsec; NaN where unknown.
    """
    figure, (gain, ring, flux, peaks) = panels_of(8.4, 6.2, columns=2, ratios=(1, 1))
    gains = np.asarray(outputs["psnr"]) - outputs["psnr_fitted"]
    _histograms(gain, {"restored": gains}, "PSNR over that of bicubic, fitted (dB)")
    gain.axvline(0, color=GREY, lw=0.8)
    known = np.isfinite(pixel_scale)
    width, unit = (pixel_scale, "arcsec") if known else (1.0, "pixels")
    rings = {n: (outputs[f"ring_{n}"] - outputs["ring_truth"]) * width for n in _STYLES}
    _histograms(ring, rings, f"ring radius less the true one ({unit})")
    with np.errstate(divide="ignore", invalid="ignore"):
        fluxes = {n: 100 * (outputs[f"flux_{n}"] / outputs["flux_truth"] - 1) for n in _STYLES}
    _histograms(flux, fluxes, "flux less the true one (%)")
    _counts(peaks, outputs)
    return figure


def _histograms(axes: Axes, values: dict[str, NDArray], words: str) -> None:
    known = {name: some[np.isfinite(some)] for name, some in values.items()}
    ends = [np.quantile(some, (_TAIL, 1 - _TAIL)) for some in known.values() if len(some)]
    low, high = (min(e[0] for e in ends), max(e[1] for e in ends)) if ends else (0.0, 1.0)
    edges = np.linspace(low, max(high, low + 1e-12), _BINS + 1)
    for name, some in known.items():
        counts, _ = np.histogram(some.clip(low, high), edges)
        share = counts / max(len(some), 1)
        middle = f", median {np.median(some):.3g}" if len(some) else ", none known"
        axes.stairs(share, edges, baseline=None, label=_WORDS[name] + middle, **_STYLES[name])
    axes.set(xlabel=words, ylabel="share of the images")
    axes.legend(fontsize=8, **_ABOVE)


def _counts(axes: Axes, outputs: Arrays) -> None:
    """Mean number of peaks invented and lost, with twice its error."""
    kinds = [kind for kind in ("invented", "lost") if f"{kind}_restored" in outputs]
    for i, (name, style) in enumerate(_STYLES.items()):
        counts = [np.asarray(outputs[f"{kind}_{name}"], np.float64) for kind in kinds]
        means = [some.mean() for some in counts]
        errors = [2 * some.std() / np.sqrt(len(some)) for some in counts]
        places = np.arange(len(kinds)) + 0.4 * (i - 0.5)
        label = _WORDS[name]
        axes.bar(places, means, 0.38, yerr=errors, color=style["color"], label=label, alpha=0.8)
    axes.set_xticks(range(len(kinds)), kinds)
    axes.set(ylabel=f"peaks an image above {PEAK_SD:g} sd")
    axes.set_ylim(0, max(axes.get_ylim()[1], 0.01))
    if kinds:
        axes.legend(fontsize=8, **_ABOVE)
    else:
        axes.set_title("no noise above which peaks could be counted", fontsize=8)
