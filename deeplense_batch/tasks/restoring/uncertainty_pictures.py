"""Figures of a restoration by samples, from its saved outputs."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deeplense_batch.core.scoring.colours import stretched
from deeplense_batch.core.scoring.figures import BLUE, GREY, panels_of
from deeplense_batch.tasks.task import Arrays

__all__ = ["ranks", "sheet"]

_PANEL = 1.55  # inches
_DEVIATION = 4.0  # sd that a full colour is
_IMAGES = {
    "input": "input",
    "restored": "mean of the samples",
    "truth": "truth",
    "sample_1": "one sample",
    "sample_2": "another",
}


def sheet(outputs: Arrays) -> Figure:
    """Show some images in rows: input, mean, truth, two samples, sd, and (mean - truth) / sd.

    The last two are of the mean of the channels.

    Arguments:
        outputs: ``shown_<name>``, (n, C, h, w), of ``input``, ``restored``, ``truth``,
            ``sample_1``, ``sample_2`` and ``sd``; ``shown``, (n,), and ``coverage_68``, (N,), if
            known.
    """
    shown = {name: outputs[f"shown_{name}"] for name in (*_IMAGES, "sd")}
    away = (shown["restored"] - shown["truth"]).mean(1)
    sd = shown["sd"][:, 0]
    pulls = away / np.maximum(sd, np.finfo(np.float32).tiny)
    heads = [*_IMAGES.values(), "sd of the samples", "(mean - truth) / sd"]
    rows, columns = len(away), len(heads)
    figure, panels = panels_of(
        columns * _PANEL + 1.6, rows * _PANEL + 0.7, columns=columns, ratios=(1,) * rows
    )
    grid = np.reshape(np.array(panels, dtype=object), (rows, columns))
    for i, row in enumerate(grid):
        for axes, name in zip(row, _IMAGES, strict=False):
            picture = stretched(shown[name][i], [shown["truth"][i]])
            axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        wide = row[-2].imshow(
            sd[i], cmap="viridis", vmin=0, vmax=float(sd.max()), interpolation="nearest"
        )
        off = row[-1].imshow(
            pulls[i], cmap="RdBu_r", vmin=-_DEVIATION, vmax=_DEVIATION, interpolation="nearest"
        )
        if "coverage_68" in outputs:
            inside = float(outputs["coverage_68"][outputs["shown"][i]])
            row[0].set_ylabel(f"{inside:.0%} in the\n68 % interval", fontsize=6.5)
    for axes, head in zip(grid[0], heads, strict=True):
        axes.set_title(head, fontsize=7, pad=3)
    for axes in panels:
        axes.set(xticks=[], yticks=[])
        axes.grid(visible=False)
    for image, words in ((wide, "sd, units of the set"), (off, "(mean - truth) / sd")):
        bar = figure.colorbar(image, ax=panels, shrink=0.6, aspect=40, pad=0.01)
        bar.set_label(words, fontsize=7)
        bar.ax.tick_params(labelsize=6)
    return figure


def ranks(shares: NDArray[np.floating]) -> Figure:
    """Draw the shares of the pixels by how many samples their truth exceeds.

    Arguments:
        shares: Of each image, (N, S + 1).
    """
    figure, (axes,) = panels_of(5.2, 3.4)
    share = np.asarray(shares, np.float64)
    mean, count = share.mean(0), share.shape[1]
    error = 2 * share.std(0) / np.sqrt(len(share))
    axes.bar(np.arange(count), mean * count, 0.85, yerr=error * count, color=BLUE, alpha=0.8)
    axes.axhline(1, color=GREY, lw=0.8, ls=(0, (1, 2)), label="samples and truth alike")
    axes.set(xlabel=f"samples, of {count - 1}, below the truth", ylabel="pixels, over uniform")
    axes.set_title("U: too sure; hump: too unsure; slope: shifted", fontsize=8, loc="left")
    axes.set_ylim(0, 1.2 * max(axes.get_ylim()[1], 1))  # with room for the legend
    axes.legend(fontsize=8, frameon=False, loc="upper right")
    return figure
